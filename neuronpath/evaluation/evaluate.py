"""What paths are worth, method by method: scores, and what really happens when they are removed and enhanced, with controls.

Figures are of the target's probability, live, on the tokens that units are read on. What an intervention does is a change: after less
before, so that a loss has a minus. Intervals are 95 % bootstrap intervals over images (percentiles); differences between methods are
taken image by image.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..checks import InputError, check_count, checked
from ..data.given import Classes, Images, Target, as_images
from ..models.outputs import check_range, logits_of, output_of
from ..models.view import view
from ..models.vit import ViT
from ..options import Baseline, Units
from ..paths.intervals import RESAMPLES, intervals
from ..paths.made_for import view_for
from ..paths.neuron_paths import NeuronPaths, versions
from ..runs.baselines import ablated_by, baseline_named
from ..runs.gates import Ablated
from ..runs.joint_influence import joint_influence
from ..units import as_index
from .interventions import Path, scaled, units_chosen

PROBABILITY, OF_IT, DECISIONS, IMAGES = (
    "probability",
    "share of the probability",
    "share of decisions",
    "share of images",
)
FIGURES = {
    "score": "score", "attribution": PROBABILITY, "probability_removed": PROBABILITY, "probability_removed_relative": OF_IT,
    "flips": DECISIONS, "probability_enhanced": PROBABILITY, "probability_enhanced_relative": OF_IT,
    "accuracy_removed": IMAGES, "accuracy_enhanced": IMAGES,
}  # fmt: skip
"""What is measured, and its unit."""
SCALES = {
    PROBABILITY: (100, " [pp]"),
    OF_IT: (100, " [%]"),
    DECISIONS: (100, " [%]"),
    IMAGES: (100, " [pp]"),
}  # as text
WIDTH = 120  # characters of a table as text


@checked
def effects(
    model: nn.Module | ViT,
    images: Images,
    labels: Target,
    paths: Mapping[str, Path],
    target: Target = None,
    *,
    units: Units | None = None,
    baseline: Baseline | None = None,
    reference: Images | None = None,
    factor: float = 2.0,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
) -> pd.DataFrame:
    """One row for every method and image.

    Columns: method, image, label, predicted, right, target, probability; score and attribution (of the whole path), computed
    alike for all methods, in frozen runs; probability_removed, the probability's change when the path's units are ablated to the
    ``baseline`` (a loss has a minus); flips, whether the decision changes then (0 or 1); probability_enhanced, its change when what the
    units differ by from the baseline is multiplied by ``factor``; both also relative to the probability; accuracy_removed and
    accuracy_enhanced, the change of being right (-1, 0 or 1; NaN without labels).

    Raises InputError for paths of another model or other images, for labels out of range, and for differing targets.
    """
    vit = view(model, None, units)
    images = as_images(images, model)
    reference = as_images(reference, model, "reference")
    check_count("seed", seed, 0)
    if not paths:
        raise InputError("there are no paths to evaluate; expected at least one, by name")
    truth = Classes(images, labels, vit.model).all()
    clean = logits_of(vit.model, images, batch_size)
    if truth is not None:
        check_range(truth, clean.shape[-1])
    predicted = clean.argmax(-1)
    checked = {name: _checked(name, given, images, vit) for name, given in paths.items()}
    targets = {name: given.target for name, given in checked.items() if isinstance(given, NeuronPaths)}
    wanted = Classes(images, target, vit.model).all()
    explained = next(iter(targets.values()), predicted) if wanted is None else wanted
    baseline = baseline_named(baseline, reference)
    check_range(explained, clean.shape[-1])
    for name, other in targets.items():
        if not torch.equal(other, explained):
            raise InputError(
                f"the paths of {name!r} explain other classes than those of {next(iter(targets))!r}; expected the same"
            )
    before = output_of(clean, explained, "prob")
    frames = []
    for name, given in tqdm(checked.items(), unit="method", disable=not progress):
        if isinstance(given, NeuronPaths):
            influence = joint_influence(view_for(given, vit), images, given.units, explained)
        else:
            influence = joint_influence(vit, images, given, explained)
        own = view_for(given, vit) if isinstance(given, NeuronPaths) else vit
        ablated = ablated_by(own, baseline, reference, len(images), seed)
        after = {
            change: _edited_logits(own, images, explained, given, by, ablated, batch_size)
            for change, by in (("removed", 0.0), ("enhanced", factor))
        }
        removed, enhanced = (output_of(logits, explained, "prob") for logits in after.values())
        frame = pd.DataFrame(
            {
                "method": name,
                "image": np.arange(len(images)),
                "label": -1 if truth is None else truth.numpy(),
                "predicted": predicted.numpy(),
                "right": None if truth is None else (predicted == truth).numpy(),
                "target": explained.numpy(),
                "probability": before.numpy(),
                "score": influence.score.numpy(),
                "attribution": influence.attribution.sum((1, 2)).numpy(),
                "probability_removed": (removed - before).numpy(),
                "probability_removed_relative": ((removed - before) / before).numpy(),
                "flips": (after["removed"].argmax(-1) != predicted).float().numpy(),
                "probability_enhanced": (enhanced - before).numpy(),
                "probability_enhanced_relative": ((enhanced - before) / before).numpy(),
                **{
                    f"accuracy_{change}": np.nan if truth is None else _gained_right(clean, logits, truth)
                    for change, logits in after.items()
                },
            }
        )
        frames.append(frame)
    table = pd.concat(frames, ignore_index=True)
    table.attrs["settings"] = {
        "paths": {
            n: given.settings.to_dict() if isinstance(given, NeuronPaths) else None for n, given in checked.items()
        },
        "baseline": baseline,
        "factor": factor,
        "images": len(images),
        "versions": versions(),
    }
    return table


@checked
def evaluate(
    model: nn.Module | ViT,
    images: Images,
    labels: Target,
    paths: Mapping[str, Path],
    target: Target = None,
    *,
    units: Units | None = None,
    baseline: Baseline | None = None,
    reference: Images | None = None,
    factor: float = 2.0,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
) -> pd.DataFrame:
    """A table of what each method's paths are worth: one row for every method, set of images and figure.

    Args:
        model: a vision transformer with a head; it is left as it was.
        images: (B, C, H, W), or a Dataset, DataLoader or Source of them, transformed as the model wants it.
        labels: the true classes, one or (B,), or "label": those that come with the images; None leaves out what needs them.
        paths: by name, NeuronPaths for these images, or units by site (S,), (S, K) or (B, S, K), or a list of units such as (block,
            neuron), as many of each site. The first is what the others are compared with, beside "random" where there is one. All
            must explain the same classes.
        target: the classes whose probability is measured, one or (B,); None takes those that the NeuronPaths explain, else the
            predicted ones.
        units: what the numbers by site mean: "neurons" (None), "heads" or "both"; NeuronPaths know theirs.
        baseline: what units are ablated to, for all methods alike: "zero", "mean", "resample" or "paired" (see
            :func:`~neuronpath.find_path`). None is "mean" where there is a reference, else "zero".
        reference: the images (R, C, H, W) for that, or a Dataset, DataLoader or Source of them.
        factor: of the enhancement.
        seed: of the bootstrap, and of "resample".
        batch_size: images run at once.
        progress: True shows a bar.

    Returns:
        A DataFrame with columns method; images: "all", "right" or "wrong" (those that the model gets right or wrong); n, how many;
        figure (see :func:`~neuronpath.evaluation.evaluate.effects`) and its unit; mean, low, high; minus_first, minus_first_low,
        minus_first_high and minus_random, ..., the difference to those methods. What removing and enhancing do are changes: a loss
        has a minus. Of a single image there are no intervals (NaN). ``table.attrs["settings"]`` says what made it.
    """
    measured = effects(
        model, images, labels, paths, target, units=units, baseline=baseline, reference=reference, factor=factor, seed=seed,
        batch_size=batch_size, progress=progress,
    )  # fmt: skip
    return summary(measured, seed)


def summary(measured: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The table of :func:`evaluate` from that of :func:`effects`: the same seed gives the same numbers."""
    methods = list(dict.fromkeys(measured["method"]))
    sets = {"all": np.ones(len(measured) // len(methods), dtype=bool)}
    if measured["right"].notna().all():
        right = measured.loc[measured["method"] == methods[0], "right"].to_numpy(dtype=bool)
        sets |= {"right": right, "wrong": ~right}
    rows = []
    for which, chosen in sets.items():
        if not chosen.any():
            continue
        for figure, unit in FIGURES.items():
            values = {m: measured.loc[measured["method"] == m, figure].to_numpy(dtype=float)[chosen] for m in methods}
            for method, mine in values.items():
                row = {"method": method, "images": which, "n": int(chosen.sum()), "figure": figure, "unit": unit}
                row |= dict(zip(("mean", "low", "high"), interval(mine, seed), strict=True))
                for control, other in (("first", values[methods[0]]), ("random", values.get("random"))):
                    keys = (f"minus_{control}", f"minus_{control}_low", f"minus_{control}_high")
                    row |= dict(
                        zip(keys, interval(mine - other, seed) if other is not None else [np.nan] * 3, strict=True)
                    )
                rows.append(row)
    table = pd.DataFrame(rows)
    table.attrs["settings"] = {**measured.attrs.get("settings", {}), "seed": seed, "resamples": RESAMPLES}
    return table


def interval(values: np.ndarray, seed: int) -> tuple[float, float, float]:
    """The mean of values (n,) and its 95 % interval; NaN where there is one value."""
    if len(values) < 2:
        return float(values.mean()), np.nan, np.nan
    mean, low, high = intervals(values, seed)
    return float(mean), float(low), float(high)


def as_text(table: pd.DataFrame, images: str = "all", figures: Sequence[str] = tuple(FIGURES)) -> str:
    """The table as a person reads it: a line a method, a column a figure, each a mean with its interval (of several images).

    Probabilities are in percentage points (pp). As many figures stand side by side as ``WIDTH`` holds; the others follow below.
    """
    here = table[(table["images"] == images) & table["figure"].isin(figures) & table["mean"].notna()]
    scales = [SCALES.get(unit, (1, "")) for unit in here["unit"]]
    numbers = here[["mean", "low", "high"]].mul([by for by, _ in scales], axis=0)
    cells = here.assign(
        cell=[
            f"{_said(m)}" + ("" if np.isnan(a) else f" [{_said(a)}, {_said(b)}]")
            for m, a, b in numbers.to_numpy().tolist()
        ],
        heading=[figure + unit for figure, (_, unit) in zip(here["figure"], scales, strict=True)],
    )
    order = {figure: at for at, figure in enumerate(figures)}
    wide = cells.pivot(index="method", columns="heading", values="cell")
    headings = dict.fromkeys(cells.sort_values("figure", key=lambda each: each.map(order), kind="stable")["heading"])
    wide = wide.loc[list(dict.fromkeys(here["method"])), list(headings)]
    text = wide.rename_axis(None).rename_axis(None, axis=1).to_string(line_width=WIDTH)
    return "\n".join(line.rstrip(" \\") for line in text.splitlines())


def _said(number: float) -> str:
    return f"{number:.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def _edited_logits(
    vit: ViT,
    images: Tensor,
    target: Tensor,
    given: NeuronPaths | Tensor,
    factor: float,
    ablated: Callable[[Tensor, Tensor, int], Ablated],
    batch_size: int,
) -> Tensor:
    """The logits of images whose paths' units are multiplied, less their ablated values."""
    parts, like = [], next(vit.model.parameters())
    for start in range(0, len(images), batch_size):
        at = slice(start, start + batch_size)
        gone = ablated(images[at].to(like), target[at], start)
        with scaled(*units_chosen(vit, given[at]), factor, gone):
            parts.append(logits_of(vit.model, images[at], batch_size))
    return torch.cat(parts)


def _checked(name: str, given: Path, images: Tensor, vit: ViT) -> NeuronPaths | Tensor:
    """The paths, or units (B, S, K), checked to be of this model and as many as the images."""
    if not isinstance(given, NeuronPaths):
        return as_index(given, len(images), vit.places)
    view_for(given, vit)
    if len(given) != len(images):
        raise InputError(f"there are {len(given)} paths of {name!r} for {len(images)} images; expected one an image")
    return given


def _gained_right(before: Tensor, after: Tensor, truth: Tensor) -> np.ndarray:
    return ((after.argmax(-1) == truth).float() - (before.argmax(-1) == truth).float()).numpy()
