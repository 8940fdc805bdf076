"""A vision transformer as this library sees it: embed -> blocks -> readout, where its neurons are, which tokens it pools.

A view holds the user's own model and calls the user's own modules; nothing is copied, converted or patched. A model family is
one function with ``@register_vit`` that says how a block divides into its attention half and its MLP half; those of timm,
torchvision and transformers are in ``families/``.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ..checks import InputError, InputTypeError
from .hooks import input_replaced

Hidden = Tensor | Callable[[Tensor], Tensor] | None
TOKENS = ("auto", "cls", "patch", "all")


@dataclass(frozen=True)
class Halves:
    """How a block divides into attention and MLP. Both functions get the block first."""

    attend: Callable[..., Tensor]
    """Its input to the residual stream after attention; also gets what else the model calls the block with (a mask)."""
    mlp: Callable[..., Tensor]
    """The residual stream after attention to the block's output, on any of the tokens."""


@dataclass(frozen=True)
class Extra:
    """What a model calls a block with beside its input, as the model itself passes it."""

    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ViT:
    """A view on a vision transformer; make one with :func:`view`.

    A neuron (l, i) is hidden unit i of block l's MLP, read where it enters the down-projection ``fc2``: after the activation, the
    gate and the inner norm. It is read on the tokens that the head pools, or on those that :func:`view` was asked for.
    """

    model: nn.Module
    """The user's own model."""
    blocks: Sequence[nn.Module]
    """Its L blocks."""
    halves: Sequence[Halves]
    """How each of them divides."""
    neurons: Sequence[nn.Linear]
    """One down-projection a block; its input is the block's neurons."""
    readout: Callable[[Tensor], Tensor]
    """The last block's output (B, N, D) to the model's output."""
    pools: str
    """The tokens that the head reads: "cls", "patch" or "all"."""
    num_prefix_tokens: int = 1
    """The tokens before the patches."""
    num_cls_tokens: int = 1
    """The first of them: class and distillation token; the others are registers."""
    pools_registers: bool = False
    """Whether the head reads the registers too; neurons are read on them only then."""
    has_head: bool = True
    """Whether the output is logits; without, only an output of the user's own says what to explain."""
    token: str = "auto"
    """The tokens that the neurons are read on: "cls", "patch" or "all"."""

    @property
    def widths(self) -> list[int]:
        """The number of neurons of every block."""
        return [fc2.in_features for fc2 in self.neurons]

    @cached_property
    def fingerprint(self) -> str:
        """A name for the model's architecture, made of the names and shapes of its weights."""
        weights = {
            name.replace("_orig_mod.", ""): value for name, value in self.model.state_dict().items()
        }  # compiled blocks
        shapes = ";".join(f"{name}{tuple(value.shape)}" for name, value in sorted(weights.items()))
        return hashlib.sha256(shapes.encode()).hexdigest()[:16]

    def rest(self, token: str) -> tuple[int, float]:
        """The range of the tokens that ``token`` leaves out; it is one range, whatever the choice."""
        return {
            "cls": (self.num_cls_tokens, float("inf")),
            "patch": (0, self.num_prefix_tokens),
            "all": (0, 0) if self.pools_registers else (self.num_cls_tokens, self.num_prefix_tokens),
        }[token]

    @property
    def head_reads_others(self) -> bool:
        """Whether the head reads tokens on which no neuron is read."""
        (start, stop), (idle_start, idle_stop) = self.rest(self.token), self.rest(self.pools)
        return start < stop and not (idle_start <= start and stop <= idle_stop)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of (B, N, ...) the tokens on which neurons are read, and all the others."""
        start, stop = self.rest(self.token)
        if stop == float("inf"):
            return x[:, :start], x[:, start:]
        stop = int(stop)
        chosen = x[:, stop:] if start == 0 else torch.cat([x[:, :start], x[:, stop:]], 1)
        return chosen, x[:, start:stop]

    def join(self, chosen: Tensor, others: Tensor) -> Tensor:
        """The inverse of :meth:`split`."""
        start = self.rest(self.token)[0]
        return torch.cat([chosen[:, :start], others, chosen[:, start:]], 1)

    def attend(self, block: int, x: Tensor, extra: Extra) -> Tensor:
        """A block's input (B, N, D) to the residual stream after its attention, of the same shape."""
        return self.halves[block].attend(self.blocks[block], x, *extra.args, **extra.kwargs)

    def mlp(self, block: int, x: Tensor, hidden: Hidden = None) -> Tensor:
        """The residual stream after attention to the block's output, on any set of tokens (B, T, D).

        ``hidden``, where given, takes the place of the neurons' values: a tensor (B, T, M), or a function of them.
        """
        if hidden is None:
            return self.halves[block].mlp(self.blocks[block], x)
        replaced = hidden if callable(hidden) else lambda _: hidden
        with input_replaced(self.neurons[block], replaced):
            return self.halves[block].mlp(self.blocks[block], x)

    def block(self, block: int, x: Tensor, extra: Extra, hidden: Hidden = None) -> Tensor:
        """One block, live or with its neurons replaced by ``hidden`` on their tokens.

        In the last block tokens that nothing reads any more stop after attention.
        """
        stop = block == len(self.blocks) - 1 and not self.head_reads_others
        middle = self.attend(block, x, extra)
        if hidden is None and not stop:
            return self.mlp(block, middle)
        chosen, others = self.split(middle)
        return self.join(self.mlp(block, chosen, hidden), others if stop else self.mlp(block, others))


_FAMILIES: dict[type[nn.Module], Callable[[Any], ViT]] = {}
_LIBRARIES = ("timm", "torchvision", "transformers")  # each has its file in families/, read when a model of it comes


def register_vit(*families: type[nn.Module]) -> Callable:
    """Decorate a function that makes a :class:`ViT` of a model of these classes (or of a class derived from one)."""

    def register(make: Callable[[Any], ViT]) -> Callable[[Any], ViT]:
        _FAMILIES.update(dict.fromkeys(families, make))
        return make

    return register


def view(model: nn.Module, token: str = "auto") -> ViT:
    """The view on a model of a known family, its neurons read on the tokens named.

    Args:
        model: a ViT of timm, torchvision or transformers, or of a class given to :func:`register_vit`.
        token: "cls", "patch" or "all" (registers only where the head pools them); "auto" is what the head pools.

    Raises:
        InputTypeError: for a model that can't be viewed, with the reason.
        InputError: for tokens that the head doesn't read: in the last block their neurons change nothing.
    """
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"model is a {type(model).__name__}; expected a vision transformer (torch.nn.Module)")
    if token not in TOKENS:
        raise InputError(f"token {token!r} is unknown; expected one of {', '.join(map(repr, TOKENS))}")
    model = unwrapped(model)
    vit = _family_of(model)(model)
    chosen = vit.pools if token == "auto" else token
    if chosen == "cls" and not vit.num_cls_tokens:
        raise InputError(f"token is 'cls', but {type(model).__name__} has no class token; expected 'auto' or 'patch'")
    if chosen != vit.pools and "all" not in (chosen, vit.pools):
        raise InputError(
            f"token is {chosen!r}, but {type(model).__name__}'s head reads {_WORDS[vit.pools]}: in the last block the gradient "
            f"on {_WORDS[chosen]} is exactly 0; expected 'auto', {vit.pools!r} or 'all'"
        )
    return replace(vit, token=chosen)


_WORDS = {"cls": "the class token", "patch": "the patch tokens", "all": "all tokens"}


def _family_of(model: nn.Module) -> Callable[[Any], ViT]:
    origins = {cls.__module__.split(".")[0] for cls in type(model).__mro__}
    for library in _LIBRARIES:
        if library in origins:
            import_module(f".families.{library}", __package__)
    for cls in type(model).__mro__:
        if cls in _FAMILIES:
            return _FAMILIES[cls]
    raise InputTypeError(
        f"{type(model).__name__} is no vision transformer that neuronpath knows: {_why_unknown(model)}; expected a plain ViT of "
        f"{', '.join(_LIBRARIES)}, or a class given to register_vit"
    )


def _why_unknown(model: nn.Module) -> str:
    """What was looked for in a model of no known family, and what was found instead."""
    if hasattr(model, "blocks_token_only") or hasattr(model, "cls_attn_blocks"):
        return (
            "its class token joins late, in blocks of class attention, so earlier blocks have none to read neurons on"
        )
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList | nn.Sequential) and len(m) > 1]
    alike = [
        m
        for m in lists
        if len({type(block) for block in m}) == 1 and any(hasattr(m[0], n) for n in ("attn", "attention"))
    ]
    if len(alike) > 1:
        return f"its blocks stand in {len(alike)} stages, where one flat list of blocks was looked for"
    if alike:
        return f"its {len(alike[0])} blocks of class {type(alike[0][0]).__name__} are of no family that has been registered"
    convolutions = sum(isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d) for m in model.modules())
    kind = f"it is a convolutional network ({convolutions} convolutions)" if convolutions > 2 else "it has none"
    return f"a list of blocks with attention was looked for, and {kind}"


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside ``torch.compile``, ``DataParallel`` or ``DistributedDataParallel``."""
    while True:
        if isinstance(model, OptimizedModule):
            model = model._orig_mod
        elif isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        else:
            return model


def down_projection(mlp: nn.Module, model: nn.Module) -> nn.Linear:
    """The last linear layer of an MLP, whose input is its neurons."""
    linears = [module for module in mlp.modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise InputTypeError(
            f"{type(model).__name__} has an MLP of class {type(mlp).__name__} without a linear layer; expected a down-projection"
        )
    return linears[-1]


def flat(blocks: Any, model: nn.Module) -> list[Any]:
    """The blocks as a list, not empty, each out of its ``torch.compile``."""
    found = [unwrapped(block) for block in blocks]
    if not found:
        raise InputTypeError(f"{type(model).__name__} has no blocks; expected at least one")
    return found


def check_model(model: nn.Module) -> None:
    """Refuse weights that hold NaN or infinity, naming the first."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(f"the model's {name} holds NaN or infinity; expected finite weights")
