"""How faithful a ranking of units is: what the first k keep alone, and what removing them takes, over k."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import InputError, InputTypeError, checked, fits, shown
from ..data.given import Images, Target, as_images
from ..methods.grow import log_odds
from ..models.hooks import at_rest
from ..models.view import view
from ..models.vit import ViT
from ..options import Baseline, Token, Units
from ..paths.circuit import Circuit
from ..paths.faithfulness import Faithfulness
from ..paths.made_for import view_for
from ..paths.neuron_paths import NeuronPaths
from ..runs.baselines import ablation, baseline_named, own_number
from ..runs.clean import CleanRun, clean_runs
from ..runs.gates import Ablated, gated_answer
from ..units import Unit, place_of

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of all units: MIB's


@checked
def faithfulness(
    model: nn.Module | ViT,
    images: Images,
    ranking: Sequence[Tensor] | NeuronPaths | Circuit | Callable[..., Sequence[Tensor]],
    target: Target = None,
    *,
    k: Sequence[int] | None = None,
    units: Units | None = None,
    token: Token | None = None,
    baseline: Baseline | None = None,
    reference: Images | None = None,
    internal_batch_size: int | None = None,
    seed: int | None = None,
) -> Faithfulness:
    """The keep- and remove-curves of a ranking of units.

    Args:
        model: a vision transformer with a head, of a known family; it is left exactly as it was.
        images: (B, C, H, W), or a Dataset, DataLoader or Source of them, transformed as the model wants it.
        ranking: which units come first, as one of

            - a tensor a site, (U,) for all images or (B, U) for each its own; more is more important, as
              :func:`~neuronpath.importance` and :func:`~neuronpath.rank_units` give it for the same ``units``. Of equals the first
              comes first.
            - NeuronPaths, one an image: the path's units by their attribution, the largest first.
            - Circuit, one an image: its units in their order.
            - a function of (model, images, target) that gives a list of tensors (B, U), a site each. It is called once, with the
              view on the model that says which units and tokens are asked about, all the images, and ``target`` as given here.

            A path or a circuit ranks its own units only. All others come behind them at random, drawn by ``seed`` and the image's
            pixels, so that they help none: beyond the path's own number of units a curve says what random units add.
        target: the class: None for the predicted one (that which a path or circuit explains), an int, or one an image (B,).
        k: the numbers of units to look at; none and all are looked at besides. None is 1 and MIB's shares of all, from 0.1 % on.
        units: "both" (None), "heads" or "neurons"; units of the kind that isn't named stay as they are. Of a path or circuit None is
            its own.
        token: the tokens on which units are ablated (see :func:`~neuronpath.view`); None is all; of a path or circuit its own.
        baseline: "zero", "mean", "resample" or "paired" (see :func:`~neuronpath.find_path`); None is "mean" where there is a
            reference, else "zero"; of a path or circuit its own.
        reference: the images (R, C, H, W) for that, or a Dataset, DataLoader or Source of them.
        internal_batch_size: rows run at once.
        seed: of "resample", and of the order of units that aren't ranked. None is 0; of a path or circuit its own.

    The cost is two forwards an image for every k.

    Raises:
        InputError: in one line, for a ranking that doesn't fit the model or the images, or anything else that can't be used.

    Source: CPR and CMD after Mueller et al., "MIB: A Mechanistic Interpretability Benchmark" (ICML 2025, arXiv 2504.13151), over units
    in place of edges; ``log_cpr``, ``k90`` and ``k_flip`` are ours.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load()
        >>> curves = nph.faithfulness(model, images[:4], nph.rank_units)
        >>> curves.k.tolist()
        [0, 1, 2, 4, 10, 21, 42, 104, 208, 416, 1040, 2080]
        >>> paths = nph.find_path(model, images[:4], method="live")
        >>> nph.faithfulness(model, images[:4], paths).k_flip.tolist()  # 2,081, of 2,080 units: no removal changes image 0's
        [2081, 4, 1040, 4]
    """
    images = as_images(images, model)
    reference = as_images(reference, model, "reference")
    chosen = ranking if isinstance(ranking, NeuronPaths | Circuit) else None
    if chosen is not None:
        model = view_for(chosen, model)
        if len(chosen) != len(images):
            raise InputError(
                f"ranking holds {len(chosen)} paths or circuits for {len(images)} images; expected as many"
            )
        if target is None and bool((chosen.target >= 0).all()):
            target = chosen.target
        if baseline is None and chosen.settings.baseline != "zero":
            baseline = chosen.settings.baseline
    if seed is None:
        seed = 0 if chosen is None else chosen.settings.seed
    own = isinstance(model, ViT)
    vit = view(model, token or (None if own else "all"), units or (None if own else "both"))
    if not vit.has_head:
        raise InputTypeError(f"{type(vit.model).__name__} has no classes, so no decision; expected a model with a head")
    numbers = _numbers(k, sum(vit.widths))
    ablate = ablation(vit, baseline_named(baseline, reference), reference, len(images), seed)
    if chosen is not None:
        ranking = _ranked(chosen, images, vit, seed)
    elif callable(ranking) and not isinstance(ranking, type | nn.Module):
        ranking = ranking(vit, images, target)
    ranking = _checked(ranking, len(images), vit)
    parts = []
    with at_rest(vit.model):
        first = 0
        for run in clean_runs(vit, images, target, "prob", internal_batch_size):
            order = _order(ranking, slice(first, first + len(run.rows))).to(run.rows.device)
            parts.append(_curves(run, order, numbers, ablate(run, first)))
            first += len(run.rows)
    return Faithfulness(numbers, *(torch.cat(curves).cpu() for curves in zip(*parts, strict=True)))


def _numbers(k: Sequence[int] | None, total: int) -> Tensor:
    """The numbers of units to look at, from none to all."""
    asked = [max(1, round(share * total)) for share in SHARES] + [1] if k is None else [int(number) for number in k]
    if wrong := [number for number in asked if not 0 <= number <= total]:
        raise InputError(f"k holds {wrong[0]}; expected numbers of units from 0 to {total}")
    return torch.tensor(sorted({0, total, *asked}))


def _ranked(chosen: NeuronPaths | Circuit, images: Tensor, vit: ViT, seed: int) -> list[Tensor]:
    """A ranking, a site (B, U), with the units of paths or circuits first, and all others at random behind them."""
    found = [torch.empty(len(images), width) for width in vit.widths]
    for i, image in enumerate(images):
        draw = torch.Generator().manual_seed(own_number(image, seed))
        for site in found:
            site[i] = torch.rand(site.shape[1], generator=draw)  # below 1
        for behind, unit in enumerate(reversed(_in_order(chosen, i))):
            found[place_of(unit, vit.places)][i, unit.index] = 1 + behind
    return found


def _in_order(chosen: NeuronPaths | Circuit, index: int) -> Sequence[Unit]:
    """An image's units, the most important first."""
    if isinstance(chosen, Circuit):
        return chosen.units[index]
    best = chosen.attribution[index].flatten().argsort(descending=True, stable=True)
    units = chosen.units_of(index)
    return [units[i] for i in best.tolist()]


def _checked(ranking: Any, n_images: int, vit: ViT) -> Sequence[Tensor]:
    """The ranking, a site (U,) or (B, U), if it fits."""
    if not fits(ranking, Sequence[Tensor]):
        raise InputTypeError(f"ranking is {shown(ranking)}; expected a tensor a site")
    shapes = [tuple(values.shape) for values in ranking]
    expected = [((width,), (n_images, width)) for width in vit.widths]
    if len(shapes) != len(expected) or any(s not in e for s, e in zip(shapes, expected, strict=True)):
        raise InputError(
            f"ranking has {shapes}; expected {vit.widths} numbers a site, for all images or ({n_images}, ...) for each"
        )
    if any(values.isnan().any() for values in ranking):
        raise InputError("ranking holds NaN; expected numbers")
    return ranking


def _order(ranking: Sequence[Tensor], rows: slice) -> Tensor:
    """The units of these images, the most important first, (b, N); (1, N) where it is the same for all."""
    here = [values[None] if values.ndim == 1 else values[rows] for values in ranking]
    most = max(map(len, here))
    flat = torch.cat([values.expand(most, -1) for values in here], 1)
    return flat.sort(dim=1, descending=True, stable=True).indices


def _curves(run: CleanRun, order: Tensor, numbers: Tensor, ablated: Ablated) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of a run's images (b, n): the log-odds alone and without, the probability alone, whether the decision stands without."""
    assert run.target is not None
    shape = (len(run.rows), len(numbers))
    alone, without, probability = (torch.zeros(shape, device=order.device) for _ in range(3))
    decided = torch.zeros(shape, dtype=torch.bool, device=order.device)
    place = order.argsort(1).expand(len(run.rows), -1)  # of every unit in the ranking
    said = run.answer.argmax(1)

    def work(piece: slice) -> None:
        assert run.target is not None
        rows, target = run.rows[piece], run.target[piece]
        for at, number in enumerate(numbers.tolist()):
            on = (place[piece] < number).to(run.middle.dtype)
            kept = gated_answer(run, rows, on.split(run.vit.widths, 1), ablated).float()
            left = gated_answer(run, rows, (1 - on).split(run.vit.widths, 1), ablated).float()
            alone[piece, at], without[piece, at] = log_odds(kept, target), log_odds(left, target)
            probability[piece, at] = kept.softmax(1).gather(1, target[:, None])[:, 0]
            decided[piece, at] = left.argmax(1) == said[piece]

    run.pieces.each(len(run.rows), work)
    return alone, without, probability, decided
