"""Several ways to find a path, side by side over batches of images: what ``neuronpath evaluate`` runs and writes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor, nn
from tqdm import tqdm

from ..checks import InputError
from ..evaluation.evaluate import effects
from ..evaluation.faithfulness import faithfulness
from ..files import write_whole
from ..methods import find_paths
from ..models.vit import ViT
from ..options import Baseline, Explained
from ..paths.concat import concat
from ..paths.faithfulness import Faithfulness
from ..paths.neuron_paths import NeuronPaths
from ..paths.tables import as_text, names_of
from ..runs.baselines import baseline_named, reference_of


def compare(
    model: nn.Module | ViT,
    source: Iterable[tuple[Tensor, list[str], list[int] | None]],
    ways: Sequence[str],
    *,
    explain: Explained = "label",
    baseline: Baseline | None = None,
    reference: Tensor | None = None,
    saved: Mapping[str, NeuronPaths] | None = None,
    curves: bool = False,
    seed: int = 0,
    progress: bool | tqdm = False,
    **options: Any,
) -> tuple[pd.DataFrame, dict[str, NeuronPaths], dict[str, Faithfulness]]:
    """Paths by several ways for batches of (images, names, labels), and what they do.

    Gives the table of :func:`~neuronpath.evaluation.evaluate.effects`, the paths, and with ``curves`` how faithful they are.

    ``explain`` is "label" or "predicted"; ``baseline`` and ``reference`` are of live paths and of what removing any path does;
    ``saved`` holds paths that were found before, for the same images in the same order.
    """
    frames, parts, drawn = [], [], []
    names_so_far: list[str] = []
    for images, names, labels in source:
        at = slice(len(names_so_far), len(names_so_far) + len(names))
        others = reference_of(baseline, reference, at)
        to: dict[str, Any] = {"baseline": baseline, "reference": others}
        found = find_paths(
            model, images, ways, labels if explain == "label" else None, **to, seed=seed, progress=progress, names=names, **options
        )  # fmt: skip
        for name, paths in (saved or {}).items():
            if list(paths.names[at]) != names:
                raise InputError(
                    f"the paths of {name!r} are of other images, or in another order; expected {names[0]} at {at.start}"
                )
            found[name] = paths[at]
        frame = effects(model, images, labels, found, **to, seed=seed)
        frames.append(frame.assign(image=names_of(frame["image"], names)))
        parts.append(found)
        if curves:
            ablated: dict[str, Any] = {"baseline": baseline_named(baseline, others), "reference": others}
            drawn.append({name: faithfulness(model, images, paths, **ablated) for name, paths in found.items()})
        names_so_far += names
    if not frames:
        raise InputError("none of the images could be read; expected at least one")
    table = pd.concat(frames, ignore_index=True)
    settings = frames[0].attrs["settings"] | {"images": len(names_so_far)}
    table = pd.concat([table[table["method"] == method] for method in settings["paths"]], ignore_index=True)
    table.attrs["settings"] = settings
    return (
        table,
        {name: concat([part[name] for part in parts]) for name in parts[0]},
        {name: Faithfulness.concat([part[name] for part in drawn]) for name in (parts[0] if drawn else ())},
    )


def curves_text(curves: Mapping[str, Faithfulness], seed: int = 0) -> str:
    """What curves come to, a line a method: means with their 95 % intervals, of numbers of units medians."""
    columns: dict[str, list[str]] = {"": list(curves)}
    for one in curves.values():
        for figure, mean, low, high, median in one.to_frame(seed).itertuples(index=False, name=None):
            if figure in ("k90", "k_flip"):
                columns.setdefault(f"{figure}, median", []).append(f"{median:,.0f}")
            else:
                columns.setdefault(figure, []).append(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
    return as_text(columns)


def save(table: pd.DataFrame, csv: Path | None, json_file: Path | None, overwrite: bool = False) -> None:
    """Write the table of :func:`evaluate` as CSV, and as JSON with what made it."""
    if csv is not None:
        write_whole(csv, lambda part: table.to_csv(part, index=False), overwrite)
    if json_file is not None:
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        text = json.dumps({"settings": table.attrs["settings"], "rows": rows}, indent=1, allow_nan=False)
        write_whole(json_file, lambda part: part.write_text(text + "\n", encoding="utf-8"), overwrite)
