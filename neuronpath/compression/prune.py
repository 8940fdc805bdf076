"""A really smaller model: the least important neurons leave every block's MLP, and the rest is an ordinary nn.Module.

    small = nph.prune(model, nph.importance(paths), keep=0.5)

A removed neuron takes its row of ``fc1`` (both rows of a gate), its place in an inner norm and its column of ``fc2`` with it; the
residual stream keeps its width. :func:`mask` makes the same choice inside a ``with``, and gives the same logits.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from ..checks import InputError, InputTypeError
from ..evaluation.interventions import mean_activations
from ..models.hooks import eager
from ..models.vit import ViT, unwrapped, view
from .mlps import check_cut, cut, masked, mlp_of

SCOPES = ("block", "global")


def select(
    importance: Sequence[Tensor], keep: float, *, scope: str = "block", round_to: int = 8, min_keep: int = 8
) -> list[Tensor]:
    """The neurons that stay: a block their indices, ascending, int64. Of equals the first stay.

    Args:
        importance: a block (M,), as :func:`~neuronpath.importance` gives them.
        keep: the share that stays, in (0, 1].
        scope: "block" keeps this share of every block; "global" of all neurons together, the most important wherever they are.
        round_to: blocks keep a multiple of this, rounded up, or all of their neurons; "global" chooses by groups of so many.
        min_keep: the fewest that a block keeps.
    """
    if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep <= 1:
        raise InputError(f"keep is {keep!r}; expected a share above 0 and at most 1")
    if scope not in SCOPES:
        raise InputError(f"scope {scope!r} is unknown; expected one of {', '.join(map(repr, SCOPES))}")
    for name, value in (("round_to", round_to), ("min_keep", min_keep)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is {value!r}; expected a whole number of at least 1")
    for block, values in enumerate(importance):
        if not isinstance(values, Tensor) or values.ndim != 1 or not len(values):
            raise InputTypeError(f"the importance of block {block} is no tensor (M,); expected one number a neuron")
        if values.isnan().any():
            raise InputError(f"the importance of block {block} holds NaN; expected numbers")
    order = [values.detach().cpu().sort(descending=True, stable=True) for values in importance]

    def groups(neurons: float) -> int:
        return math.ceil(neurons / round_to - 1e-9)

    least = [groups(min(min_keep, len(values))) for values in importance]
    if scope == "block":
        counts = [max(few, groups(keep * len(values))) for few, values in zip(least, importance, strict=True)]
    else:
        worth = [[part.double().mean().item() for part in values.split(round_to)] for values, _ in order]
        ranked = sorted(
            ((-value, block) for block, few in enumerate(least) for value in worth[block][few:]),
        )
        left = groups(keep * sum(map(len, importance))) - sum(least)
        counts = list(least)
        for _, block in ranked[: max(0, left)]:
            counts[block] += 1
    return [index[: count * round_to].sort().values for (_, index), count in zip(order, counts, strict=True)]


def prune(
    model: nn.Module,
    importance: Sequence[Tensor],
    keep: float,
    *,
    scope: str = "block",
    round_to: int = 8,
    min_keep: int = 8,
    compensate: bool = False,
    images: Tensor | None = None,
) -> nn.Module:
    """A copy of the model with narrower MLPs; the model itself is left as it was.

    Args:
        model: a vision transformer of a known family, pruned before or not.
        importance: a block (M,), as :func:`~neuronpath.importance` gives them.
        keep: the share of neurons that stays, in (0, 1].
        scope: "block" keeps this share of every block, "global" of all neurons together, wherever they are.
        round_to: blocks keep a multiple of this, rounded up, or all of their neurons.
        min_keep: the fewest that a block keeps.
        compensate: add what the removed neurons gave on average, over ``images`` and every token, to the bias of ``fc2``.
        images: calibration images (B, C, H, W) for that.

    Raises:
        InputTypeError: for an MLP that can't be cut.
        InputError: for importances that don't fit the model, or anything else that can't be used, in one line.

    Examples:
        >>> import neuronpath as nph
        >>> model, _, _ = nph.demo.load()
        >>> small = nph.prune(model, nph.importance(model, by="magnitude"), keep=0.25)
        >>> nph.view(small).widths
        [64, 64, 64, 64, 64, 64, 64, 64]
    """
    vit = view(model)
    kept = _selected(vit, importance, keep, scope, round_to, min_keep)
    means = _means(vit, compensate, images)
    pruned = copy.deepcopy(unwrapped(model))
    copied = view(pruned)
    for block, index in enumerate(kept):
        old, new = mlp_of(vit, block), mlp_of(copied, block)
        mean = None if means is None else means[block]
        cut(new, index, mean)
        check_cut(vit, block, old, new, index, mean)
    return pruned


@contextmanager
def mask(
    model: nn.Module,
    importance: Sequence[Tensor],
    keep: float,
    *,
    scope: str = "block",
    round_to: int = 8,
    min_keep: int = 8,
    compensate: bool = False,
    images: Tensor | None = None,
) -> Iterator[None]:
    """The model with the neurons that :func:`prune` would remove at 0 on every token, inside a ``with``; same arguments.

    With ``compensate`` they are at their mean. A norm over the neurons sees only those that stay, as it does once they are removed.
    The logits are those of the pruned model, but for rounding.
    """
    vit = view(model)
    kept = _selected(vit, importance, keep, scope, round_to, min_keep)
    means = _means(vit, compensate, images)
    with ExitStack() as stack:
        stack.enter_context(eager())
        for block, index in enumerate(kept):
            stack.enter_context(masked(mlp_of(vit, block), index, None if means is None else means[block]))
        yield


def _selected(
    vit: ViT, importance: Sequence[Tensor], keep: float, scope: str, round_to: int, min_keep: int
) -> list[Tensor]:
    kept = select(importance, keep, scope=scope, round_to=round_to, min_keep=min_keep)
    lengths = [len(values) for values in importance]
    if lengths != vit.widths:
        name = type(vit.model).__name__
        if len(lengths) != len(vit.widths):
            raise InputError(f"importance has {len(lengths)} blocks, {name} has {len(vit.widths)}; expected as many")
        block = next(b for b, (n, width) in enumerate(zip(lengths, vit.widths, strict=True)) if n != width)
        raise InputError(
            f"importance has {lengths[block]} neurons in block {block}, {name} has {vit.widths[block]}; expected as many"
        )
    owner: dict[nn.Module, int] = {}
    for block, down in enumerate(vit.neurons):
        if owner.setdefault(down, block) != block:
            raise InputTypeError(f"blocks {owner[down]} and {block} share one MLP; expected one a block")
    return kept


def _means(vit: ViT, compensate: bool, images: Tensor | None) -> list[Tensor] | None:
    if not compensate:
        return None
    if images is None:
        raise InputError(
            "compensate needs calibration images to average over, and images is None; expected (B, C, H, W)"
        )
    return mean_activations(vit.model, images, token="every")
