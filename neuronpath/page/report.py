"""One self-contained HTML page of a run: no network, no script but its own, readable from disk.

The page's template, style and script are the files in ``page/``.
"""

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..checks import InputError, InputTypeError
from ..data.pixels import data_uri, short_name, to_pixels
from ..files import check_writable, write_whole
from ..models.vit import ViT, view
from ..paths.neuron_paths import NeuronPaths, check_made_for
from ..runs.clean import check_images
from .scene import Measured, measure, neurons_of

PAGE = Path(__file__).parent
COLUMN, HEIGHT, LEFT, TOP, BOTTOM = 46, 250, 44, 34, 40  # of a path's drawing, in its own pixels
CROWDED = 36  # a point this near below another has its label below itself
COMMONEST = 4  # neurons of a block that the view of classes names, at most


def report(
    model: nn.Module, images: Tensor, paths: NeuronPaths | Mapping[str, NeuronPaths], out: str | os.PathLike, *,
    title: str = "Neuron paths", factor: float = 2.0, n_likes: int = 4, batch_size: int = 64, overwrite: bool = False,
    progress: bool = False,
) -> Path:  # fmt: skip
    """Write one HTML page that shows every image, its path, and what the path's neurons do.

    Pointing at a neuron, or going to it with the keyboard, shows where it looks, its attribution and activation, and which of the
    given images it likes best. Removing and enhancing each path are really run.

    Args:
        model: the vision transformer that the paths were made for.
        images: (B, C, H, W), those of the paths; kept on the page as small pictures, once each.
        paths: NeuronPaths, or several methods' as {name: NeuronPaths}, which the page switches between.
        out: the file to write; an existing one is kept unless ``overwrite``.
        title: the page's heading.
        factor: what enhancing multiplies the path's neurons by.
        n_likes: images named as a neuron's favourites.
        batch_size: images run at a time.
        progress: show a bar.

    Returns:
        The file's path.

    Raises:
        InputError: in one line, for anything that can't be used, before any work is begun.
    """
    out = check_writable(out, overwrite)
    ways = {str(paths.settings.get("method", "path")): paths} if isinstance(paths, NeuronPaths) else paths
    vit = view(model)
    check_images(images)
    _check_ways(ways, images, vit)
    for name, count in (("n_likes", n_likes), ("batch_size", batch_size)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError(f"{name} is {count!r}; expected a whole number of at least 1")
    with tqdm(total=len(ways) * len(images), unit="image", disable=not progress) as bar:
        measured = {
            name: measure(vit.model, images, each, factor, n_likes, batch_size, bar) for name, each in ways.items()
        }
    page = _environment().get_template("report.html").render(
        title=title,
        factor=factor,
        model=next(iter(ways.values())).settings.get("model", type(vit.model).__name__),
        n_images=len(images),
        images=[_of_image(i, images[i], ways, measured, vit.model) for i in range(len(images))],
        classes=_classes(ways),
        settings=_settings(ways),
        data=_data(ways, measured),
    )  # fmt: skip
    return write_whole(out, lambda part: part.write_text(page, encoding="utf-8", errors="replace"), overwrite)


def _check_ways(ways: Mapping[str, NeuronPaths], images: Tensor, vit: ViT) -> None:
    if not isinstance(ways, Mapping):
        raise InputTypeError(f"paths is a {type(ways).__name__}; expected NeuronPaths or {{name: NeuronPaths}}")
    if not ways:
        raise InputError("paths names no methods; expected at least one")
    for name, paths in ways.items():
        if not isinstance(paths, NeuronPaths):
            raise InputTypeError(f"the paths of {name!r} are a {type(paths).__name__}; expected NeuronPaths")
        check_made_for(paths, vit)
        if len(paths) != len(images):
            raise InputError(f"images holds {len(images)} images for {len(paths)} paths of {name!r}; expected as many")


def _of_image(
    number: int, image: Tensor, ways: Mapping[str, NeuronPaths], measured: Mapping[str, Measured], model: nn.Module
) -> dict[str, Any]:
    """What the template shows of one image."""
    first = next(iter(ways.values()))
    pixels = to_pixels(image, model)
    return {
        "name": first.names[number],
        "short": short_name(first.names[number], 40),
        "picture": data_uri(pixels),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "predicted": _decision(first, first.predicted[number], first.predicted_probability[number]),
        "ways": [_of_path(name, paths[number], measured[name], number) for name, paths in ways.items()],
    }


def _decision(paths: NeuronPaths, label: Tensor, probability: Tensor) -> str:
    return f"{paths.name_of(int(label))}, probability {float(probability):.3f}" if label >= 0 else ""


def _of_path(name: str, path: NeuronPaths, measured: Measured, number: int) -> dict[str, Any]:
    """What the template shows of one image's path by one method (B = 1)."""
    effects = []
    if measured.removed is not None and measured.enhanced is not None:
        clean = float(path.probability[0])
        values = {
            "clean": clean,
            "removed": float(measured.removed[number]),
            "enhanced": float(measured.enhanced[number]),
        }
        most = max(values.values()) or 1.0
        effects = [(kind, value, value - clean, 100 * value / most) for kind, value in values.items()]
    return {
        "name": name,
        "target": _decision(path, path.target[0], path.probability[0]),
        "score": float(path.score[0]),
        "attribution": float(path.attribution[0].sum()),
        "delta": float(path.relative_delta[0]),
        "effects": effects,
        "drawing": _drawing(path),
    }


def _drawing(path: NeuronPaths) -> dict[str, Any]:
    """Where a path's points are drawn: blocks from left to right, neurons from bottom to top, areas as the attributions."""
    _, blocks, k = path.neurons.shape
    widest = max(path.widths)
    largest = float(path.attribution.abs().max()) or 1.0

    def x(block: int) -> float:
        return LEFT + COLUMN * (block + 0.5)

    def y(neuron: int) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * neuron / widest, 1)

    points = []
    for block in range(blocks):
        for rank in range(k):
            neuron, worth = int(path.neurons[0, block, rank]), float(path.attribution[0, block, rank])
            r = round((12 + 110 * abs(worth) / largest) ** 0.5, 1)
            crowded = any(0 < y(neuron) - y(other) < CROWDED for other in path.neurons[0, block].tolist())
            points.append(
                {
                    "block": block,
                    "neuron": neuron,
                    "attribution": worth,
                    "activation": float(path.activations[0, block, rank]),
                    "x": x(block),
                    "y": y(neuron),
                    "r": r,
                    "label": y(neuron) + (r + 16 if crowded else -r - 8),
                }
            )
    return {
        "width": LEFT + COLUMN * blocks + 6,
        "height": HEIGHT,
        "left": LEFT,
        "column": COLUMN,
        "blocks": [(block, x(block)) for block in range(blocks)],
        "ticks": [(value, y(value)) for value in (0, widest // 2, widest)],
        "line": " ".join(f"{x(b)},{y(int(path.neurons[0, b, 0]))}" for b in range(blocks)),
        "points": points,
    }


def _classes(ways: Mapping[str, NeuronPaths]) -> list[dict[str, Any]]:
    """For every method and class how often each neuron occurs; nothing where there is one class only."""
    tables = []
    for name, paths in ways.items():
        rows = []
        for label in paths.target.unique().tolist():
            members = paths[(paths.target == label)]
            cells: list[list[tuple[int, int, float]]] = [[] for _ in range(paths.neurons.shape[1])]
            for (block, neuron), count in sorted(neurons_of(members).items(), key=lambda item: (-item[1], item[0])):
                if len(cells[block]) < COMMONEST:
                    cells[block].append((neuron, count, 100 * count / len(members)))
            rows.append({"label": paths.name_of(label), "images": len(members), "cells": cells})
        tables.append({"name": name, "rows": rows})
    return tables if any(len(table["rows"]) > 1 for table in tables) else []


def _settings(ways: Mapping[str, NeuronPaths]) -> list[tuple[str, list[str]]]:
    """A row a setting: its name and each method's value as text."""
    columns = []
    for paths in ways.values():
        flat = {key: value for key, value in paths.settings.items() if key != "versions"}
        widths = flat.get("widths")
        if widths and len(set(widths)) == 1:
            flat["widths"] = f"{len(widths)} blocks of {widths[0]} neurons"
        columns.append({**flat, **paths.settings.get("versions", {})})
    keys = dict.fromkeys(key for column in columns for key, value in column.items() if value is not None)
    return [(key, ["" if column.get(key) is None else str(column[key]) for column in columns]) for key in keys]


def _data(ways: Mapping[str, NeuronPaths], measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
    """What the page's script shows: for each method the maps, as bytes -127 to 127 of their peaks, and the neurons' favourites."""
    found = []
    for name in ways:
        maps = measured[name].maps.flatten(1, 2)  # (B, L K, h, w)
        peaks = maps.abs().amax((2, 3))
        bytes_ = (127 * maps / peaks.clamp(min=1e-12)[..., None, None]).round().to(torch.int8).numpy()
        found.append(
            {
                "grid": list(maps.shape[2:]),
                "peaks": [[_short(peak) for peak in row] for row in peaks.tolist()],
                "maps": [[base64.b64encode(each.tobytes()).decode() for each in row] for row in bytes_],
                "likes": {
                    f"{b}-{n}": [[i, _short(v)] for i, v in some] for (b, n), some in measured[name].likes.items()
                },
            }
        )
    return found


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _environment() -> jinja2.Environment:
    """Everything that the template shows is escaped, in its embedded JSON too."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["number"] = lambda value: f"{value:.4g}"
    environment.filters["signed"] = lambda value: f"{value:+.4g}"
    environment.policies["json.dumps_function"] = json.dumps
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment
