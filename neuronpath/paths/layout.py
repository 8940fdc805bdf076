"""Where a path's points stand in any picture of it: blocks from left to right, units from bottom to top, heads above neurons."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..units import Place, Unit
from .neuron_paths import NeuronPaths

ASIDE = (
    0.22  # of a block: where a block has both, its heads stand so far left of its middle and its neurons right of it
)
GAP, BAND = 0.18, 0.55  # the space below the heads and what they take, as shares of the widest block's neurons
CROWDED = 0.08  # of a band: a unit this near below another of its site has its label below itself
NAMED = 8  # heads up to which each has its tick


@dataclass(frozen=True)
class Point:
    """One unit of one image's path."""

    unit: Unit
    attribution: float
    activation: float
    x: float  # in blocks
    y: float  # in the layout's height
    share: float  # of the largest |attribution| of the path
    crowded: bool  # whether another label stands above


class Layout:
    """The places of units: ``x`` in blocks, ``y`` from 0 to ``height``. With one kind of units ``y`` is their index."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = list(places)
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

    def band(self, site: int) -> float:
        """How much of ``y`` the units of the site's kind take."""
        kind = self.places[site].kind
        return self.widest["neuron"] * BAND if self.both and kind == "head" else self.widest[kind]

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


def points_of(path: NeuronPaths) -> tuple[Layout, list[Point]]:
    """The layout and the points of one image's path (B = 1), site by site."""
    layout = Layout(path.places)
    units, worth, active = path.units[0].tolist(), path.attribution[0].tolist(), path.activations[0].tolist()
    largest = max((abs(w) for row in worth for w in row), default=0) or 1.0
    points = []
    for site, (block, kind, _) in enumerate(layout.places):
        heights = [float(layout.y(site, unit)) for unit in units[site]]
        for k, y in enumerate(heights):
            crowded = any(0 < other - y < CROWDED * layout.band(site) for other in heights)
            points.append(
                Point(
                    Unit(block, units[site][k], kind), worth[site][k], active[site][k], layout.x(site), y,
                    abs(worth[site][k]) / largest, crowded,
                )
            )  # fmt: skip
    return layout, points
