"""The parts of an MLP that hold its neurons, and how to take neurons out of them, for good or inside a ``with``."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..checks import InputTypeError
from ..models.hooks import at_rest, eager, input_replaced
from ..models.vit import ViT


@dataclass(frozen=True)
class Mlp:
    """The parts of an MLP that hold its M neurons."""

    module: nn.Module
    ups: Sequence[nn.Linear]  # of M rows each, or of 2 M where gate and value are packed in one
    norm: nn.Module | None  # over the neurons, before ``down``
    down: nn.Linear


def mlp_of(vit: ViT, block: int) -> Mlp:
    """The parts of a block's MLP; raises InputTypeError for one that can't be cut, with the reason."""
    down, width = vit.neurons[block], vit.widths[block]
    module = next(m for m in vit.blocks[block].modules() if any(child is down for child in m.children()))
    name = f"block {block} of {type(vit.model).__name__}"
    if module is vit.blocks[block]:
        raise InputTypeError(
            f"{name} has its down-projection in no module of its own; expected an MLP such as timm's Mlp"
        )
    inside = [m for m in module.modules() if m is not module and m is not down]
    ups = [m for m in inside if isinstance(m, nn.Linear)]
    odd = [m for m in [*ups, down] if type(m) is not nn.Linear]
    if odd or not ups:
        found = type(odd[0]).__name__ if odd else "no up-projection"
        raise InputTypeError(f"{name} has an MLP with {found}; expected plain torch.nn.Linear layers")
    wrong = [m for m in ups if m.out_features not in (width, 2 * width)]
    behind = inside[inside.index(ups[-1]) + 1 :]  # what comes before the up-projection normalises the residual stream
    norms = [m for m in behind if next(m.parameters(recurse=False), None) is not None]
    if wrong or len(norms) > 1 or any(p.shape != (width,) for norm in norms for p in norm.parameters()):
        odd_one = (wrong or norms)[0]
        raise InputTypeError(
            f"{name} has an MLP with {odd_one} for {width} neurons; that can't be cut neuron by neuron"
        )
    return Mlp(module, ups, norms[0] if norms else None, down)


def cut(mlp: Mlp, kept: Tensor, mean: Tensor | None = None) -> None:
    """Take all neurons but ``kept`` out of an MLP, in place; ``mean`` (M,) is what those removed leave in the bias."""
    down, width = mlp.down, mlp.down.in_features
    kept = kept.to(down.weight.device)
    if mean is not None and len(kept) < width:
        gone = torch.ones(width, dtype=torch.bool, device=kept.device)
        gone[kept] = False
        left = (down.weight.detach().double()[:, gone] @ mean.to(kept.device).double()[gone]).to(down.weight.dtype)
        bias = left if down.bias is None else down.bias.detach() + left
        down.bias = nn.Parameter(bias, requires_grad=down.weight.requires_grad)
    for up in mlp.ups:
        rows = kept if up.out_features == width else torch.cat([kept, kept + width])
        _index(up, rows)
        up.out_features = len(rows)
    if mlp.norm is not None:
        _cut_norm(mlp.norm, kept)
    down.weight = nn.Parameter(down.weight.detach()[:, kept].clone(), requires_grad=down.weight.requires_grad)
    down.in_features = len(kept)
    for name in ("intermediate_size", "hidden_features"):  # what some MLPs note down beside their layers
        if getattr(mlp.module, name, None) == width:
            setattr(mlp.module, name, len(kept))


def _cut_norm(norm: nn.Module, kept: Tensor) -> None:
    _index(norm, kept)
    if hasattr(norm, "normalized_shape"):
        norm.normalized_shape = (len(kept),)  # type: ignore[assignment]


def _index(module: nn.Module, rows: Tensor) -> None:
    for name, values in list(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(values.detach()[rows].clone(), requires_grad=values.requires_grad))


@contextmanager
def masked(mlp: Mlp, kept: Tensor, mean: Tensor | None = None) -> Iterator[None]:
    """All neurons but ``kept`` at 0, or at their ``mean`` (M,), on every token."""
    like = mlp.down.weight
    kept = kept.to(like.device)
    gone = torch.ones(mlp.down.in_features, dtype=torch.bool, device=like.device)
    gone[kept] = False
    fill = torch.zeros_like(like[0]) if mean is None else mean.to(like)
    with ExitStack() as stack:
        if mlp.norm is not None:
            small = copy.deepcopy(mlp.norm)
            _cut_norm(small, kept)

            def of_the_kept(_norm: nn.Module, args: tuple, output: Tensor) -> Tensor:
                return output.index_copy(-1, kept, small(args[0][..., kept]).to(output))

            stack.callback(mlp.norm.register_forward_hook(of_the_kept).remove)
        stack.enter_context(input_replaced(mlp.down, lambda values: torch.where(gone, fill.to(values), values)))
        yield


def check_cut(vit: ViT, block: int, old: Mlp, new: Mlp, kept: Tensor, mean: Tensor | None) -> None:
    """Refuse an MLP that computes anything else once it is cut: it isn't built as its parts suggest."""
    like = old.down.weight
    width = old.ups[0].in_features
    tokens = torch.randn(1, 8, width, generator=torch.Generator().manual_seed(block)).to(like)
    try:
        with at_rest(old.module), at_rest(new.module), eager():
            found = new.module(tokens)
            with masked(old, kept, mean):
                expected = old.module(tokens)
        tolerance = torch.finfo(like.dtype).eps ** 0.5 * expected.abs().max()
        same, reason = bool((found - expected).abs().max() <= tolerance), ""
    except (RuntimeError, TypeError) as error:
        same, reason = False, f": {str(error).splitlines()[0]}"
    if not same:
        raise InputTypeError(
            f"block {block} of {type(vit.model).__name__} has an MLP ({type(old.module).__name__}) that computes something else "
            f"without a neuron than with it at 0{reason}; it can't be pruned"
        )
