"""Several ways to find a path, side by side over batches of images: what ``neuronpath evaluate`` runs and writes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor, nn
from tqdm import tqdm
from tqdm.auto import tqdm as fitting_tqdm

from ..checks import InputError
from ..evaluation.evaluate import measure
from ..files import write_whole
from ..methods import find_path, list_methods
from ..paths.neuron_paths import NeuronPaths, concat

# ways to find a path, by a name each: what find_path is called with
WAYS: dict[str, dict[str, Any]] = {
    "joint-thorough": {"effort": "thorough"},
    "complete": {"objective": "complete"},
    "progressive": {"locate": "progressive"},
    "paper": {"preset": "paper"},
    "causal-thorough": {"method": "causal", "effort": "thorough"},
}


def way(name: str) -> dict[str, Any]:
    """What ``find_path`` is called with for a way named in :data:`WAYS`, or a method's name."""
    if name not in WAYS and name not in list_methods():
        raise InputError(f"method {name!r} is unknown; expected one of {', '.join(sorted([*list_methods(), *WAYS]))}")
    return WAYS.get(name, {"method": name})


def find_paths(
    model: nn.Module,
    images: Tensor,
    ways: Sequence[str],
    target: Any = None,
    *,
    progress: bool | tqdm = False,
    **options: Any,
) -> dict[str, NeuronPaths]:
    """Paths by several ways at once, to be evaluated: {name: NeuronPaths}.

    Args:
        model: a vision transformer of a known family.
        images: (B, C, H, W), transformed as the model wants it.
        ways: names of methods, and "joint-thorough", "causal-thorough", "complete", "progressive" and "paper", which are
            :func:`~neuronpath.find_path` with that effort, objective, locate or preset.
        target: the class that is explained: None for the predicted class, an int, or one an image (B,).
        progress: True shows a bar; a tqdm bar of your own is moved on by one an image and way.
        **options: further arguments of :func:`~neuronpath.find_path`.
    """
    calls = {name: way(name) for name in ways}  # all names are checked before the first is run
    bar: tqdm = (
        progress
        if isinstance(progress, tqdm)
        else fitting_tqdm(total=len(images) * len(calls), unit="path", disable=not progress)
    )
    with nullcontext() if bar is progress else bar:
        return {
            name: find_path(model, images, target, progress=bar, **{**options, **call}) for name, call in calls.items()
        }


def compare(
    model: nn.Module,
    source: Iterable[tuple[Tensor, list[str], list[int] | None]],
    ways: Sequence[str],
    *,
    explain: str = "label",
    saved: Mapping[str, NeuronPaths] | None = None,
    progress: bool | tqdm = False,
    **options: Any,
) -> tuple[pd.DataFrame, dict[str, NeuronPaths]]:
    """Paths by several ways for batches of (images, names, labels), measured: the table of :func:`measure`, and the paths.

    ``explain`` is "label" or "predicted"; ``saved`` holds paths that were found before, for the same images in the same order.
    """
    frames, parts = [], []
    names_so_far: list[str] = []
    for images, names, labels in source:
        found = find_paths(
            model, images, ways, labels if explain == "label" else None, progress=progress, names=names, **options
        )
        at = slice(len(names_so_far), len(names_so_far) + len(names))
        for name, paths in (saved or {}).items():
            if list(paths.names[at]) != names:
                raise InputError(
                    f"the paths of {name!r} are of other images, or in another order; expected {names[0]} at {at.start}"
                )
            found[name] = paths[at]
        frame = measure(model, images, labels, found)
        frames.append(frame.assign(image=frame["image"].map(dict(enumerate(names)))))
        parts.append(found)
        names_so_far += names
    if not frames:
        raise InputError("none of the images could be read; expected at least one")
    table = pd.concat(frames, ignore_index=True)
    settings = frames[0].attrs["settings"] | {"images": len(names_so_far)}
    table = pd.concat([table[table["method"] == method] for method in settings["paths"]], ignore_index=True)
    table.attrs["settings"] = settings
    return table, {name: concat([part[name] for part in parts]) for name in parts[0]}


def save(table: pd.DataFrame, csv: Path | None, json_file: Path | None, overwrite: bool = False) -> None:
    """Write the table of :func:`evaluate` as CSV, and as JSON with what made it."""
    if csv is not None:
        write_whole(csv, lambda part: table.to_csv(part, index=False), overwrite)
    if json_file is not None:
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        text = json.dumps({"settings": table.attrs["settings"], "rows": rows}, indent=1, allow_nan=False)
        write_whole(json_file, lambda part: part.write_text(text + "\n", encoding="utf-8"), overwrite)
