"""The graph of a path or circuit: which unit feeds which, and what each sends straight to the output."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ..checks import InputError, check_count, checked
from ..paths.graph import PathGraph
from ..paths.graph_layout import RAIL, GraphLayout, Places, side_of
from ..units import Passes, Unit
from .parts import LOWERS, RAISES, SMALL, TEXT, axes_for, block_ticks, plain, tidy
from .path import MARKS, short

WIDEST, DASHES = 7.0, (0, (2.2, 0.9))  # points, and in line widths
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
    layout = GraphLayout(graph, edges)
    figure, ax = axes_for(ax, (min(2.8 + 0.85 * len(layout.blocks), 14), 5))
    _draw_edges(ax, layout)
    _draw_units(ax, list(layout.places), layout.total, layout.places)
    _frame(ax, layout, graph.settings.passes)
    ax.set_title(_title(graph, layout), fontsize=10)
    return figure


def _draw_edges(ax: Axes, layout: GraphLayout) -> None:
    """All edges, the strongest on top, and the bar of the output."""
    for line in reversed(layout.lines):
        raises = line.edge.effect >= 0
        drawn = LineCollection([line.points()], linewidths=0.5 + (WIDEST - 0.5) * line.share, colors=RAISES if raises else LOWERS,
                               linestyles="-" if raises else [DASHES], alpha=0.6, zorder=1 + line.share)  # fmt: skip
        ax.add_collection(drawn)
    right, low, high = layout.right, layout.low, layout.high
    ax.add_patch(Rectangle((right, low), 0.1, high - low, color=BAR, linewidth=0, zorder=2.5))
    ax.annotate("output", (right + 0.1, (low + high) / 2), (4, 0), textcoords="offset points", rotation=90, va="center",
                fontsize=TEXT)  # fmt: skip


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
        ax.annotate(short(unit.kind, unit.index), places[unit], (-6, 3 * side_of(unit)), textcoords="offset points", ha="right",
                    va="center", fontsize=SMALL, bbox=box, zorder=4)  # fmt: skip
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=6, frameon=False, fontsize=SMALL)


def _frame(ax: Axes, layout: GraphLayout, passes: Passes) -> None:
    tidy(ax)
    ax.set(
        xlim=(layout.blocks[0] - 0.7, layout.blocks[-1] + 1.25),
        ylim=(layout.low - 0.12, layout.high + 0.12),
    )
    block_ticks(ax, layout.blocks, passes)
    kinds = sorted({unit.kind for unit in layout.places})
    ax.set_yticks([RAIL if kind == "head" else -RAIL for kind in kinds], [f"{kind}s" for kind in kinds])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _title(graph: PathGraph, layout: GraphLayout) -> str:
    """What is explained, how much of it is drawn, and what the widest line and the largest point stand for."""
    drawn, total = layout.lines, layout.total
    target, probability = int(graph.target[0]), float(graph.probability[0])
    shown = (
        f"{layout.found:,} edges"
        if layout.found == len(drawn)
        else f"the {len(drawn)} strongest of {layout.found:,} edges"
    )
    if len(layout.places) < len(total):
        shown += f", {len(layout.places)} of {len(total)} units"
    if target >= 0:
        shown = f"class {plain(graph.class_names.get(target, str(target)))}, probability {probability:.3f}: {shown}"
    if not drawn:
        return shown
    widest, largest = abs(drawn[0].edge.effect), max(map(abs, total.values()))
    scale = f"widest line {widest:.2g}, largest point {largest:.2g} {plain(graph.settings.output)}"
    how = ("patched" if graph.patched else "estimated") + (", all other units ablated" if graph.inside else "")
    return f"{shown}\n{scale}; {how}"
