"""Results as JSON: a format, its version, and the rest; written whole, and refused in one line where damaged."""

import json
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..checks import InputError
from ..files import read_text, write_whole
from ..units import Place, Unit, out_of_range, place_of

T = TypeVar("T")


def write_document(path: str | os.PathLike, document: dict[str, Any], overwrite: bool = False) -> Path:
    """Write a document whole or not at all; refuses an existing file unless ``overwrite``."""
    text = json.dumps(document, indent=1, allow_nan=False)
    return write_whole(path, lambda part: part.write_text(text + "\n", encoding="utf-8"), overwrite)


def read_document(
    path: str | os.PathLike, kind: str, versions: Collection[int], writer: str, make: Callable[[dict[str, Any]], T]
) -> T:
    """What ``make`` makes of a document of this format and of one of these versions, which ``writer`` wrote."""
    expected = f"a file that {writer} wrote"
    text = read_text(path, expected)
    try:
        document = json.loads(text)
    except (RecursionError, ValueError):
        raise InputError(f"{path} is damaged or no JSON at all; expected {expected}") from None
    if not isinstance(document, dict) or document.get("format") != kind:
        raise InputError(f"{path} holds no {kind}; expected {expected}")
    if document.get("version") not in versions:
        raise InputError(
            f"{path} is of version {document.get('version')!r}; this neuronpath reads {' and '.join(map(str, versions))}"
        )
    try:
        return make(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        fault = error if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(f"{path} is damaged ({' '.join(str(fault).split())}); expected a whole file") from None


def whole_numbers(name: str, values: Sequence) -> Tensor:
    """Whole numbers of a document, nested as they may be, as int64; others are refused, not rounded."""
    found = torch.tensor(values)
    if found.numel() and (found.is_floating_point() or found.dtype == torch.bool):
        odd = found[found != found.round()] if found.is_floating_point() else found.flatten()
        raise InputError(f"{name} holds {(odd if odd.numel() else found.flatten())[0].item()}; expected whole numbers")
    return found.long()


def check_units(units: Tensor, places: Sequence[Place]) -> None:
    """Refuse units (B, S, K) below 0 or beyond their site's width, and one that is there twice; without places only the first."""
    for site, found in enumerate(units.unbind(1)):
        place = places[site] if places else Place(site, "neuron", int(found.max()) + 1 if found.numel() else 1)
        wrong = found[(found < 0) | (found >= place.width)]
        if len(wrong):
            raise out_of_range(Unit(place.block, int(wrong[0]), place.kind), place.width)
        if (found.sort(1).values.diff(dim=1) == 0).any():
            raise InputError(f"block {place.block} names a {place.kind} twice; expected different ones")


def check_circuit(units: Sequence[Unit], places: Sequence[Place]) -> None:
    """Refuse units of one image's circuit that aren't at these places, and one that is there twice."""
    for unit in units:
        if places:
            place_of(unit, places)
        elif unit.block < 0 or unit.index < 0:
            raise InputError(f"{unit} is below 0; expected whole numbers from 0")
    if len(set(units)) < len(units):
        raise InputError("a circuit names a unit twice; expected different ones")
