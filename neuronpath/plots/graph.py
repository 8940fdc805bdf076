"""The graph of a path or circuit: which unit feeds which, and what each sends straight to the output."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ..checks import InputError, check_count, checked
from ..paths.graph import Edge, PathGraph
from ..units import Unit
from .parts import LOWERS, RAISES, SMALL, TEXT, axes_for, plain, tidy
from .path import MARKS, short

Places = dict[Unit, tuple[float, float]]

RAIL = 1.0  # from the middle to the innermost units
STACK, LANE = 0.36, 0.13  # from one unit of a site to the next, and from one line into the output to the next
ASIDE = 0.2  # of a block: heads stand so far left of its middle and neurons right of it
WIDEST, DASHES = 7.0, (0, (2.2, 0.9))  # points, and in line widths
FEW = 48  # units up to which all are drawn, also those without an edge
BAR = "#333333"


@checked
def plot_graph(graph: PathGraph, index: int = 0, ax: Axes | None = None, *, edges: int = 40) -> Figure:
    """One image's graph: blocks from left to right, heads above, neurons below, the output at the right.

    A line's width is the size of the direct effect, its colour and dashes the sign: solid blue raises the output, dashed vermillion
    lowers it. Lines through the middle go from unit to unit, those along the top and the bottom straight to the output. A point's
    size is what the output loses when the unit alone is ablated and all else follows; its shape says kind and sign.

    Args:
        graph: as :func:`~neuronpath.path_graph` gives it.
        index: the image.
        ax: axes to draw in.
        edges: the most edges that are drawn, the strongest first; the title says of how many. Of more than 48 units only those with an
            edge are drawn.

    Raises:
        InputError: for what is no graph, an index that it lacks, or no whole number of edges.
    """
    if not -len(graph) <= index < len(graph):
        raise InputError(f"index {index} is out of range; expected 0 to {len(graph) - 1}")
    check_count("edges", edges)
    graph = graph[index]
    every = graph.edges_of(0)
    drawn = every[:edges]
    total = dict(zip(graph.units[0], graph.total[0].tolist(), strict=True))
    ends = {unit for edge in drawn for unit in edge[:2]}
    units = [unit for unit in graph.units[0] if len(total) <= FEW or unit in ends]
    blocks = sorted({place.block for place in graph.settings.sites} | {unit.block for unit in units})
    figure, ax = axes_for(ax, (min(2.8 + 0.85 * len(blocks), 14), 5))
    places = _places(units, total)
    heights = _draw_edges(ax, drawn, places, blocks[-1] + 0.9)
    _draw_units(ax, units, total, places)
    _frame(ax, blocks, units, heights)
    ax.set_title(_title(graph, drawn, len(every), units, total), fontsize=10)
    return figure


def _places(units: Sequence[Unit], total: dict[Unit, float]) -> Places:
    """Where units stand: of one site the one that counts most next to the middle, the others further out."""
    both = len({unit.kind for unit in units}) == 2
    stacks: dict[tuple[int, str], int] = {}
    found = {}
    for unit in sorted(units, key=lambda unit: -abs(total[unit])):
        level = stacks.get((unit.block, unit.kind), 0)
        stacks[unit.block, unit.kind] = level + 1
        found[unit] = (unit.block - _side(unit) * ASIDE * both, _side(unit) * (RAIL + STACK * level))
    return found


def _side(unit: Unit) -> int:
    """1 above the middle, -1 below."""
    return 1 if unit.kind == "head" else -1


def _draw_edges(ax: Axes, edges: Sequence[Edge], places: Places, right: float) -> tuple[float, float]:
    """All edges, the strongest on top, and the bar of the output; returns the lowest and the highest y."""
    lanes = _lanes(edges, places)
    largest = max((abs(edge.effect) for edge in edges), default=0) or 1.0
    span = max((x for x, _ in places.values()), default=0) - min((x for x, _ in places.values()), default=0)
    heights = [0.0, *(y for _, y in places.values())]
    for edge in reversed(edges):
        if edge.receiver is None:
            curve = _to_output(edge.sender, places, lanes[edge.sender], right)
        else:
            curve = _between(places[edge.sender], places[edge.receiver], span)
        heights += [curve[:, 1].min(), curve[:, 1].max()]
        raises, share = edge.effect >= 0, abs(edge.effect) / largest
        lines = LineCollection([curve], linewidths=0.5 + (WIDEST - 0.5) * share, colors=RAISES if raises else LOWERS,
                               linestyles="-" if raises else [DASHES], alpha=0.6, zorder=1 + share)  # fmt: skip
        ax.add_collection(lines)
    low, high = min(heights) - 0.15, max(heights) + 0.15
    ax.add_patch(Rectangle((right, low), 0.1, high - low, color=BAR, linewidth=0, zorder=2.5))
    ax.annotate(
        "output",
        (right + 0.1, (low + high) / 2),
        (4, 0),
        textcoords="offset points",
        rotation=90,
        va="center",
        fontsize=TEXT,
    )
    return low, high


def _lanes(edges: Sequence[Edge], places: Places) -> dict[Unit, float]:
    """Of every unit that sends straight to the output the height at which its line gets there.

    Earlier units have outer lanes, so that lines don't cross.
    """
    senders = {edge.sender for edge in edges if edge.receiver is None}
    lanes: dict[Unit, float] = {}
    for side in (-1, 1):
        first = max((side * y for _, y in places.values()), default=0.0) + 0.4
        mine = sorted(
            (u for u in senders if _side(u) == side), key=lambda unit: (-places[unit][0], abs(places[unit][1]))
        )
        lanes |= {unit: side * (first + LANE * lane) for lane, unit in enumerate(mine)}
    return lanes


def _curve(*points: tuple[float, float]) -> np.ndarray:
    """The cubic Bezier curve of four points, (41, 2)."""
    t = np.linspace(0, 1, 41)[:, None]
    weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
    return sum(weight * np.array(point) for weight, point in zip(weights, points, strict=True))


def _between(start: tuple[float, float], end: tuple[float, float], span: float) -> np.ndarray:
    """From unit to unit, through the middle: an arc within a kind, the deeper the longer; nearly straight from kind to kind."""
    (x0, y0), (x1, y1) = start, end
    wide = x1 - x0
    if y0 * y1 > 0:
        deep = np.sign(y0) * (RAIL - 0.3 - 1.7 * wide / span)
        return _curve(start, (x0 + 0.2 * wide, deep), (x1 - 0.2 * wide, deep), end)
    return _curve(start, (x0 + 0.3 * wide, 0.55 * y0), (x1 - 0.3 * wide, 0.55 * y1), end)


def _to_output(unit: Unit, places: Places, lane: float, right: float) -> np.ndarray:
    """From a unit out to its lane and along it; round the units that stand further out."""
    x, y = places[unit]
    beyond = sum((other.block, other.kind) == unit[::2] and abs(places[other][1]) > abs(y) for other in places)
    bend = min(x + 0.08 + 0.16 * beyond, right - 0.2)
    out = _curve((x, y), (bend, y + 0.2 * (lane - y)), (bend, lane), (min(bend + 0.6, right), lane))
    return np.concatenate([out, [(right, lane)]])


def _draw_units(ax: Axes, units: Sequence[Unit], total: dict[Unit, float], places: Places) -> None:
    largest = max((abs(total[unit]) for unit in units), default=0) or 1.0
    signs = ((True, RAISES, "raises"), (False, LOWERS, "lowers"))
    handles: list = [
        Line2D(
            [],
            [],
            color=colour,
            linewidth=2.5,
            alpha=0.6,
            linestyle="-" if raises else DASHES,
            label=f"{word} the output",
        )
        for raises, colour, word in signs
    ]
    for kind in ("head", "neuron"):
        for marker, (raises, colour, word) in zip(MARKS[kind], signs, strict=True):
            here = [unit for unit in units if unit.kind == kind and (total[unit] >= 0) == raises]
            if here:
                x, y = zip(*(places[unit] for unit in here), strict=True)
                areas = [30 + 190 * abs(total[unit]) / largest for unit in here]
                ax.scatter(x, y, areas, colour, marker=marker, edgecolors="white", linewidths=0.8, zorder=3)
                handles.append(
                    Line2D(
                        [], [], color=colour, marker=marker, markersize=6, linestyle="", label=f"{kind} that {word} it"
                    )
                )
    box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
    for unit in units:
        ax.annotate(short(unit.kind, unit.index), places[unit], (-6, 3 * _side(unit)), textcoords="offset points", ha="right",
                    va="center", fontsize=SMALL, bbox=box, zorder=4)  # fmt: skip
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=6, frameon=False, fontsize=SMALL)


def _frame(ax: Axes, blocks: Sequence[int], units: Sequence[Unit], heights: tuple[float, float]) -> None:
    low, high = heights
    tidy(ax)
    ax.set(xlabel="block", xlim=(blocks[0] - 0.7, blocks[-1] + 1.25), ylim=(low - 0.12, high + 0.12))
    ax.set_xticks(blocks)
    kinds = sorted({unit.kind for unit in units})
    ax.set_yticks([RAIL if kind == "head" else -RAIL for kind in kinds], [f"{kind}s" for kind in kinds])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _title(graph: PathGraph, drawn: Sequence[Edge], edges: int, units: Sequence[Unit], total: dict[Unit, float]) -> str:
    """What is explained, how much of it is drawn, and what the widest line and the largest point stand for."""
    target, probability = int(graph.target[0]), float(graph.probability[0])
    shown = f"{edges:,} edges" if edges == len(drawn) else f"the {len(drawn)} strongest of {edges:,} edges"
    if len(units) < len(total):
        shown += f", {len(units)} of {len(total)} units"
    if target >= 0:
        shown = f"class {plain(graph.class_names.get(target, str(target)))}, probability {probability:.3f}: {shown}"
    if not drawn:
        return shown
    scale = f"widest line {abs(drawn[0].effect):.2g}, largest point {max(map(abs, total.values())):.2g} {plain(graph.settings.output)}"
    how = ("patched" if graph.patched else "estimated") + (", all other units ablated" if graph.inside else "")
    return f"{shown}\n{scale}; {how}"
