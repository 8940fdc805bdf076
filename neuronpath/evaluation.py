"""What paths are worth, method by method: scores, and what really happens when they are removed and enhanced, with controls.

Figures are of the target's probability, live, on the tokens that neurons are read on. Intervals are 95 % bootstrap intervals over
images (percentiles); differences between methods are taken image by image.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .errors import InputError
from .hooks import at_rest
from .influence import as_neurons, joint_influence
from .intervention import Neurons, enhance, remove
from .outputs import as_target, check_range, run_model
from .paths import NeuronPaths, check_made_for
from .runs import check_images
from .vit import view

FIGURES = (
    "score", "attribution", "removal", "removal_relative", "enhancement", "enhancement_relative", "accuracy_removed",
    "accuracy_enhanced",
)  # fmt: skip
RESAMPLES = 2000


def measure(
    model: nn.Module,
    images: Tensor,
    labels: int | Sequence[int] | Tensor | np.ndarray | None,
    paths: Mapping[str, Neurons],
    target: int | Sequence[int] | Tensor | None = None,
    *,
    factor: float = 2.0,
    batch_size: int = 64,
    progress: bool = False,
) -> pd.DataFrame:
    """One row for every method and image.

    Columns: method, image, label, predicted, right, target, probability; score and attribution (of the whole path), computed
    alike for all methods; removal, what the probability loses when the path's neurons are set to 0; enhancement, what it gains when
    they are multiplied by ``factor``; both also relative to the probability; accuracy_removed and accuracy_enhanced, the change
    of being right (-1, 0 or 1; NaN without labels).

    Raises InputError for paths of another model or other images, for labels out of range, and for differing targets.
    """
    vit = view(model)
    check_images(images)
    if not paths:
        raise InputError("there are no paths to evaluate; expected at least one, by name")
    truth = as_target(labels, len(images))
    at_once = _chunks(len(images), batch_size)
    with at_rest(vit.model):
        clean = _logits(vit.model, images, at_once)
    if truth is not None:
        check_range(truth, clean.shape[-1])
    predicted = clean.argmax(-1)
    named = {name: _as_paths(name, given, images, vit) for name, given in paths.items()}
    targets = {name: given.target for name, given in named.items() if given is not None}
    wanted = as_target(target, len(images))
    target = next(iter(targets.values()), predicted) if wanted is None else wanted
    check_range(target, clean.shape[-1])
    for name, other in targets.items():
        if not torch.equal(other, target):
            raise InputError(
                f"the paths of {name!r} explain other classes than those of {next(iter(targets))!r}; expected the same"
            )
    before = _share(clean, target)
    frames = []
    for name, given in tqdm(paths.items(), unit="method", disable=not progress):
        known = named[name]
        token = "auto" if known is None else known.settings.get("token", "auto")
        neurons = given.neurons if isinstance(given, NeuronPaths) else given
        influence = joint_influence(vit.model, images, neurons, target, token=token)
        after = {}
        with at_rest(vit.model):
            for change, edit in (("removed", 0.0), ("enhanced", factor)):
                after[change] = torch.cat(
                    [_edited(vit.model, images[at], given, at, len(images), edit) for at in at_once]
                )
        removed, enhanced = _share(after["removed"], target), _share(after["enhanced"], target)
        frame = pd.DataFrame(
            {
                "method": name,
                "image": np.arange(len(images)),
                "label": -1 if truth is None else truth.numpy(),
                "predicted": predicted.numpy(),
                "right": None if truth is None else (predicted == truth).numpy(),
                "target": target.numpy(),
                "probability": before.numpy(),
                "score": influence.score.numpy(),
                "attribution": influence.attribution.sum((1, 2)).numpy(),
                "removal": (before - removed).numpy(),
                "removal_relative": ((before - removed) / before).numpy(),
                "enhancement": (enhanced - before).numpy(),
                "enhancement_relative": ((enhanced - before) / before).numpy(),
                **{
                    f"accuracy_{change}": np.nan if truth is None else _gained_right(clean, logits, truth)
                    for change, logits in after.items()
                },
            }
        )
        frames.append(frame)
    found = pd.concat(frames, ignore_index=True)
    found.attrs["settings"] = {
        "paths": {name: None if given is None else dict(given.settings) for name, given in named.items()},
        "factor": factor,
        "images": len(images),
        "versions": {"neuronpath": version("neuronpath"), "timm": timm.__version__, "torch": str(torch.__version__)},
    }
    return found


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: int | Sequence[int] | Tensor | np.ndarray | None,
    paths: Mapping[str, Neurons],
    target: int | Sequence[int] | Tensor | None = None,
    *,
    factor: float = 2.0,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
) -> pd.DataFrame:
    """A table of what each method's paths are worth: one row for every method, set of images and figure.

    Args:
        model: a vision transformer with a head; it is left as it was.
        images: (B, C, H, W), transformed as the model wants it.
        labels: the true classes, one or (B,); None leaves out what needs them.
        paths: by name, NeuronPaths for these images, or neurons (L,), (L, K) or (B, L, K). The first is what the others are
            compared with, beside "random" where there is one. All must explain the same classes.
        target: the classes whose probability is measured, one or (B,); None takes those that the NeuronPaths explain, else the
            predicted ones.
        factor: of the enhancement.
        seed: of the bootstrap.
        batch_size: images run at once.
        progress: True shows a bar.

    Returns:
        A DataFrame with columns method; images: "all", "right" or "wrong" (those that the model gets right or wrong); n, how many;
        figure (see :func:`measure`); mean, low, high; minus_first, minus_first_low, minus_first_high and minus_random, ..., the
        difference to those methods. ``table.attrs["settings"]`` says what made it.
    """
    return summary(
        measure(model, images, labels, paths, target, factor=factor, batch_size=batch_size, progress=progress), seed
    )


def summary(measured: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The table of :func:`evaluate` from that of :func:`measure`: the same seed gives the same numbers."""
    methods = list(dict.fromkeys(measured["method"]))
    sets = {"all": np.ones(len(measured) // len(methods), dtype=bool)}
    if measured["right"].notna().all():
        right = measured.loc[measured["method"] == methods[0], "right"].to_numpy(dtype=bool)
        sets |= {"right": right, "wrong": ~right}
    rows = []
    for which, chosen in sets.items():
        if not chosen.any():
            continue
        index = np.random.default_rng(seed).integers(0, chosen.sum(), (RESAMPLES, chosen.sum()))
        for figure in FIGURES:
            values = {m: measured.loc[measured["method"] == m, figure].to_numpy(dtype=float)[chosen] for m in methods}
            for method, mine in values.items():
                row = {"method": method, "images": which, "n": int(chosen.sum()), "figure": figure}
                row |= dict(zip(("mean", "low", "high"), interval(mine, index), strict=True))
                for control, other in (("first", values[methods[0]]), ("random", values.get("random"))):
                    keys = (f"minus_{control}", f"minus_{control}_low", f"minus_{control}_high")
                    row |= dict(
                        zip(keys, interval(mine - other, index) if other is not None else [np.nan] * 3, strict=True)
                    )
                rows.append(row)
    table = pd.DataFrame(rows)
    table.attrs["settings"] = {**measured.attrs.get("settings", {}), "seed": seed, "resamples": RESAMPLES}
    return table


def interval(values: np.ndarray, index: np.ndarray) -> tuple[float, float, float]:
    """The mean of values (n,) and its 95 % interval over resamples ``index`` (S, n)."""
    low, high = np.quantile(values[index].mean(1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def as_text(table: pd.DataFrame, images: str = "all", figures: Sequence[str] = FIGURES) -> str:
    """The table as a person reads it: a line a method, a column a figure, each a mean with its interval."""
    here = table[(table["images"] == images) & table["figure"].isin(figures) & table["mean"].notna()]
    cells = here.assign(
        cell=[f"{m:.4g} [{a:.4g}, {b:.4g}]" for m, a, b in zip(here["mean"], here["low"], here["high"], strict=True)]
    )
    wide = cells.pivot(index="method", columns="figure", values="cell")
    wide = wide.loc[list(dict.fromkeys(here["method"])), [f for f in figures if f in wide.columns]]
    return wide.rename_axis(None).rename_axis(None, axis=1).to_string()


def _chunks(n_images: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n_images)) for start in range(0, n_images, size)]


def _logits(model: nn.Module, images: Tensor, chunks: Sequence[slice]) -> Tensor:
    like = next(model.parameters())
    return torch.cat([run_model(model, images[at].to(like)).float().cpu() for at in chunks])


def _edited(model: nn.Module, images: Tensor, given: Neurons, at: slice, n_images: int, factor: float) -> Tensor:
    """The logits of some images with their paths' neurons multiplied."""
    here = given[at] if isinstance(given, NeuronPaths) else as_neurons(given, n_images, view(model).widths)[at]
    with remove(model, here) if factor == 0 else enhance(model, here, factor):
        return _logits(model, images, [slice(None)])


def _as_paths(name: str, given: Neurons, images: Tensor, vit: Any) -> NeuronPaths | None:
    """The paths, if they are such, checked to be of this model and as many as the images."""
    if not isinstance(given, NeuronPaths):
        as_neurons(given, len(images), vit.widths)
        return None
    check_made_for(given, vit)
    if len(given) != len(images):
        raise InputError(f"there are {len(given)} paths of {name!r} for {len(images)} images; expected one an image")
    return given


def _share(logits: Tensor, target: Tensor) -> Tensor:
    return logits.softmax(-1).gather(1, target[:, None])[:, 0]


def _gained_right(before: Tensor, after: Tensor, truth: Tensor) -> np.ndarray:
    return ((after.argmax(-1) == truth).float() - (before.argmax(-1) == truth).float()).numpy()
