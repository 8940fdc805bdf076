"""Paths through the blocks: one image's, and several methods' side by side."""

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..checks import InputError, checked
from ..data.given import Images, sliceable
from ..paths.layout import CLEAR, Layout, label_sides, largest_of, points_of, round_end, round_values
from ..paths.neuron_paths import NeuronPaths
from ..units import Unit
from .parts import (
    BLACK,
    FAINT,
    LINE,
    LOWERS,
    RAISES,
    SMALL,
    Picture,
    axes_for,
    block_axis,
    block_width,
    check_paths,
    decision,
    label,
    plain,
    show_image,
)  # fmt: skip

MARKS = {"neuron": "os", "head": "^v"}  # of units that raise the output, and of those that lower it


@checked
def plot_path(paths: NeuronPaths, images: Images | None = None, index: int = 0, ax: Axes | None = None) -> Figure:
    """One image's path: blocks from left to right, units from bottom to top, the path as a line through them.

    A point's area is the size of the unit's attribution, its colour and shape the sign. Heads are triangles,
    above the neurons. Of several units a site those are named for which there is room, the largest attributions first; the page
    (:func:`~neuronpath.report`) names the others when pointed at, and ``paths.to_frame()`` lists all.

    ``images`` (B, C, H, W) puts the input beside it, and below that what is left of the probability without the path and without a
    random one, as bars; with ``ax`` the path alone is drawn there.
    """
    images = sliceable(images)
    check_paths(paths, images, index)
    path = paths[index]
    layout = Layout(path.places, path.settings.passes)
    wide, tall, own = block_width(len(layout.blocks)), 4.6 if layout.both else 4.0, ax is None
    title = decision(path) + _worth(path)
    if ax is None and images is not None:
        figure: Figure = Picture(figsize=(wide + 3.2, tall), layout="constrained")
        columns: list[Any] = [["image", "path"], ["image" if path.left.isnan() else "left", "path"]]
        axes = figure.subplot_mosaic(columns, width_ratios=[2.6, wide], height_ratios=[tall - 1.2, 1.2])
        ax = axes["path"]
        show_image(axes["image"], images[index], path.names[0])
        if "left" in axes:
            _left(axes["left"], path)
            title = decision(path) + _worth(path, said=True)
    else:
        figure, ax = axes_for(ax, (wide + 0.6, tall))
    largest = largest_of(path)
    _draw(ax, path, largest)
    ax.set_title(title.rstrip(", "), fontsize=10)
    _legend(figure, ax, largest, own)
    return figure


@checked
def plot_methods(paths: Mapping[str, NeuronPaths], images: Images | None = None, index: int = 0) -> Figure:
    """One image's paths by several methods, side by side, drawn as by :func:`plot_path`.

    ``paths`` names the methods. What all of them chose is labelled in bold. Areas have one scale.
    """
    images = sliceable(images)
    if not isinstance(paths, Mapping) or not paths:
        raise InputError("paths names no methods; expected {name: NeuronPaths, ...}")
    for each in paths.values():
        check_paths(each, images, index)
    chosen = [each[index] for each in paths.values()]
    if any([place[:2] for place in path.places] != [place[:2] for place in chosen[0].places] for path in chosen):
        raise InputError(
            "paths are of models with different numbers of blocks, or of different units; expected the same in all"
        )
    largest = max(map(largest_of, chosen))
    common = set.intersection(*(set(path.units_of(0)) for path in chosen))
    beside = int(images is not None)
    layout = Layout(chosen[0].places, chosen[0].settings.passes)
    wide = min(1.4 + (0.65 if layout.both else 0.5) * len(layout.blocks), 12.0)
    figure = Picture(figsize=(2.4 * beside + wide * len(chosen), 4.8 if layout.both else 4.2), layout="constrained")
    axes = figure.subplots(1, beside + len(chosen), width_ratios=[2.4] * beside + [wide] * len(chosen), squeeze=False)[
        0
    ]
    if images is not None:
        show_image(axes[0], images[index], chosen[0].names[0])
    for ax, name, path in zip(axes[beside:], paths, chosen, strict=True):
        _draw(ax, path, largest, common)
        score = "" if path.score.isnan() else f"score {float(path.score[0]):.4g}, "
        figures = f"{score}removal {float(path.removal[0]):.4g}"
        ax.set_title(f"{plain(name)}: {decision(path).rstrip(', ')}\n{figures}", fontsize=10)
        if ax is not axes[beside]:
            ax.set_ylabel("")
    _legend(figure, axes[-1], largest, own=True)
    return figure


def _left(ax: Axes, path: NeuronPaths) -> None:
    """The target's probability as it is, without the path, and without a random one, as bars."""
    found = {"as it is": path.probability, "without the path": path.left, "without a random path": path.random_left}
    known = {name: float(value[0]) for name, value in found.items() if not value.isnan()}
    for row, ((name, value), colour) in enumerate(zip(known.items(), (LINE, BLACK, FAINT), strict=False)):
        ax.barh(row, value, 0.3, color=colour)
        ax.annotate(f"{name} {value:.3f}", (0, row), (0, 6), textcoords="offset points", fontsize=SMALL)
    ax.set(xlim=(0, round_end(max(known.values(), default=1.0))), ylim=(len(known) - 0.7, -0.9))
    ax.set_axis_off()


def _worth(path: NeuronPaths, said: bool = False) -> str:
    """What the path's method is about, in words; ``said`` if bars tell what is left."""
    if path.settings.influence == "live":
        if path.left.isnan():
            return f"removal takes {float(path.removal[0]):.4g}"
        if said:
            return ""
        return f"without the path {float(path.left[0]):.3f}, without a random one {float(path.random_left[0]):.3f}"
    if path.settings.objective == "complete":
        return f"attribution {float(path.attribution.sum()):.4g}"
    return f"joint attribution score {float(path.score[0]):.4g}"


def short(kind: str, index: int) -> str:
    """A unit's label where its block is plain: a neuron's number, or h and a head's."""
    return f"h{index}" if kind == "head" else str(index)


def _draw(ax: Axes, path: NeuronPaths, largest: float, bold: Set[Unit] = frozenset()) -> None:
    """The path of one image (B = 1), the units named in ``bold`` labelled so; areas on the scale that ends at ``largest``."""
    layout, points = points_of(path, largest)
    first = points[:: path.units.shape[2]]  # of several units a site the one that raises the output most
    several = len(points) > len(first)
    ax.plot([p.x for p in first], [p.y for p in first], color=LINE, linewidth=0.8 if layout.both else 1.5, zorder=1)
    for kind in layout.kinds:
        for raises, marker, colour in zip((True, False), MARKS[kind], (RAISES, LOWERS), strict=True):
            here = [p for p in points if p.unit.kind == kind and (p.attribution >= 0) == raises]
            name = f"{kind} that " if layout.both else ""
            ax.scatter(
                [p.x for p in here],
                [p.y for p in here],
                [_size(p.share) for p in here],
                colour,
                marker=marker,
                edgecolors="white",
                linewidths=0.8,
                zorder=2,
                label=name + ("raises the output" if raises else "lowers it"),
            )
    block_axis(ax, layout)
    if layout.both:
        ax.set_ylim(-0.13 * layout.height)  # room for labels below
    low, high = ax.get_ylim()
    root = ax.get_figure(root=True)
    assert root is not None
    tall = 72 * root.get_figheight() * ax.get_position().height / (high - low)  # points for 1 of y
    radius = [max(_size(p.share) ** 0.5 / 2, 5) for p in points]
    sides = label_sides(points, [tall * p.y for p in points], radius, SMALL + 3, below=layout.both and not several)
    for p, side, r in zip(points, sides, radius, strict=True):
        if side:
            weight = "bold" if p.unit in bold else "normal"
            label(ax, short(p.unit.kind, p.unit.index), (p.x, p.y), side * (r + CLEAR), weight)


def _size(share: float) -> float:
    """A point's area, in square points."""
    return 25 + 275 * share


def _legend(figure: Figure, ax: Axes, largest: float, own: bool) -> None:
    """The two signs' shapes, as far as they occur, and two areas: below the figure if it is our own, else in the axes."""
    signs = {
        points.get_label(): points
        for each in (figure.axes if own else [ax])
        for points in each.collections
        if np.size(points.get_offsets())
    }
    sizes = [
        Line2D([], [], color=LINE, marker="o", linestyle="", markersize=_size(value / largest) ** 0.5, markeredgecolor="white",
               label=f"attribution {value:g}")
        for value in round_values(largest)
    ]  # fmt: skip
    style = {"ncols": 3, "frameon": False, "fontsize": SMALL, "handles": [*signs.values(), *sizes]}
    legend = figure.legend(loc="outside lower right", **style) if own else ax.legend(**style)
    samples: list[Any] = legend.legend_handles
    for sample in samples[: len(signs)]:
        sample.set_sizes([50])  # the shapes alone, whatever the sizes of the points
