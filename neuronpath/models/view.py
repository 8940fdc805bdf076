"""The view on a model: which family it is of, and what is viewed.

A view holds the user's own model and calls the user's own modules; nothing is copied, converted or patched. A model family is
one function with ``@register_vit`` that says how a block divides into its attention half and its MLP half and where its units are;
those of timm, torchvision and transformers are in ``families/``.
"""

import itertools
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import Any
from weakref import WeakSet

import torch
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ..checks import InputError, InputTypeError, checked
from ..options import Token, Units
from ..units import KINDS, units_named
from .adapters import inside, is_adapter, is_linear, layers_of, name_of
from .around import output_around, own_head
from .families import LIBRARIES
from .vit import ViT

MOST_LINEARS = 3  # of an MLP: of more the last needn't be the down-projection


class NoHeads(InputTypeError):  # noqa: N818
    """The model's family gives no attention heads."""


_FAMILIES: dict[type[nn.Module], Callable[[Any], ViT]] = {}


@checked
def register_vit(*families: type[nn.Module]) -> Callable:
    """Decorate a function that makes a :class:`ViT` of a model of these classes (or of a class derived from one)."""

    def register(make: Callable[[Any], ViT]) -> Callable[[Any], ViT]:
        _FAMILIES.update(dict.fromkeys(families, make))
        return make

    return register


@checked
def view(model: nn.Module | ViT, token: Token | None = None, units: Units | None = None) -> ViT:
    """The view on a model of a known family, its units read on the tokens named. A view given back is itself.

    Args:
        model: a ViT of timm, torchvision or transformers, of a class given to :func:`register_vit`, or a view on one. Any other
            module may hold one such ViT, and no more: its units are that one's, its output is its own. A warning names the ViT, once.
        token: "cls", "patch", "all" (every token, registers too) or "pooled": those that the model's head reads; "auto" and None are
            "pooled", or a given view's own.
        units: "neurons", "heads" or "both"; None is "neurons", or a given view's own.

    Raises:
        InputTypeError: for a model that can't be viewed, that holds several ViTs, or whose heads can't be reached, with the reason.
        InputError: for tokens that the head doesn't read: in the last block their units change nothing.
    """
    if isinstance(model, ViT):
        own = units_named(model.places)
        if token in (None, model.token) and units in (None, own):
            return model
        return view(model.model, token or model.token, units or own)
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"model is a {type(model).__name__}; expected a vision transformer (torch.nn.Module)")
    token, units = token or "auto", units or "neurons"
    whole = unwrapped(model)
    model = inside(whole)
    where, vit = _found_in(model)
    name = type(vit.model).__name__
    vit = replace(vit, inner=vit.model)
    if where:
        _tell(model, where, vit.model)
        vit = replace(vit, has_head=has_head(model, vit), around=output_around(whole, vit.blocks))
    if token == "cls" and not vit.num_cls_tokens:
        raise InputError(f"token is 'cls', but {name} has no class token; expected 'auto' or 'patch'")
    if {token, vit.pools} == {"cls", "patch"}:
        raise InputError(
            f"token is {token!r}, but {name}'s head reads {_WORDS[vit.pools]}: in the last block the gradient "
            f"on {_WORDS[token]} is exactly 0; expected 'auto', {vit.pools!r} or 'all'"
        )
    sites = sorted(
        (s for s in vit.sites if s.kind in KINDS[units]), key=lambda s: (s.block, KINDS["both"].index(s.kind))
    )
    if units != "neurons" and not any(site.kind == "head" for site in sites):
        raise NoHeads(f"the attention heads of {name} can't be reached: {vit.no_heads}; expected units='neurons'")
    lacking = set(itertools.product(range(len(vit.blocks)), KINDS[units])) - {(s.block, s.kind) for s in sites}
    if lacking:
        block, kind = min(lacking)
        raise InputTypeError(
            f"the view on {name} names no {kind}s in block {block}; expected a site of {kind}s in every block"
        )
    vit = replace(vit, model=whole, sites=sites)
    return replace(vit, token=_plainest(vit, token))


def _plainest(vit: ViT, token: Token) -> Token:
    """Of the words for the same tokens the one that says most: "pooled" only where no other does."""
    if token not in ("auto", "pooled"):
        return token
    if vit.pools != "all":
        return vit.pools
    return "all" if vit.pools_registers or vit.num_cls_tokens == vit.num_prefix_tokens else "pooled"


_WORDS = {"cls": "the class token", "patch": "the patch tokens", "all": "all tokens"}


def _found_in(model: nn.Module) -> tuple[str, ViT]:
    """The only vision transformer that a model is or holds: what it is called there ("" is the model itself), and its family's view."""
    try:
        return "", _family_of(model)(model)
    except InputTypeError as error:
        reason = error
    found: dict[str, ViT] = {}
    for name, part in model.named_modules():
        if name and not any(name.startswith(f"{outer}.") for outer in found) and (make := _maker(part)):
            with suppress(InputTypeError):
                found[name] = make(part)
    if len(found) > 1:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise InputTypeError(
            f"{type(model).__name__} holds {len(found)} vision transformers: {', '.join(list(found)[:5])}{more}; expected one: pass "
            f"the one that is meant, such as model.get_submodule({next(iter(found))!r})"
        )
    if not found:
        raise reason
    return next(iter(found.items()))


def inner_of(model: nn.Module) -> nn.Module:
    """The vision transformer that a model is or holds; what is none, or holds several, is itself."""
    model = inside(unwrapped(model))
    try:
        return _found_in(model)[1].model
    except InputTypeError:
        return model


def has_head(whole: nn.Module, vit: ViT) -> bool:
    """Whether a model that holds a vision transformer has a classifier: its own, or that of what it holds."""
    return vit.has_head or own_head(whole, vit.model) is not None


_TOLD: WeakSet[nn.Module] = WeakSet()


def _tell(model: nn.Module, where: str, inner: nn.Module) -> None:
    """Say once of a model what was found in it."""
    if model not in _TOLD:
        _TOLD.add(model)
        warnings.warn(
            f"{type(model).__name__} is no vision transformer itself: units are those of its {where!r} ({type(inner).__name__}), "
            "outputs are the whole model's",
            stacklevel=4,
        )


def _maker(model: nn.Module) -> Callable[[Any], ViT] | None:
    """What makes the view of a model, by its class."""
    origins = {cls.__module__.split(".")[0] for cls in type(model).__mro__}
    for library in LIBRARIES:
        if library in origins:
            import_module(f"{__package__}.families.{library}")
    return next((_FAMILIES[cls] for cls in type(model).__mro__ if cls in _FAMILIES), None)


def _family_of(model: nn.Module) -> Callable[[Any], ViT]:
    if make := _maker(model):
        return make
    raise InputTypeError(
        f"{type(model).__name__} is no vision transformer that neuronpath knows: {_why_unknown(model)}; expected a plain ViT of "
        f"{', '.join(LIBRARIES)}, or a class given to register_vit"
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
    """The last linear layer of an MLP, whose input is its neurons; one with a low-rank adapter beside it is one layer.

    Raises InputTypeError where another adapter may stand between the neurons and the layer.
    """
    layers = layers_of(mlp)
    name = f"{type(model).__name__} has an MLP of class {type(mlp).__name__}"
    for layer in layers:
        if is_adapter(layer) and not is_linear(layer):
            raise InputTypeError(f"{name} with {name_of(layer)}; expected no adapter, or LoRA or DoRA of peft")
    linears = [layer for layer in layers if is_linear(layer)]
    if not linears:
        raise InputTypeError(f"{name} without a linear layer; expected a down-projection")
    last = linears[-1]
    around = next(layer for layer in layers if any(child is last for child in layer.children()))
    beside = [layer for layer in linears if layer in layers_of(around)]
    own = next(around.parameters(recurse=False), None)
    if len(linears) > MOST_LINEARS or (around is not mlp and (len(beside) > 1 or own is not None)):
        raise InputTypeError(
            f"{name} whose last linear layer may have an adapter of its own kind beside it, in {type(around).__name__}; expected "
            "at most an up-projection, a gate and the down-projection, or LoRA or DoRA of peft"
        )
    return last


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
