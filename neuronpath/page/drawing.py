"""Paths, circuits and graphs as coordinates: what a viewer draws, in the drawing's own pixels, as plain data."""

from typing import Any

from ..paths.circuit import Circuit
from ..paths.circuit_layout import Stacks
from ..paths.graph import PathGraph
from ..paths.graph_layout import RAIL, GraphLayout, side_of
from ..paths.layout import label_sides, points_of
from ..paths.neuron_paths import NeuronPaths
from ..paths.settings import Settings
from ..units import Unit

COLUMN, HEIGHT, LEFT, TOP, BOTTOM = 46, 262, 52, 34, 52
TEXT = 12  # the height of a label
ROW, GRAPH = 18, 72  # a row of a circuit; 1 of a graph's height
EDGES, WIDEST = 40, 9.0  # of a graph: lines drawn, and the widest

Drawing = dict[str, Any]


def key_of(unit: Unit) -> str:
    """The unit's name in ids and addresses."""
    return f"block-{unit.block}-{unit.kind}-{unit.index}"


def short_of(unit: Unit) -> str:
    """The unit's name where its block is plain."""
    return f"h{unit.index}" if unit.kind == "head" else str(unit.index)


def block_name(block: int, settings: Settings) -> int | str:
    """A block's number; of a model whose blocks share weights its loop and its shared block."""
    return "{}.{}".format(*settings.passes[block]) if settings.passes else block


def _columns(settings: Settings) -> str:
    return "loop.block" if settings.passes else "block"


def _point(unit: Unit, settings: Settings, x: float, y: float, r: float, sign: int, **more: Any) -> Drawing:
    """A unit in a drawing; ``label`` is None where there is no room for its name."""
    names = {"key": key_of(unit), "block": unit.block, "kind": unit.kind, "index": unit.index}
    called = {"title": settings.name_of(unit), "place": block_name(unit.block, settings)}
    place = {"x": round(x, 1), "y": round(y, 1), "r": round(r, 1), "sign": sign}
    return {
        **names,
        **called,
        "name": short_of(unit),
        "attribution": None,
        "activation": None,
        "rank": None,
        **place,
        **more,
    }


def radius_of(share: float) -> float:
    """A path's point's, of this share of the scale: areas are as the attributions."""
    return (12 + 110 * share) ** 0.5


def path_drawing(path: NeuronPaths, largest: float) -> Drawing:
    """One image's path (B = 1), its areas on the scale that ends at ``largest``."""
    layout, points = points_of(path, largest)
    column = COLUMN * (1.6 if layout.both else 1.0)
    sites, k = path.units.shape[1:]
    x = [LEFT + column * (point.x - layout.blocks[0] + 0.5) for point in points]

    def height(place: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * place / layout.height, 1)

    y = [height(point.y) for point in points]
    r = [radius_of(point.share) for point in points]
    sides = label_sides(points, [-value for value in y], [value + 4 for value in r], TEXT, below=layout.both and k == 1)
    shown = []
    for at, point in enumerate(points):
        lift = {1: -r[at] - 7, -1: r[at] + 15}.get(sides[at])
        label = None if lift is None else [round(x[at], 1), round(y[at] + lift, 1), "middle"]
        worth = {"attribution": _short(point.attribution), "activation": _short(point.activation)}
        shown.append(
            _point(
                point.unit,
                path.settings,
                x[at],
                y[at],
                r[at],
                1 if point.attribution >= 0 else -1,
                label=label,
                **worth,
            )
        )
    return {
        "width": round(LEFT + column * len(layout.blocks) + 6),
        "height": HEIGHT,
        "left": LEFT,
        "axis": layout.axis,
        "hit": round(column * len(layout.blocks) / sites, 1) if k == 1 else None,
        "columns": _columns(path.settings),
        "blocks": [
            [block_name(block, path.settings), round(LEFT + column * (at + 0.5), 1)]
            for at, block in enumerate(layout.blocks)
        ],
        "ticks": _apart([[name, height(place)] for place, name in layout.ticks()]),
        "line": [[point["x"], point["y"]] for point in shown[::k]],
        "points": shown,
    }


def _apart(ticks: list[Any]) -> list[Any]:
    """Ticks (name, y) from below, less those that would touch the one before."""
    found = ticks[:1]
    for tick in ticks[1:]:
        if found[-1][1] - tick[1] >= 10:
            found.append(tick)
    return found


def circuit_drawing(circuit: Circuit) -> Drawing:
    """One image's circuit (B = 1): the more important a unit, the larger it is and the lower it stands in its column."""
    stacks = Stacks(circuit.units[0], circuit.settings.sites)
    few = stacks.across == 1
    column = max(COLUMN, 12 * stacks.across)
    bottom = 14 + ROW * (stacks.height + 0.2)
    shown = []
    for spot in sorted(stacks, key=lambda spot: spot.rank):
        x = LEFT + 6 + column * (spot.x - stacks.blocks[0] + 0.5) - 12 * few
        y, r = bottom - ROW * (spot.y + 0.1), (3.0 if few else 2.2) + (4.0 if few else 2.6) * spot.weight
        label = [round(x + r + 4, 1), round(y + 4, 1), "start"] if few else None
        shown.append(_point(spot.unit, circuit.settings, x, y, r, 1, label=label, rank=spot.rank + 1))
    return {
        "width": round(LEFT + 6 + column * len(stacks.blocks) + 6),
        "height": round(bottom + 40),
        "left": LEFT + 6,
        "axis": "",
        "hit": None,
        "columns": _columns(circuit.settings),
        "blocks": [
            [block_name(block, circuit.settings), round(LEFT + 6 + column * (block - stacks.blocks[0] + 0.5), 1)]
            for block in stacks.blocks
        ],
        "ticks": [[f"{kind}s", round(bottom - ROW * (base + 0.1), 1)] for kind, base in stacks.bases.items()],
        "line": [],
        "points": shown,
    }


def graph_drawing(graph: PathGraph) -> Drawing:
    """One image's graph (B = 1): its strongest edges as Bezier curves, the strongest last, so that it lies on top."""
    layout = GraphLayout(graph, EDGES)
    column = 1.5 * COLUMN

    def at(place: tuple[float, float]) -> list[float]:
        x, y = place
        return [round(LEFT + column * (x - layout.blocks[0] + 0.6), 1), round(12 + GRAPH * (layout.high - y), 1)]

    lines = []
    for line in reversed(layout.lines):
        start, *curve = (at(place) for place in line.curve)
        path = f"M {start[0]} {start[1]} C " + " ".join(f"{x} {y}" for x, y in curve)
        if line.end is not None:
            path += " L {} {}".format(*at(line.end))
        sender, receiver, effect = line.edge
        one, other = (graph.settings.name_of(unit) if unit else "the output" for unit in (sender, receiver))
        lines.append(
            {
                "path": path,
                "from": key_of(sender),
                "to": key_of(receiver) if receiver else "output",
                "effect": _short(effect),
                "title": f"{one} to {other}: {effect:+.3g}",
                "width": round(0.6 + (WIDEST - 0.6) * line.share, 1),
                "sign": 1 if effect >= 0 else -1,
            }
        )
    largest = max(map(abs, layout.total.values()), default=0) or 1.0
    shown = []
    for unit, place in layout.places.items():
        (x, y), total = at(place), layout.total[unit]
        r = radius_of(abs(total) / largest)
        label = [round(x - r - 3, 1), round(y + 4 - 3 * side_of(unit), 1), "end"]
        shown.append(
            _point(unit, graph.settings, x, y, r, 1 if total >= 0 else -1, label=label, attribution=_short(total))
        )
    right, bottom = at((layout.right, layout.low))
    high = at((layout.right, layout.high))[1]
    kinds = {unit.kind for unit in layout.places}
    return {
        "width": round(right + 34),
        "height": round(bottom + 40),
        "left": LEFT,
        "columns": _columns(graph.settings),
        "blocks": [[block_name(block, graph.settings), at((block, 0))[0]] for block in layout.blocks],
        "ticks": [[f"{kind}s", at((0, RAIL if kind == "head" else -RAIL))[1]] for kind in sorted(kinds)],
        "line": [],
        "output": [right, high, bottom],
        "lines": lines,
        "points": shown,
        "edges": layout.found,
        "units": len(layout.total),
        "straight": _share(float(graph.straight[0])),
        "unit": graph.settings.output,
        "widest": _short(max((abs(line.edge.effect) for line in layout.lines), default=0)),
        "largest": _short(largest),
        "patched": graph.patched,
        "inside": graph.inside,
    }


def _share(value: float) -> float | None:
    return None if value != value else round(value, 4)


def _short(value: float) -> float:
    return float(f"{value:.4g}")
