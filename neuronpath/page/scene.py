"""What a page shows, as plain data: any viewer can draw it."""

import base64
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..data.pixels import data_uri, short_name, to_pixels
from ..paths.layout import Layout, points_of
from ..paths.neuron_paths import NeuronPaths
from ..units import Unit
from .measured import Measured, times_of

COLUMN, HEIGHT, LEFT, TOP, BOTTOM = 46, 250, 44, 34, 40  # of a path's drawing, in its own pixels
COMMONEST = 4  # units of a block that the view of classes names, at most


def scene(
    model: nn.Module, images: Tensor, ways: Mapping[str, NeuronPaths], measured: Mapping[str, Measured]
) -> dict[str, Any]:
    """Everything that is shown of images (B, C, H, W) and their paths by the named methods.

    Keys: images, for each its picture, prediction, and by method the decision, figures and drawing of its path; classes, how often
    each unit occurs by class; settings; data, the maps and favourites that a script shows.
    """
    return {
        "model": next(iter(ways.values())).settings.model,
        "kinds": " and ".join(f"{kind}s" for kind in Layout(next(iter(ways.values())).places).kinds),
        "has_heads": any(place.kind == "head" for paths in ways.values() for place in paths.places),
        "n_images": len(images),
        "images": [_of_image(i, images[i], ways, measured, model) for i in range(len(images))],
        "classes": _classes(ways),
        "settings": _settings(ways),
        "data": _data(ways, measured),
    }


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
        "score": None if path.score.isnan() else float(path.score[0]),
        "attribution": float(path.attribution[0].sum()),
        "delta": float(path.relative_delta[0]),
        "effects": effects,
        "drawing": _drawing(path),
    }


def _drawing(path: NeuronPaths) -> dict[str, Any]:
    """Where a path's points are drawn, in the drawing's own pixels; areas are as the attributions."""
    layout, points = points_of(path)
    column = COLUMN * (1.6 if layout.both else 1.0)
    sites, k = path.units.shape[1:]

    def x(place: float) -> float:
        return round(LEFT + column * (place - layout.blocks[0] + 0.5), 1)

    def y(place: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * place / layout.height, 1)

    shown = []
    for point in points:
        radius = round((12 + 110 * point.share) ** 0.5, 1)
        shown.append(
            {
                "unit": point.unit,
                "key": _key(point.unit),
                "attribution": point.attribution,
                "activation": point.activation,
                "x": x(point.x),
                "y": y(point.y),
                "r": radius,
            }
        )
    return {
        "width": round(LEFT + column * len(layout.blocks) + 6),
        "height": HEIGHT,
        "left": LEFT,
        "axis": layout.axis,
        "hit": column * len(layout.blocks) / sites if k == 1 else None,
        "blocks": [(block, x(block)) for block in layout.blocks],
        "ticks": [(name, y(place)) for place, name in layout.ticks()],
        "line": " ".join(f"{point['x']},{point['y']}" for point in shown[::k]),
        "points": shown,
    }


def _key(unit: Unit) -> str:
    return f"{unit.block}-{unit.kind}-{unit.index}"


def _classes(ways: Mapping[str, NeuronPaths]) -> list[dict[str, Any]]:
    """For every method and class how often each unit occurs; nothing where there is one class only."""
    tables = []
    for name, paths in ways.items():
        rows = []
        for label in paths.target.unique().tolist():
            members = paths[(paths.target == label)]
            cells: dict[int, list[tuple[str, int, float]]] = {place.block: [] for place in paths.places}
            for unit, count in sorted(times_of(members).items(), key=lambda item: (-item[1], item[0])):
                if len(cells[unit.block]) < COMMONEST:
                    name = f"h{unit.index}" if unit.kind == "head" else str(unit.index)
                    cells[unit.block].append((name, count, 100 * count / len(members)))
            rows.append({"label": paths.name_of(label), "images": len(members), "cells": list(cells.values())})
        tables.append({"name": name, "rows": rows})
    return tables if any(len(table["rows"]) > 1 for table in tables) else []


def _settings(ways: Mapping[str, NeuronPaths]) -> list[tuple[str, list[str]]]:
    """A row a setting: its name and each method's value as text."""
    columns = []
    for paths in ways.values():
        flat = paths.settings.to_dict()
        versions = flat.pop("versions")
        blocks, widest = len({place.block for place in paths.places}), Layout(paths.places).widest
        flat["sites"] = f"{blocks} blocks of " + " and ".join(f"{n} {kind}s" for kind, n in widest.items())
        columns.append({**flat, **versions})
    keys = dict.fromkeys(key for column in columns for key, value in column.items() if value is not None)
    return [(key, ["" if column.get(key) is None else str(column[key]) for column in columns]) for key in keys]


def _data(ways: Mapping[str, NeuronPaths], measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
    """What the page's script shows: for each method the maps, as bytes -127 to 127 of their peaks, and the units' favourites."""
    found = []
    for name in ways:
        maps = measured[name].maps.flatten(1, 2)  # (B, S K, h, w)
        peaks = maps.abs().amax((2, 3))
        bytes_ = (127 * maps / peaks.clamp(min=1e-12)[..., None, None]).round().to(torch.int8).numpy()
        found.append(
            {
                "grid": list(maps.shape[2:]),
                "peaks": [[_short(peak) for peak in row] for row in peaks.tolist()],
                "maps": [[base64.b64encode(each.tobytes()).decode() for each in row] for row in bytes_],
                "likes": {_key(unit): [[i, _short(v)] for i, v in some] for unit, some in measured[name].likes.items()},
            }
        )
    return found


def _short(value: float) -> float:
    return float(f"{value:.4g}")
