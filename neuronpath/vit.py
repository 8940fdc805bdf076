"""A vision transformer as this library sees it: embed -> blocks -> readout, where its neurons are, which tokens it pools.

A view holds the user's own model and calls the user's own modules; nothing is copied, converted or patched. A model family is
one function with ``@register_vit`` that says how a block divides into its attention half and its MLP half.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.models import vision_transformer as timm_vit
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DataParallel, DistributedDataParallel

from .errors import InputError, InputTypeError
from .hooks import input_replaced

Hidden = Tensor | Callable[[Tensor], Tensor] | None


@dataclass(frozen=True)
class Halves:
    """How a block divides: ``attend`` takes its input to the residual stream after attention, ``mlp`` takes that to its output."""

    attend: Callable[..., Tensor]
    mlp: Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class ViT:
    """A view on a vision transformer; make one with :func:`view`.

    A neuron (l, i) is hidden unit i of block l's MLP, read where it enters the down-projection ``fc2``: after the activation, the
    gate and the inner norm. It is read on the tokens that the head pools.
    """

    model: nn.Module
    blocks: Sequence[nn.Module]
    halves: Sequence[Halves]
    neurons: Sequence[nn.Linear]  # one down-projection a block; its input is the block's neurons
    readout: Callable[[Tensor], Tensor]  # the last block's output (B, N, D) -> the model's output
    token: str  # "cls" or "patch": which tokens the neurons are read on
    num_prefix_tokens: int
    n_tokens: Callable[[tuple[int, int]], int]  # the length N of the sequence for images (height, width)

    @property
    def widths(self) -> list[int]:
        """The number of neurons of every block."""
        return [fc2.in_features for fc2 in self.neurons]

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The pooled tokens of (B, N, ...) and all the others."""
        if self.token == "cls":
            return x[:, :1], x[:, 1:]
        return x[:, self.num_prefix_tokens :], x[:, : self.num_prefix_tokens]

    def join(self, pooled: Tensor, others: Tensor) -> Tensor:
        """The inverse of :meth:`split`."""
        return torch.cat([pooled, others] if self.token == "cls" else [others, pooled], 1)

    def attend(self, block: int, x: Tensor) -> Tensor:
        """A block's input (B, N, D) to the residual stream after its attention, of the same shape."""
        return self.halves[block].attend(self.blocks[block], x)

    def mlp(self, block: int, x: Tensor, hidden: Hidden = None) -> Tensor:
        """The residual stream after attention to the block's output, on any set of tokens (B, T, D).

        ``hidden``, where given, takes the place of the neurons' values: a tensor (B, T, M), or a function of them.
        """
        if hidden is None:
            return self.halves[block].mlp(self.blocks[block], x)
        replace = hidden if callable(hidden) else lambda _: hidden
        with input_replaced(self.neurons[block], replace):
            return self.halves[block].mlp(self.blocks[block], x)

    def block(self, block: int, x: Tensor, hidden: Hidden = None) -> Tensor:
        """One block, live or with its neurons replaced by ``hidden`` on the pooled tokens.

        In the last block the other tokens, which nothing reads any more, stop after attention.
        """
        last = block == len(self.blocks) - 1
        middle = self.attend(block, x)
        if hidden is None and not last:
            return self.mlp(block, middle)
        pooled, others = self.split(middle)
        return self.join(self.mlp(block, pooled, hidden), others if last else self.mlp(block, others))


_FAMILIES: dict[type[nn.Module], Callable[[Any], ViT]] = {}


def register_vit(family: type[nn.Module]) -> Callable:
    """Decorate a function that makes a :class:`ViT` of a model of this class (or of a class derived from it)."""

    def register(make: Callable[[Any], ViT]) -> Callable[[Any], ViT]:
        _FAMILIES[family] = make
        return make

    return register


def view(model: nn.Module) -> ViT:
    """The view on a model of a known family; raises :class:`InputTypeError` for any other."""
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"model is a {type(model).__name__}; expected a vision transformer (torch.nn.Module)")
    model = unwrapped(model)
    for family in type(model).__mro__:
        if family in _FAMILIES:
            return _FAMILIES[family](model)
    known = ", ".join(family.__name__ for family in _FAMILIES)
    raise InputTypeError(
        f"{type(model).__name__} is no vision transformer that neuronpath knows; expected one of: {known}"
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside ``torch.compile``, ``DataParallel`` or ``DistributedDataParallel``."""
    while True:
        if isinstance(model, OptimizedModule):
            model = model._orig_mod
        elif isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        else:
            return model


_TIMM_BLOCKS: dict[type[nn.Module], Halves] = {
    timm_vit.Block: Halves(
        attend=lambda block, x: x + block.drop_path1(block.ls1(block.attn(block.norm1(x)))),
        mlp=lambda block, x: x + block.drop_path2(block.ls2(block.mlp(block.norm2(x)))),
    ),
    timm_vit.ResPostBlock: Halves(
        attend=lambda block, x: x + block.drop_path1(block.norm1(block.attn(x))),
        mlp=lambda block, x: x + block.drop_path2(block.norm2(block.mlp(x))),
    ),
}


@register_vit(timm_vit.VisionTransformer)
def _timm(model: Any) -> ViT:
    name = type(model).__name__
    if model.global_pool not in ("token", "avg"):
        raise InputTypeError(f"{name} pools with global_pool={model.global_pool!r}; expected 'token' or 'avg'")
    if model.num_classes == 0:
        raise InputTypeError(f"{name} has no classes (num_classes=0); expected a model with a classification head")
    if not len(model.blocks):
        raise InputTypeError(f"{name} has no blocks; expected at least one")
    blocks: list[Any] = [unwrapped(block) for block in model.blocks]
    for block in blocks:
        if type(block) not in _TIMM_BLOCKS:
            raise InputTypeError(
                f"{name} is built of {type(block).__name__}, which has no attention half followed by an MLP half; "
                f"expected {' or '.join(kind.__name__ for kind in _TIMM_BLOCKS)}"
            )
    if model.global_pool == "avg" and model.pool_include_prefix:
        raise InputTypeError(f"{name} pools its prefix tokens with the patches; expected pool_include_prefix=False")
    return ViT(
        model=model,
        blocks=blocks,
        halves=[_TIMM_BLOCKS[type(block)] for block in blocks],
        neurons=[block.mlp.fc2 for block in blocks],
        readout=lambda x: model.forward_head(model.norm(x)),
        token="cls" if model.global_pool == "token" else "patch",
        num_prefix_tokens=model.num_prefix_tokens,
        n_tokens=lambda size: math.prod(model.patch_embed.dynamic_feat_size(size)) + model.num_prefix_tokens,
    )


def check_model(model: nn.Module) -> None:
    """Refuse weights that hold NaN or infinity, naming the first."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(f"the model's {name} holds NaN or infinity; expected finite weights")
