"""Units, the parts that paths and circuits are made of, and index arithmetic on them that several wings share.

A *unit* is a neuron (a channel of an MLP's hidden layer) or an attention head. A *site* is the place in a block where units of one
kind are read. In tensors units go by their site's number s, in the order in which a model runs through its sites, and their index
there.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .checks import InputError, check_one_of, shown
from .options import Units

KINDS: dict[Units, tuple[str, ...]] = {"neurons": ("neuron",), "heads": ("head",), "both": ("head", "neuron")}
"""What ``units=`` names, as the kinds of a block's sites in their order."""


class Unit(NamedTuple):
    """A neuron or a head, by its block (of the unrolled model, where it loops) and its index there.

    Examples:
        >>> print(Unit(4, 163), "and", Unit(4, 2, "head"))
        block 4, neuron 163 and block 4, head 2
    """

    block: int
    index: int  # type: ignore[assignment] # tuple has a method of this name
    kind: str = "neuron"

    def __str__(self) -> str:
        return f"block {self.block}, {self.kind} {self.index}"


Passes = Sequence[tuple[int, int]]
"""Of a model whose blocks share weights every block's (loop, shared block); empty for any other."""


def loop_ends(passes: Passes) -> list[int]:
    """The last block of every loop: of a cycle through the shared blocks, or of a run of neighbours that share."""
    shared = [number for _, number in passes]
    runs = len(set(shared)) > 1 and any(a == b for a, b in pairwise(shared))
    here: set[int] = set()
    ends = []
    for block, (now, then) in enumerate(pairwise(shared)):
        here.add(now)
        if (now != then) if runs else (then in here):
            ends.append(block)
            here.clear()
    return [*ends, len(shared) - 1] if shared else []


class Place(NamedTuple):
    """A site as results note it down: its block, the kind of its units and how many there are."""

    block: int
    kind: str
    width: int


def units_named(places: Sequence[Place]) -> Units:
    """The ``units=`` word for these sites."""
    return kinds_named([Unit(place.block, 0, place.kind) for place in places])


def kinds_named(units: Sequence[Unit]) -> Units:
    """The ``units=`` word for these units."""
    kinds = {unit.kind for unit in units}
    return "both" if len(kinds) == 2 else "heads" if "head" in kinds else "neurons"


def as_index(units: Tensor | Sequence, n_images: int, places: Sequence[Place]) -> Tensor:
    """Units a site, (S,), (S, K) or (B, S, K), or named one by one, as (B, S, K) int64 on the CPU, checked against the
    sites' widths.
    """
    kinds = f"{units_named(places)}" if units_named(places) != "both" else "units"
    index = as_numbers(kinds, _by_site(units, places) if is_unit_list(units) else units)
    if index.is_floating_point() or index.dtype == torch.bool:
        raise InputError(f"{kinds} is of type {index.dtype}; expected whole numbers")
    if index.ndim == 1:
        index = index[:, None]
    if index.ndim == 2:
        index = index.expand(n_images, *index.shape)
    if index.ndim != 3 or index.shape[:2] != (n_images, len(places)) or not index.shape[2]:
        sites = "sites (each block's heads, then its neurons)" if units_named(places) == "both" else "blocks"
        raise InputError(
            f"{kinds} has shape {tuple(index.shape)}; expected ({n_images}, {len(places)}, K): images, {sites}, {kinds} a "
            f"{'site' if units_named(places) == 'both' else 'block'}"
        )
    if not n_images:
        raise InputError(f"there are no paths to choose {kinds} from; expected at least one")
    for site, place in enumerate(places):
        here = index[:, site]
        if here.min() < 0 or here.max() >= place.width:
            wrong = here[(here < 0) | (here >= place.width)][0]
            raise out_of_range(Unit(place.block, int(wrong), place.kind), place.width)
        if (here.sort(1).values.diff(dim=1) == 0).any():
            raise InputError(f"block {place.block} names a {place.kind} twice; expected different ones")
    return index.long()


def _by_site(units: Any, places: Sequence[Place]) -> list[list[int]]:
    """Units that are named one by one, as tuples, by site: as many in each."""
    found: list[list[int]] = [[] for _ in places]
    for unit in map(as_unit, units):
        found[place_of(unit, places)].append(unit.index)
    for place, here in zip(places, found, strict=True):
        if len(here) != len(found[0]):
            raise InputError(
                f"{len(here)} {place.kind}(s) of block {place.block} are named, and {len(found[0])} {places[0].kind}(s) of block "
                f"{places[0].block}; expected as many each"
            )
    return found


def as_numbers(name: str, units: Tensor | Sequence) -> Tensor:
    """Units by site as a tensor on the CPU, whatever they were given in."""
    try:
        return units.cpu() if isinstance(units, Tensor) else torch.as_tensor(np.asarray(units))
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} is {shown(units)}; expected whole numbers, one or more for each block") from None


def as_unit(given: object) -> Unit:
    """A unit of what a caller wrote: a Unit, (block, neuron), or ("head", block, index)."""
    parts = tuple(given) if isinstance(given, tuple | list) else (given,)
    if not isinstance(given, Unit) and len(parts) == 3 and isinstance(parts[0], str):
        parts = (*parts[1:], parts[0])
    numbers = [part for part in parts[:2] if isinstance(part, int | np.integer) and not isinstance(part, bool)]
    if len(parts) not in (2, 3) or len(numbers) != 2:
        raise InputError(f"{given!r} names no unit; expected (block, neuron) or ('head', block, index)")
    unit = Unit(int(numbers[0]), int(numbers[1]), *parts[2:])
    check_one_of("kind of unit", unit.kind, KINDS["both"])
    return unit


def place_of(unit: Unit, places: Sequence[Place]) -> int:
    """The number of the unit's site; refuses a unit that isn't there."""
    for site, place in enumerate(places):
        if (place.block, place.kind) == (unit.block, unit.kind):
            if not 0 <= unit.index < place.width:
                raise out_of_range(unit, place.width)
            return site
    blocks = [place.block for place in places if place.kind == unit.kind]
    if not blocks:
        raise InputError(f"{unit} is asked of {units_named(places)}; expected units of that kind")
    raise InputError(f"block {unit.block} is out of range; expected 0 to {max(blocks)}")


def out_of_range(unit: Unit, width: int) -> InputError:
    return InputError(f"{unit.kind} {unit.index} of block {unit.block} is out of range; expected 0 to {width - 1}")


def is_unit_list(units: object) -> bool:
    """Whether units are named one by one, as tuples, rather than by site."""
    return isinstance(units, list | tuple) and len(units) > 0 and all(isinstance(unit, tuple) for unit in units)


def at_units(values: Tensor, index: Tensor) -> Tensor:
    """Of a site's values (B, T, U) those of the units (B, K): (B, T, K)."""
    return values.gather(2, index[:, None].expand(-1, values.shape[1], -1))


def on_path(values: Sequence[Tensor], path: Tensor) -> Tensor:
    """Of values, a site (B, T, U), those of the path (B, S, K): (B, S, T, K)."""
    return torch.stack([at_units(v, path[:, site]) for site, v in enumerate(values)], 1)


def scaled(values: Tensor, index: Tensor, alpha: Tensor | float) -> Tensor:
    """Values (R, T, U) with the units (R, K) multiplied by alpha, one number or (R,)."""
    index = index[:, None].expand(-1, values.shape[1], -1)
    factor = alpha[:, None, None].to(values.dtype) if isinstance(alpha, Tensor) else alpha
    return values.scatter(2, index, values.gather(2, index) * factor)
