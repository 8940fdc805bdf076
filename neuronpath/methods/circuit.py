""":func:`find_circuit`: for each image the fewest units found that keep its decision alone, or break it when they go, with controls."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..checks import InputError, InputTypeError, check_number, checked
from ..data.given import Images, Target, as_images, check_images, own_names
from ..models.class_names import class_namer, numbered
from ..models.hooks import at_rest
from ..models.view import view
from ..models.vit import ViT
from ..options import Baseline, CriterionName, Token, Units
from ..paths.circuit import Circuit
from ..paths.neuron_paths import check_names, versions
from ..paths.settings import Settings
from ..runs.baselines import Ablation, ablation, baseline_named, own_number
from ..runs.clean import CleanRun, clean_runs
from ..runs.gates import Ablated
from ..runs.progress import bar_over
from ..units import Unit
from .find import architecture, namer_for
from .grow import Criterion, Grower, decided, random_like


@checked
def find_circuit(
    model: nn.Module | ViT,
    images: Images,
    target: Target = None,
    *,
    criterion: CriterionName = "keep",
    keep: float = 0.9,
    units: Units | None = None,
    token: Token | None = None,
    baseline: Baseline | None = None,
    reference: Images | None = None,
    controls: bool = True,
    internal_batch_size: int | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    class_names: Sequence[str] | Mapping[int, str] | None = None,
    progress: bool | tqdm = False,
) -> Circuit:
    """For each image the fewest units found that decide: that keep the decision alone, or break it when they go.

    Args:
        model: a vision transformer with a head, of a known family; it is left exactly as it was.
        images: (B, C, H, W), or a Dataset, DataLoader or Source of them, transformed as the model wants it.
        target: the class that is kept or broken: None for the predicted one, an int, or one an image (B,).
        criterion: "keep": the circuit alone, all other units ablated, leaves ``keep`` of the target's probability and the decision;
            "break": without the circuit the decision is another; "both".
        keep: that share, in (0, 1].
        units: "both" (None), "heads" or "neurons". Units of the kind that isn't named stay as they are.
        token: the tokens on which units are ablated (see :func:`~neuronpath.view`); None is all.
        baseline: what units are ablated to: "zero", "mean", "resample" or "paired" (see :func:`~neuronpath.find_path`); None is
            "mean" where there is a reference, else "zero". With "mean" the first half of the references is searched with, and the
            circuit checked with the other.
        reference: the images (R, C, H, W) for that, or a Dataset, DataLoader or Source of them.
        controls: also draw a random circuit of as many heads and neurons for each image, and (of "keep") search for the circuit that
            has the model say the runner-up.
        internal_batch_size: rows run at once; None fits them to the memory.
        seed: of the random circuits and of "resample".
        names: B names for the images; None numbers them.
        class_names: a name for each class, or {class: name} for some (see :func:`~neuronpath.find_path`).
        progress: True shows a bar; a tqdm bar of your own is moved on by one an image.

    Raises:
        InputError: (a ValueError) in one line, for anything that can't be used.

    Source: growth, bisection and pruning are ours; faithfulness of circuits after Mueller et al., "MIB: A Mechanistic
    Interpretability Benchmark" (ICML 2025, arXiv 2504.13151).
    """
    check_number("keep", keep, 0, 1)
    images = as_images(images, model)
    reference = as_images(reference, model, "reference")
    names = own_names(images) if names is None else names
    check_names(names, len(images))
    vit, ablate, settings = prepared(model, units, token, baseline, reference, len(images), seed)
    class_namer(vit.model, class_names)  # refuses names before the work, where it can
    target = numbered(target, vit.model, class_names)
    rule = Criterion(criterion, float(keep))
    parts: list[dict[str, Tensor | list]] = []
    called: dict[int, str] = {}
    with at_rest(vit.model), bar_over(progress, len(images)) as bar:
        first = 0
        for run in clean_runs(vit, images, target, "prob", internal_batch_size):
            parts.append(_circuits(run, rule, [each(run, first) for each in ablate], controls, seed, first))
            name_of = namer_for(run, class_names)
            called |= {c: name for c in parts[-1]["target"].tolist() if (name := name_of(c)) is not None}  # type: ignore[union-attr]
            first += len(run.rows)
            bar.update(len(run.rows))
    merged = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0] if name != "units"}  # type: ignore[misc]
    return Circuit(
        units=tuple(unit for part in parts for unit in part["units"]),
        names=tuple(map(str, names)),
        criterion=criterion,
        keep=float(keep),
        settings=settings,
        class_names=dict(sorted(called.items())),
        **merged,
    )


def prepared(
    model: nn.Module | ViT,
    units: Units | None,
    token: Token | None,
    baseline: Baseline | None,
    reference: Tensor | None,
    n_images: int,
    seed: int,
) -> tuple[ViT, list[Ablation], Settings]:
    """What a search for circuits wants: the view, what units are ablated to (and, of "mean", what that is for the check), settings."""
    own = isinstance(model, ViT)
    vit = view(model, token or (None if own else "all"), units or (None if own else "both"))
    if not vit.has_head:
        raise InputTypeError(f"{type(vit.model).__name__} has no classes, so no decision; expected a model with a head")
    baseline = baseline_named(baseline, reference)
    if reference is not None:
        check_images(reference, "reference")
    halves = [reference]
    if baseline == "mean" and reference is not None and len(reference) > 3:
        halves = [reference[: (len(reference) + 1) // 2], reference[(len(reference) + 1) // 2 :]]
    settings = Settings(
        method="circuit", token=vit.token, baseline=baseline, influence="live", seed=seed, model=architecture(vit.inner or vit.model),
        sites=tuple(vit.places), passes=tuple(vit.passes), fingerprint=vit.fingerprint, versions=versions(),
    )  # fmt: skip
    return vit, [ablation(vit, baseline, half, n_images, seed) for half in halves], settings


def _circuits(
    run: CleanRun, rule: Criterion, ablated: Sequence[Ablated], controls: bool, seed: int, first: int
) -> dict[str, Tensor | list]:
    """The circuits of a run's images, and what is reported of them; ``first`` is the number of its first image."""
    assert run.target is not None
    rows, clean = run.rows, run.answer.float().softmax(1)
    probability = clean.gather(1, run.target[:, None])[:, 0]
    if rule.breaks and (wrong := run.rows[run.answer.argmax(1) != run.target]).numel():
        raise InputError(
            f"the target of image {first + int(wrong[0])} isn't what the model says; expected the prediction with criterion "
            f"{rule.kind!r}"
        )
    search = Grower(run, run.target, probability, rule, ablated[0])
    mask, found, last = search.grow()
    slopes = search.prune(mask, found)
    slopes = torch.where(found[:, None], slopes, last)
    kept, decision_kept = decided(run, run.target, mask, ablated[0])
    left, still = decided(run, run.target, ~mask, ablated[0])
    nothing = torch.full_like(probability, torch.nan)
    result: dict[str, Tensor | list] = {
        "found": found, "probability": probability, "kept": kept, "left": left, "decision_kept": decision_kept,
        "decision_flipped": ~still, "target": run.target, "cost": search.cost.float(), "random_kept": nothing,
        "random_left": nothing, "rechecked": nothing, "wrong_class_size": torch.full_like(run.target, -1),
    }  # fmt: skip
    result["units"] = [in_order(run.vit, mask[i], slopes[i]) for i in range(len(rows))]
    if len(ablated) > 1:
        result["rechecked"] = decided(run, run.target, mask, ablated[1])[0]
    if controls:
        drawn = random_masks(run, mask, seed)
        result["random_kept"] = decided(run, run.target, drawn, ablated[0])[0]
        result["random_left"] = decided(run, run.target, ~drawn, ablated[0])[0]
        if rule.kind == "keep":
            runner_up = clean.scatter(1, run.target[:, None], -1).argmax(1)
            wrong_search = Grower(run, runner_up, probability, rule, ablated[0])
            others, there, _ = wrong_search.grow()
            wrong_search.prune(others, there)
            result["wrong_class_size"] = torch.where(there, others.sum(1), -1)
    return result


def random_masks(run: CleanRun, mask: Tensor, seed: int) -> Tensor:
    """Random circuits (B, N) of as many heads and neurons as each of ``mask``, an image's drawn by its own pixels."""
    own = [own_number(image) for image in run.pixels]
    return random_like(mask, run.vit.widths, [place.kind for place in run.vit.places], seed, own)


def in_order(vit: ViT, mask: Tensor, slopes: Tensor) -> tuple[Unit, ...]:
    """The units of a circuit (N,), the largest slope first."""
    places = [(place.block, place.kind, i) for place in vit.places for i in range(place.width)]
    inside = mask.nonzero()[:, 0]
    order = inside[slopes[inside].argsort(descending=True, stable=True)].tolist()
    return tuple(Unit(block, index, kind) for block, kind, index in (places[i] for i in order))
