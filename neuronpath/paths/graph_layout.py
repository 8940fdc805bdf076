"""Where a graph's units and lines stand in any picture: blocks from left to right, heads above, neurons below, at last the output."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..units import Unit
from .graph import Edge, PathGraph

RAIL = 1.0  # from the middle to the innermost units
STACK, LANE = 0.36, 0.13  # from one unit of a site to the next, and from one line into the output to the next
ASIDE = 0.2  # of a block: heads stand so far left of its middle and neurons right of it
FEW = 48  # units up to which all are drawn, also those without an edge
MARGIN = 0.15

At = tuple[float, float]
Places = dict[Unit, At]


@dataclass(frozen=True)
class Line:
    """One edge: a cubic Bezier curve, and of an edge to the output the straight line from its end."""

    edge: Edge
    curve: tuple[At, At, At, At]
    end: At | None
    share: float
    """Its size, as a share of the largest."""

    def points(self) -> np.ndarray:
        """Points along it, (n, 2)."""
        t = np.linspace(0, 1, 41)[:, None]
        weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
        along = sum(weight * np.array(point) for weight, point in zip(weights, self.curve, strict=True))
        return along if self.end is None else np.concatenate([along, [self.end]])


class GraphLayout:
    """The places of one image's graph (B = 1) with its strongest ``edges``; x is in blocks, y upwards.

    ``lines`` has the strongest first, ``places`` the units drawn (of more than 48 those with an edge), ``total`` all units with what
    the output loses when each alone is ablated. ``right`` is the output's x, ``low`` to ``high`` its height, ``found`` the number of
    all edges.
    """

    def __init__(self, graph: PathGraph, edges: int) -> None:
        every = graph.edges_of(0)
        drawn = every[:edges]
        self.found = len(every)
        self.total = dict(zip(graph.units[0], graph.total[0].tolist(), strict=True))
        ends = {unit for edge in drawn for unit in edge[:2]}
        units = [unit for unit in graph.units[0] if len(self.total) <= FEW or unit in ends]
        self.blocks = sorted({place.block for place in graph.settings.sites} | {unit.block for unit in units}) or [0]
        self.places = _places(units, self.total)
        self.right = self.blocks[-1] + 0.9
        self.lines = _lines(drawn, self.places, self.right)
        heights = [0.0, *(y for _, y in self.places.values())]
        heights += [y for line in self.lines for y in line.points()[:, 1]]
        self.low, self.high = min(heights) - MARGIN, max(heights) + MARGIN


def side_of(unit: Unit) -> int:
    """1 above the middle, -1 below."""
    return 1 if unit.kind == "head" else -1


def _places(units: Sequence[Unit], total: dict[Unit, float]) -> Places:
    """Where units stand: of one site the one that counts most next to the middle, the others further out."""
    both = len({unit.kind for unit in units}) == 2
    stacks: dict[tuple[int, str], int] = {}
    found = {}
    for unit in sorted(units, key=lambda unit: -abs(total[unit])):
        level = stacks.get((unit.block, unit.kind), 0)
        stacks[unit.block, unit.kind] = level + 1
        found[unit] = (unit.block - side_of(unit) * ASIDE * both, side_of(unit) * (RAIL + STACK * level))
    return found


def _lines(edges: Sequence[Edge], places: Places, right: float) -> list[Line]:
    largest = max((abs(edge.effect) for edge in edges), default=0) or 1.0
    columns = [x for x, _ in places.values()] or [0.0]
    span, lanes = max(columns) - min(columns), _lanes(edges, places)
    found = []
    for edge in edges:
        share = abs(edge.effect) / largest
        if edge.receiver is None:
            lane = lanes[edge.sender]
            found.append(Line(edge, _to_output(edge.sender, places, lane, right), (right, lane), share))
        else:
            found.append(Line(edge, _between(places[edge.sender], places[edge.receiver], span), None, share))
    return found


def _lanes(edges: Sequence[Edge], places: Places) -> dict[Unit, float]:
    """Of every unit that sends straight to the output the height at which its line gets there.

    Earlier units have outer lanes, so that lines don't cross.
    """
    senders = {edge.sender for edge in edges if edge.receiver is None}
    lanes: dict[Unit, float] = {}
    for side in (-1, 1):
        first = max((side * y for _, y in places.values()), default=0.0) + 0.4
        mine = sorted(
            (u for u in senders if side_of(u) == side), key=lambda unit: (-places[unit][0], abs(places[unit][1]))
        )
        lanes |= {unit: side * (first + LANE * lane) for lane, unit in enumerate(mine)}
    return lanes


def _between(start: At, end: At, span: float) -> tuple[At, At, At, At]:
    """From unit to unit, through the middle: an arc within a kind, the deeper the longer; nearly straight from kind to kind."""
    (x0, y0), (x1, y1) = start, end
    wide = x1 - x0
    if y0 * y1 > 0:
        deep = (1 if y0 > 0 else -1) * (RAIL - 0.3 - 1.7 * wide / span)
        return start, (x0 + 0.2 * wide, deep), (x1 - 0.2 * wide, deep), end
    return start, (x0 + 0.3 * wide, 0.55 * y0), (x1 - 0.3 * wide, 0.55 * y1), end


def _to_output(unit: Unit, places: Places, lane: float, right: float) -> tuple[At, At, At, At]:
    """From a unit out to its lane and along it; round the units that stand further out."""
    x, y = places[unit]
    beyond = sum((other.block, other.kind) == unit[::2] and abs(places[other][1]) > abs(y) for other in places)
    bend = min(x + 0.08 + 0.16 * beyond, right - 0.2)
    return (x, y), (bend, y + 0.2 * (lane - y)), (bend, lane), (min(bend + 0.6, right), lane)
