"""Results as JSON: a format, its version, and the rest; written whole, and refused in one line where damaged."""

import json
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..checks import InputError, shown
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
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        fault = error if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(f"{path} is damaged ({' '.join(str(fault).split())}); expected a whole file") from None


def whole_numbers(name: str, values: Sequence) -> Tensor:
    """Whole numbers of a document, nested as they may be, as int64; others are refused, not rounded."""
    found = torch.tensor(values)
    if found.numel() and (found.is_floating_point() or found.dtype == torch.bool):
        odd = found[found != found.round()] if found.is_floating_point() else found.flatten()
        raise InputError(f"{name} holds {(odd if odd.numel() else found.flatten())[0].item()}; expected whole numbers")
    return found.long()


def figures(name: str, values: Sequence, kind: torch.dtype = torch.float32, maybe_unknown: bool = True) -> Tensor:
    """A document's figures, nested as they may be, as a tensor; of floating-point ones None is NaN where they may be unknown."""
    if kind == torch.int64:
        return whole_numbers(name, values)
    if kind == torch.bool:
        if not all(isinstance(value, bool) for value in values):
            raise InputError(f"{name} holds something else than true and false")
        return torch.tensor(values)
    found = torch.tensor(with_nan(values), dtype=kind)
    if not (torch.isfinite(found) | (found.isnan() if maybe_unknown else False)).all():
        raise InputError(f"{name} holds NaN or infinity; expected finite numbers")
    return found


def with_nan(values: Any) -> Any:
    """Nested lists with NaN for None: JSON has no NaN."""
    if isinstance(values, list):
        return [with_nan(value) for value in values]
    return math.nan if values is None else values


def without_nan(values: Any) -> Any:
    """Nested lists with None for NaN."""
    if isinstance(values, list):
        return [without_nan(value) for value in values]
    return None if isinstance(values, float) and math.isnan(values) else values


def texts(name: str, values: Sequence) -> tuple[str, ...]:
    """A document's texts; what is none is refused."""
    for value in values:
        if not isinstance(value, str):
            raise InputError(f"{name} holds {shown(value)}; expected texts")
    return tuple(values)


def class_names_of(document: Mapping[str, Any]) -> dict[int, str]:
    """The names of classes that a document has, by class."""
    names = document["class_names"]
    return dict(zip(map(int, names), texts("class_names", list(names.values())), strict=True))


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
