"""Two images, or two models on an image, side by side: one table of what differs."""

import re
from collections.abc import Sequence
from typing import Any

import torch

from ...checks import InputError
from ...data.pixels import short_name
from ...paths.neuron_paths import NeuronPaths
from ...units import Unit
from .answers import found_for
from .explorer import Ask, Plain, clean

Cell = str | None


def compare(ask: Ask) -> Plain:
    """A table of the two: rows of a heading, what it says of each, and whether that differs."""
    other = ask.body.get("other")
    if not isinstance(other, dict):
        raise InputError("other names no image and model; expected both")
    kind = ask.text("kind", ("path", "circuit"))
    two = [ask, ask.about(other)]
    ways = [found_for(each, kind) for each in two]
    own = [_units(way) for way in ways]
    shared = own[0].keys() & own[1].keys() if two[0].number == two[1].number else None
    rows = [*_decisions(two, ways), *_blocks(two, own)]
    total = len(own[0].keys() | own[1].keys())
    return {
        "sides": [
            {"id": each.image.id, "name": short_name(each.image.name, 30), "model": each.model.name} for each in two
        ],
        "rows": [
            {"what": what, "cells": cells, "differs": _named(cells[0]) != _named(cells[1])} for what, cells in rows
        ],
        "shared": None if shared is None else {"units": len(shared), "of": total, "chance": _chance(two[0], own)},
    }


def _decisions(two: Sequence[Ask], ways: Sequence[Any]) -> list[tuple[str, list[Cell]]]:
    """What is said of each, and of each without its units."""
    said: list[tuple[str, list[Cell]]] = []
    answers = [clean(each) for each in two]
    best = [int(answer.argmax()) for answer in answers]
    said.append(("says", [each.model.name_of(label) for each, label in zip(two, best, strict=True)]))
    said.append(("probability", [_share(answer.max()) for answer in answers]))
    said.append(("without its units", [_share(way.left[0]) for way in ways]))
    if all(isinstance(way, NeuronPaths) for way in ways):
        said.append(("says then", [_without(each, way) for each, way in zip(two, ways, strict=True)]))
    said.append(("without random ones", [_share(way.random_left[0]) for way in ways]))
    if all(isinstance(way, NeuronPaths) for way in ways):
        said.append(("sum of the attributions", [f"{float(way.attribution.sum()):.3g}" for way in ways]))
    else:
        said.append(("units", [str(len(way.units_of(0))) for way in ways]))
    return said


def _without(ask: Ask, path: NeuronPaths) -> str:
    label = int(path.predicted_without[0])
    return ask.model.name_of(label) if label >= 0 else "not known"


def _units(way: Any) -> dict[Unit, float | None]:
    """Its units with their attributions, where they have some."""
    units = way.units_of(0)
    values = way.attribution[0].flatten().tolist() if isinstance(way, NeuronPaths) else [None] * len(units)
    return dict(zip(units, values, strict=True))


def _blocks(two: Sequence[Ask], own: Sequence[dict[Unit, float | None]]) -> list[tuple[str, list[Cell]]]:
    """Each block's units of each kind."""
    places = {(place.block, place.kind) for each in two for place in each.model.vit.places}
    rows: list[tuple[str, list[Cell]]] = []
    for block, kind in sorted(places):
        cells = [
            ", ".join(
                f"{unit.index}" + ("" if value is None else f" ({value:+.2g})")
                for unit, value in units.items()
                if (unit.block, unit.kind) == (block, kind)
            )
            or None
            for units in own
        ]
        if any(cells):
            rows.append((f"block {block}, {kind}s", cells))
    return rows


def _named(cell: Cell) -> Cell:
    """A cell without what stands in brackets: units that are the same ones don't differ, whatever they are worth."""
    return cell and re.sub(r" \([^)]*\)", "", cell)


def _chance(ask: Ask, own: Sequence[dict[Unit, float | None]]) -> float:
    """How many units two random ones of these make-ups share on average."""
    found = 0.0
    for place in ask.model.vit.places:
        counts = [sum((u.block, u.kind) == (place.block, place.kind) for u in units) for units in own]
        found += counts[0] * counts[1] / place.width
    return round(found, 2)


def _share(value: torch.Tensor) -> str:
    number = float(value)
    return "not known" if number != number else f"{100 * number:.3g} %"
