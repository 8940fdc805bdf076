"""Where a path's points stand in any picture of it: blocks from left to right, units from bottom to top, heads above neurons."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..units import Passes, Place, Unit
from .neuron_paths import NeuronPaths

ASIDE = 0.22  # of a block: where it has both, heads stand so far left of its middle and neurons right of it
GAP, BAND = 0.18, 0.55  # the space below the heads and what they take, as shares of the widest block's neurons
NAMED = 8  # heads up to which each has its tick
CLEAR = 2.0  # of a text's height in pixels or points: how far it stands from a point, and from another text


@dataclass(frozen=True)
class Point:
    """One unit of one image's path."""

    unit: Unit
    attribution: float
    activation: float
    x: float  # in blocks
    y: float  # in the layout's height
    share: float  # of the largest |attribution| on the scale


class Layout:
    """The places of units: ``x`` in blocks, ``y`` from 0 to ``height``. With one kind of units ``y`` is their index."""

    def __init__(self, places: Sequence[Place], passes: Passes = ()) -> None:
        self.places, self.passes = list(places), passes
        self.kinds = list(dict.fromkeys(place.kind for place in self.places))
        self.blocks = sorted({place.block for place in self.places})
        self.widest = {kind: max(p.width for p in self.places if p.kind == kind) for kind in self.kinds}

    @cached_property
    def both(self) -> bool:
        return len(self.kinds) == 2

    @property
    def height(self) -> float:
        """The upper end of ``y``."""
        neurons = self.widest.get("neuron", self.widest[self.kinds[0]])
        return neurons * (1 + GAP + BAND) if self.both else neurons

    @property
    def axis(self) -> str:
        """What the vertical axis counts."""
        return "neuron, and above: head" if self.both else self.kinds[0]

    def x(self, site: int) -> float:
        block, kind, _ = self.places[site]
        return block + (0 if not self.both else -ASIDE if kind == "head" else ASIDE)

    def y(self, site: int, index: np.ndarray | int) -> np.ndarray | float:
        if not self.both or self.places[site].kind == "neuron":
            return index
        return self.widest["neuron"] * (1 + GAP + BAND * (index + 0.5) / self.widest["head"])

    def ticks(self) -> list[tuple[float, str]]:
        """Marks for the vertical axis: of neurons the ends and the middle, of heads each, or some where there are many."""
        found = []
        for kind in reversed(self.kinds):
            site = next(s for s, place in enumerate(self.places) if place.kind == kind)
            widest = self.widest[kind]
            some = range(0, widest, -(-widest // NAMED))
            marks = [0, widest // 2, widest] if kind == "neuron" else some
            prefix = "h" if kind == "head" else ""
            found += [(float(self.y(site, mark)), f"{prefix}{mark}") for mark in marks]
        return found


def largest_of(paths: NeuronPaths) -> float:
    """The largest \\|attribution\\|, the end of a scale that all these paths share; 1 where all are 0."""
    return float(paths.attribution.abs().max()) or 1.0 if paths.attribution.numel() else 1.0


def points_of(path: NeuronPaths, largest: float | None = None) -> tuple[Layout, list[Point]]:
    """The layout and the points of one image's path (B = 1), site by site, those of a site from the highest attribution to the lowest.

    ``largest`` is the end of the scale of their sizes.
    """
    layout, largest = Layout(path.places, path.settings.passes), largest or largest_of(path)
    units, worth, active = path.units[0].tolist(), path.attribution[0].tolist(), path.activations[0].tolist()
    points = [
        Point(Unit(block, units[site][k], kind), worth[site][k], active[site][k], layout.x(site), float(layout.y(site, units[site][k])),
              abs(worth[site][k]) / largest)
        for site, (block, kind, _) in enumerate(layout.places)
        for k in sorted(range(len(units[site])), key=lambda k: -worth[site][k])
    ]  # fmt: skip
    return layout, points


def label_sides(
    points: Sequence[Point], y: Sequence[float], radius: Sequence[float], text: float, below: bool
) -> list[int]:
    """On which side of each point its label stands: 1 above, -1 below, 0 where there is no room for it in its column.

    The largest attributions choose first, and the largest of a column has its label in any case. ``y``, upwards, ``radius`` and the
    ``text``'s height are in the picture's own measure. ``below`` has neurons' labels rather stand below, where no line comes from heads
    above.
    """
    sides = [0] * len(points)
    columns: dict[float, list[int]] = {}
    for at, point in enumerate(points):
        columns.setdefault(point.x, []).append(at)
    for column in columns.values():
        taken = {at: (y[at] - radius[at], y[at] + radius[at]) for at in column}
        labels: list[tuple[float, float]] = []
        for at in sorted(column, key=lambda at: -points[at].share):
            first, second = (-1, 1) if below and points[at].unit.kind == "neuron" else (1, -1)
            others = [*labels, *(spot for other, spot in taken.items() if other != at)]
            for side in (first, second):
                near = y[at] + side * (radius[at] + CLEAR)
                low, high = min(near, near + side * text), max(near, near + side * text)
                if not any(low < b and a < high for a, b in others) or (side == second and not labels):
                    sides[at] = side
                    labels.append((low - CLEAR, high + CLEAR))
                    break
    return sides


def round_end(most: float) -> float:
    """Where bars of probabilities end that are at most this: at 1, or where all are small at a round number."""
    if not 0 < most <= 0.2:
        return 1.0
    power = 10 ** math.floor(math.log10(most))
    return float(f"{next(step * power for step in (1, 2, 5, 10) if step * power >= most * (1 - 1e-9)):.1g}")


def round_values(largest: float) -> list[float]:
    """Two round numbers for the legend of a scale that ends at ``largest``: 1, 2 or 5 by a power of ten, and a tenth of it."""
    power = 10 ** math.floor(math.log10(largest))
    most = max(step * power for step in (1, 2, 5) if step * power <= largest * (1 + 1e-9))
    return [most / 10, most]
