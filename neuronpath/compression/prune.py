"""A really smaller model: the least important neurons and heads leave, and the rest is an ordinary nn.Module.

    small = nph.prune(model, nph.importance(paths), keep=0.5)

A removed neuron takes its row of ``fc1`` (both rows of a gate), its place in an inner norm and its column of ``fc2`` with it; a head
its rows of ``qkv`` and its columns of ``proj``. The residual stream keeps its width. :func:`mask` makes the same
choice inside a ``with``, and gives the same logits.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from ..checks import InputError, InputTypeError, check_count, checked
from ..data.given import Images
from ..features.activations import mean_activations
from ..models.adapters import merged
from ..models.hooks import alone, eager
from ..models.view import inner_of, view
from ..models.vit import ViT
from ..options import Scope, Units
from ..units import KINDS, Place
from .cut import Cuts, check_cut, part_of


def select(
    importance: Sequence[Tensor], keep: float, *, scope: Scope = "block", round_to: int = 8, min_keep: int = 8
) -> list[Tensor]:
    """The units of one kind that stay: a block their indices, ascending, int64. Of equals the first stay.

    Args:
        importance: a block (M,), as :func:`~neuronpath.importance` gives them.
        keep: the share that stays, in (0, 1].
        scope: "block" keeps this share of every block; "global" of all units together, the most important wherever they are.
        round_to: blocks keep a multiple of this, rounded up, or all of their neurons; "global" chooses by groups of so many.
        min_keep: the fewest that a block keeps.
    """
    if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep <= 1:
        raise InputError(f"keep is {keep!r}; expected a share above 0 and at most 1")
    check_count("round_to", round_to)
    check_count("min_keep", min_keep)
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


@checked
def prune(
    model: nn.Module | ViT,
    importance: Sequence[Tensor],
    keep: float,
    *,
    units: Units | None = None,
    scope: Scope = "block",
    round_to: int = 8,
    min_keep: int = 8,
    compensate: bool = False,
    images: Images | None = None,
) -> nn.Module:
    """A copy of the model with narrower MLPs, fewer heads, or both; the model itself is left as it was.

    LoRA of peft is merged into the copy's weights.

    Args:
        model: a vision transformer of a known family, pruned before or not.
        importance: a site (U,), as :func:`~neuronpath.importance` gives them for the same ``units``.
        keep: the share of units that stays, in (0, 1]; of heads and of neurons each.
        units: what is taken out: "neurons" (None), "heads" of timm's ``Attention``, or "both".
        scope: "block" keeps this share of every block, "global" of all neurons together (and of all heads), wherever they are.
        round_to: neurons of a block: a multiple of this stays, rounded up, or all. Heads are kept one by one, rounded up.
        min_keep: the fewest neurons that a block keeps; of heads it keeps one.
        compensate: add what the removed units gave on average, over ``images`` and every token, to the bias of ``fc2`` or ``proj``.
        images: calibration images (B, C, H, W), or a Dataset, DataLoader or Source of them, for that.

    Raises:
        InputTypeError: for an MLP, or attention, that can't be cut.
        InputError: for importances that don't fit the model, or anything else that can't be used, in one line.

    Examples:
        >>> import neuronpath as nph
        >>> model, _, _ = nph.demo.load()
        >>> small = nph.prune(model, nph.importance(model, by="magnitude"), keep=0.25)
        >>> nph.view(small).widths
        [64, 64, 64, 64, 64, 64, 64, 64]
        >>> both = nph.importance(model, by="magnitude", units="both")
        >>> nph.view(nph.prune(model, both, keep=0.5, units="both"), units="heads").widths
        [2, 2, 2, 2, 2, 2, 2, 2]
    """
    vit = view(model, None, units)
    with alone(vit.model):
        plan = _plan(vit, importance, keep, scope, round_to, min_keep, compensate, images)
        pruned = merged(vit.model)
        copied = view(inner_of(pruned), None, units)
        cuts = Cuts()
        for site, kept, mean in plan:
            old, new = part_of(vit, site), part_of(copied, site)
            new.cut(kept, mean, cuts)
            check_cut(vit, site, old, new, kept, mean)
    return pruned


@checked
@contextmanager
def mask(
    model: nn.Module | ViT,
    importance: Sequence[Tensor],
    keep: float,
    *,
    units: Units | None = None,
    scope: Scope = "block",
    round_to: int = 8,
    min_keep: int = 8,
    compensate: bool = False,
    images: Images | None = None,
) -> Iterator[None]:
    """The model with the units that :func:`prune` would remove at 0 on every token, inside a ``with``; same arguments.

    With ``compensate`` they are at their mean. A norm over the neurons sees only those that stay, as it does once they are removed.
    The logits are those of the pruned model, but for rounding.
    """
    vit = view(model, None, units)
    plan = _plan(vit, importance, keep, scope, round_to, min_keep, compensate, images)
    with ExitStack() as stack:
        stack.enter_context(eager())
        for site, kept, mean in plan:
            stack.enter_context(part_of(vit, site).masked(kept, mean))
        yield


def _plan(
    vit: ViT,
    importance: Sequence[Tensor],
    keep: float,
    scope: Scope,
    round_to: int,
    min_keep: int,
    compensate: bool,
    images: Images | None,
) -> list[tuple[int, Tensor, Tensor | None]]:
    """For every layer that is cut, once: a site of it, the units that stay there, and what the others leave in the bias.

    Layers that share a weight keep the same units, those that are worth most to them all.
    """
    _check_fits(vit.places, importance, type(vit.model).__name__)
    groups = [*vit.tied, *([s] for s in range(len(vit.sites)) if not any(s in group for group in vit.tied))]
    kept: dict[int, Tensor] = {}
    for kind in KINDS["both"]:
        here = [group for group in groups if vit.places[group[0]].kind == kind]
        rounding = (round_to, min_keep) if kind == "neuron" else (1, 1)
        worth = [_worth([importance[s] for s in group]) for group in here]
        chosen = select(worth, keep, scope=scope, round_to=rounding[0], min_keep=rounding[1])
        kept |= dict(zip((group[0] for group in here), chosen, strict=True))
    if not any(values.any() for values in importance):
        raise InputError("the importance of every unit is 0; expected numbers that tell one from another")
    means = _means(vit, compensate, images)
    plan = []
    for group in groups:
        layers: dict[nn.Module, list[int]] = {}  # a layer that several sites read (a loop) is cut once
        for s in group:
            layers.setdefault(vit.sites[s].reader, []).append(s)
        for sites in layers.values():
            mean = None if means is None else torch.stack([means[s] for s in sites]).mean(0)
            plan.append((sites[0], kept[group[0]], mean))
    return plan


def _worth(values: Sequence[Tensor]) -> Tensor:
    """What units are worth that stay or go together."""
    return values[0] if len(values) == 1 else torch.stack([each.detach().double().cpu() for each in values]).mean(0)


def _check_fits(places: Sequence[Place], importance: Sequence[Tensor], name: str) -> None:
    if odd := [values for values in importance if not values.ndim]:
        raise InputTypeError(f"importance holds {odd[0].item()}; expected a tensor (U,) for every site")
    lengths = [len(values) for values in importance]
    if len(lengths) != len(places):
        what = "blocks" if len({place.kind for place in places}) == 1 else "sites (each block's heads and neurons)"
        raise InputError(f"importance has {len(lengths)} {what}, {name} has {len(places)}; expected as many")
    for place, n in zip(places, lengths, strict=True):
        if n != place.width:
            raise InputError(
                f"importance has {n} {place.kind}s in block {place.block}, {name} has {place.width}; expected as many"
            )


def _means(vit: ViT, compensate: bool, images: Images | None) -> list[Tensor] | None:
    if not compensate:
        return None
    if images is None:
        raise InputError(
            "compensate needs calibration images to average over, and images is None; expected (B, C, H, W)"
        )
    return mean_activations(vit, images, token="all")
