"""What a page shows of images and their paths or circuits, as plain data that JSON can hold: any viewer can draw it."""

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data.pixels import SMALL, data_uri, short_name, to_pixels
from ..models.class_names import class_namer
from ..paths.circuit import Circuit
from ..paths.layout import Layout, largest_of, round_end, round_values
from ..paths.neuron_paths import NeuronPaths
from .drawing import circuit_drawing, graph_drawing, key_of, path_drawing, radius_of, short_of
from .measured import Measured, Way, times_of

FORMAT, VERSION = "neuronpath.scene", 1
COMMONEST = 4  # units of a block that the view of classes names, at most

Plain = dict[str, Any]


def scene(
    images: Tensor, ways: Mapping[str, Way], measured: Mapping[str, Measured], *, model: nn.Module | None = None,
    labels: Tensor | None = None, title: str = "Neuron paths", factor: float = 2.0, pictures: Sequence[str] | None = None,
    units: str = "", drawn_from: int | None = None, faces: Plain | None = None, changes: Plain | None = None,
) -> Plain:  # fmt: skip
    """Everything that is shown of images (B, C, H, W), and of their paths or circuits by ways that have a name each.

    ``labels`` are the true classes (B,); ``pictures`` where the images' pictures are, in place of data: addresses; ``units`` where
    pages of single units are; ``drawn_from`` of how many images these are a sample, where they are one; ``faces`` what units
    stand for, by their keys; ``changes`` what one image's units were changed to by hand, and what the model said then.

    Keys, beside format and version: title, model, kinds (in words), factor, units, drawn_from; ``images``, for each its picture,
    decision, truth, and ``views``, one a way: target, figures, ``effects`` of what was really run, ``drawing`` and ``graph`` as
    coordinates, ``maps``; ``ways``, for each its name, summary, settings, scale, and ``likes``, the images that units like;
    ``classes``, how often each unit occurs by class; ``faces`` and ``changes``. The schema is ``scene.schema.json`` beside this file.
    """
    first = next(iter(ways.values()))
    places = [place for way in ways.values() for place in _places(way)]
    scales = {name: _scale(way) for name, way in ways.items()}
    truth = None if labels is None else _named(labels, first, model)
    return {
        "format": FORMAT,
        "version": VERSION,
        "title": title,
        "model": first.settings.model,
        "kinds": " and ".join(f"{kind}s" for kind in dict.fromkeys(place.kind for place in places)) or "units",
        "factor": factor,
        "units": units,
        "drawn_from": len(images) if drawn_from is None else drawn_from,
        "images": [
            {
                **_image(images[i], first.names[i], model, pictures[i] if pictures else None),
                **_decision(i, ways, measured, truth),
                "views": [_view(i, way, measured[name], scales[name]) for name, way in ways.items()],
            }
            for i in range(len(images))
        ],
        "ways": [_way(name, way, measured[name], scales[name]) for name, way in ways.items()],
        "classes": _classes(ways),
        "faces": faces or {},
        "changes": changes,
    }


def _places(way: Way) -> list[Any]:
    return way.places if isinstance(way, NeuronPaths) else list(way.settings.sites)


def _scale(way: Way) -> float:
    """The end of the scale of a path's areas, one for all images."""
    return largest_of(way) if isinstance(way, NeuronPaths) else 1.0


def _image(image: Tensor, name: str, model: nn.Module | None, picture: str | None) -> Plain:
    pixels = to_pixels(image, model)
    height, width = pixels.shape[:2]
    return {
        "name": name,
        "short": short_name(name, 40),
        "picture": picture or data_uri(pixels),
        "width": width,
        "height": height,
        "small": max(width, height) <= SMALL,
    }


def _class(way: Way, label: int, probability: float | None = None) -> Plain | None:
    if label < 0:
        return None
    name = way.class_names.get(label, str(label))
    return {"label": label, "name": name, "probability": None if probability is None else _known(probability)}


def _named(labels: Tensor, way: Way, model: nn.Module | None) -> list[Plain]:
    """Classes with their names: those of the way's, or the model's own where these agree."""
    namer = class_namer(model) if model is not None else lambda label: None
    agree = all(namer(label) == name for label, name in way.class_names.items())
    found = []
    for label in labels.tolist():
        name = way.class_names.get(label) or (namer(label) if agree else None)
        found.append({"label": label, "name": name or str(label), "probability": None})
    return found


def _decision(
    number: int, ways: Mapping[str, Way], measured: Mapping[str, Measured], labels: list[Plain] | None
) -> Plain:
    """What the model says of an image, what it is, and whether that is right; None where it isn't known."""
    predicted = None
    for name, way in ways.items():
        source = way if isinstance(way, NeuronPaths) else measured[name]
        if predicted is None and source.predicted is not None and source.predicted_probability is not None:
            predicted = _class(way, int(source.predicted[number]), float(source.predicted_probability[number]))
    truth = None if labels is None else labels[number]
    right = None if truth is None or predicted is None else truth["label"] == predicted["label"]
    return {"predicted": predicted, "truth": truth, "right": right}


def _view(number: int, way: Way, measured: Measured, scale: float) -> Plain:
    """What is shown of one image by one way."""
    clean = float(way.probability[number])
    view = _of_path(number, way, measured) if isinstance(way, NeuronPaths) else _of_circuit(number, way)
    graph = measured.graphs[number] if measured.graphs else None
    without = next((effect["value"] for effect in view["effects"] if effect["kind"] == "removed"), None)
    return {
        "target": _class(way, int(way.target[number]), clean),
        "taken": None if without is None or not clean else round(1 - without / clean, 4),
        "end": round_end(max((effect["value"] for effect in view["effects"]), default=1.0)),
        **view,
        "drawing": path_drawing(way[number], scale) if isinstance(way, NeuronPaths) else circuit_drawing(way[number]),
        "graph": None if graph is None else graph_drawing(graph),
        **encoded(None if measured.maps is None else measured.maps[number]),
    }


def _of_path(number: int, paths: NeuronPaths, measured: Measured) -> Plain:
    path = paths[number]
    said = int(path.predicted_without[0])
    flips = bool(path.decision_flipped[0]) if said >= 0 else None
    note = "" if flips is None else f"says {paths.name_of(said)}" if flips else f"still {paths.name_of(said)}"
    removed = float(path.left[0] if measured.removed is None else measured.removed[number])
    enhanced = math.nan if measured.enhanced is None else float(measured.enhanced[number])
    values = [
        ("clean", "as it is", path.probability[0], ""),
        ("removed", "without the path", removed, note),
        ("random", "without a random path", path.random_left[0], ""),
        ("enhanced", "with it enhanced", enhanced, ""),
    ]
    return {
        "score": _known(path.score[0]),
        "attribution": float(path.attribution[0].sum()),
        "delta": _known(path.relative_delta[0]),
        "flips": flips,
        "negative": int((path.attribution[0] < 0).sum()),
        "found": True,
        "effects": _effects(values, float(path.probability[0])),
        "kept": None,
    }


def _of_circuit(number: int, circuit: Circuit) -> Plain:
    one = circuit[number]
    kept, flips = bool(one.decision_kept[0]), bool(one.decision_flipped[0])
    values = [
        ("clean", "as it is", one.probability[0], ""),
        ("alone", "the circuit alone", one.kept[0], "decides the same" if kept else "decides otherwise"),
        ("random", "a random circuit alone", one.random_kept[0], ""),
        ("removed", "without the circuit", one.left[0], "decides otherwise" if flips else "decides the same"),
        ("random", "without a random circuit", one.random_left[0], ""),
    ]
    return {
        "score": None,
        "attribution": None,
        "delta": None,
        "flips": flips,
        "negative": 0,
        "found": bool(one.found[0]),
        "effects": _effects(values, float(one.probability[0])),
        "kept": None if one.criterion == "break" else round(one.keep * float(one.probability[0]), 4),
    }


def _effects(values: Sequence[tuple[str, str, Any, str]], clean: float) -> list[Plain]:
    """Probabilities by what was done, where they are known."""
    return [
        {
            "kind": kind,
            "title": title,
            "value": float(value),
            "change": float(value) - clean if kind != "clean" else None,
            "note": note,
        }
        for kind, title, value, note in values
        if not math.isnan(value)
    ]


def encoded(maps: Tensor | None) -> Plain:
    """Maps (n, h, w) as bytes -127 to 127 of their peaks, row by row, in base64."""
    if maps is None:
        return {"maps": None, "peaks": None}
    peaks = maps.abs().amax((1, 2)) if len(maps) else torch.zeros(0)
    bytes_ = (127 * maps / peaks.clamp(min=1e-12)[:, None, None]).round().to(torch.int8).numpy()
    return {
        "maps": [base64.b64encode(each.tobytes()).decode() for each in bytes_],
        "peaks": [_short(peak) for peak in peaks.tolist()],
    }


def _way(name: str, way: Way, measured: Measured, scale: float) -> Plain:
    is_path = isinstance(way, NeuronPaths)
    grid = None if not measured.maps else list(measured.maps[0].shape[1:])
    legend = [[round(radius_of(value / scale), 1), f"{value:g}"] for value in round_values(scale)] if is_path else []
    return {
        "name": name,
        "kind": "path" if is_path else "circuit",
        "summary": way.summary(),
        "settings": _settings(way),
        "scale": legend,
        "grid": grid,
        "likes": {key_of(u): [[i, _short(v)] for i, v in some] for u, some in (measured.likes or {}).items()},
        "times": {key_of(unit): times for unit, times in sorted(times_of(way).items())},
    }


def _settings(way: Way) -> Plain:
    """Every setting's value as text, and the versions."""
    flat = way.settings.to_dict()
    versions = flat.pop("versions")
    blocks, widest = len({place.block for place in _places(way)}), Layout(_places(way)).widest
    flat["sites"] = f"{blocks} blocks of " + " and ".join(f"{n} {kind}s" for kind, n in widest.items())
    if isinstance(way, Circuit):
        flat |= {"criterion": way.criterion, "keep": way.keep}
    return {key: str(value) for key, value in {**flat, **versions}.items() if value is not None}


def _classes(ways: Mapping[str, Way]) -> list[Plain]:
    """For every way and class how often each unit occurs; nothing where there is one class only."""
    tables: list[Plain] = []
    for way in ways.values():
        rows = []
        blocks = sorted({place.block for place in _places(way)})
        for label in way.target.unique().tolist():
            members = [way[i] for i in (way.target == label).nonzero()[:, 0].tolist()]
            counts = sum(map(times_of, members), Counter())
            cells: dict[int, list[Plain]] = {block: [] for block in blocks}
            for unit, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
                if len(cells[unit.block]) < COMMONEST:
                    share = round(count / len(members), 4)
                    cells[unit.block].append(
                        {"name": short_of(unit), "key": key_of(unit), "count": count, "share": share}
                    )
            called = _class(way, label)
            rows.append(
                {"class": called["name"] if called else "", "images": len(members), "cells": list(cells.values())}
            )
        tables.append({"blocks": blocks, "rows": rows})
    return tables if any(len(table["rows"]) > 1 for table in tables) else []


def _known(value: Any) -> float | None:
    """A number that JSON can hold; None for NaN."""
    return None if math.isnan(value) else float(value)


def _short(value: float) -> float:
    return float(f"{value:.4g}")
