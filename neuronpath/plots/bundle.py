"""Many images' paths as bundles, a bundle a class."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..checks import check_count, checked
from ..paths.layout import Layout
from ..paths.neuron_paths import NeuronPaths
from ..paths.run import Run
from .parts import BLUE, FAINT, LINE, SMALL, Picture, axes_for, block_axis, block_width, label, paths_of, plain
from .path import MARKS, short

SHARES = (0.1, 0.5, 1.0)  # of the images, in the legend
NAMED = 0.3  # a unit that fewer of a class's images share has no name beside others


@checked
def plot_paths(paths: NeuronPaths | Run, ax: Axes | None = None, *, classes: int = 12) -> Figure:
    """Many images' paths as bundles: what more of them share is thicker and darker; of several classes a panel each.

    A point's area is the share of the images whose path holds the unit, on one scale for all panels, a line's width and darkness the
    share that goes from the one unit to the next (of several units a site, the first). The commonest unit of every site is named;
    beside other classes only where it is on 30 % of its class's paths. Pale points in a panel are units of the other classes.

    Args:
        paths: those of at least one image; or a :class:`~neuronpath.Run`, of which 200 are drawn, at random.
        ax: axes to draw all paths in, as one bundle.
        classes: the most panels; those with the most images are drawn.
    """
    check_count("classes", classes)
    paths, counted = paths_of(paths)
    layout = Layout(paths.places, paths.settings.passes)
    labels, counts = np.unique(paths.target.numpy(), return_counts=True)
    if ax is not None or len(labels) == 1:
        figure, ax = axes_for(ax, (block_width(paths.units.shape[1]) + 0.6, 5.2 if layout.both else 4.4))
        _bundle(ax, paths, layout)
        ax.set_title(counted, fontsize=10)
        _legend(figure)
        return figure
    drawn = sorted(labels[np.argsort(-counts, kind="stable")[:classes]].tolist())
    columns = 2 if len(layout.blocks) > 8 or len(drawn) in (2, 4) else 3
    rows = -(-len(drawn) // columns)
    wide = min(1.2 + 0.42 * paths.units.shape[1] ** 0.9, 14.0 / columns)
    figure = Picture(figsize=(wide * columns, (2.9 if layout.both else 2.3) * rows + 0.5), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for each, target in zip(axes, drawn, strict=False):
        mine = paths[paths.target == target]
        _others(each, paths[paths.target != target], layout)
        _bundle(each, mine, layout, NAMED)
        name = f"class {plain(paths.name_of(target))}: " if target >= 0 else ""
        each.set_title(f"{name}{len(mine)} image{'s' * (len(mine) != 1)}", fontsize=9.5)
        each.set(xlabel="", ylabel="")
    for at, each in enumerate(axes):
        each.tick_params(labelbottom=at + columns >= len(drawn))
        each.set_visible(at < len(drawn))
    left_out = len(labels) - len(drawn)
    notes = [counted] if "drawn" in counted else []
    notes += [f"{left_out} more classes have fewer images"] if left_out else []
    figure.supxlabel(
        ("loop.block" if paths.settings.passes else "block") + (f" ({'; '.join(notes)})" if notes else ""),
        fontsize=9.5,
    )
    figure.supylabel(layout.axis, fontsize=9.5)
    _legend(figure)
    return figure


def _bundle(ax: Axes, paths: NeuronPaths, layout: Layout, named: float = 0.0) -> None:
    """One bundle; the commonest unit of a site has its name where this share of the images holds it."""
    images, sites, _ = paths.units.shape
    units = paths.units.numpy()
    segments, shares = [], []
    for site in range(sites - 1):
        pairs, counts = np.unique(units[:, site : site + 2, 0], axis=0, return_counts=True)
        ends = (site, site + 1)
        segments += [[(layout.x(s), layout.y(s, unit)) for s, unit in zip(ends, pair, strict=True)] for pair in pairs]
        shares += (counts / images).tolist()
    order = np.argsort(shares)  # the thickest on top
    ax.add_collection(
        LineCollection(
            [segments[i] for i in order],
            linewidths=[0.6 + 4.5 * shares[i] for i in order],
            colors=[to_rgba(LINE, 0.35 + 0.65 * shares[i]) for i in order],
            zorder=1,
        )
    )
    for site, (_, kind, _) in enumerate(layout.places):
        found, counts = np.unique(units[:, site], return_counts=True)
        areas, commonest = np.array([_area(count / images) for count in counts]), counts.argmax()
        x, y = layout.x(site), np.asarray(layout.y(site, found))
        ax.scatter(
            np.full(len(found), x), y, areas, BLUE, marker=MARKS[kind][0], edgecolors="white", linewidths=0.6, zorder=2
        )
        if counts[commonest] >= named * images:
            label(ax, short(kind, found[commonest]), (x, y[commonest]), 5 + 0.5 * areas[commonest] ** 0.5)
    block_axis(ax, layout)


def _others(ax: Axes, paths: NeuronPaths, layout: Layout) -> None:
    """The units of other classes' paths, pale."""
    for site, (_, kind, _) in enumerate(layout.places):
        found, counts = np.unique(paths.units[:, site].numpy(), return_counts=True)
        x, y = np.full(len(found), layout.x(site)), np.asarray(layout.y(site, found))
        ax.scatter(
            x,
            y,
            [_area(count / len(paths)) for count in counts],
            FAINT,
            marker=MARKS[kind][0],
            linewidths=0,
            zorder=0.5,
        )


def _legend(figure: Figure) -> None:
    samples = [
        Line2D([], [], color=BLUE, marker="o", linestyle="", markersize=_area(share) ** 0.5, markeredgecolor="white",
               label=f"{share:.0%}")
        for share in SHARES
    ]  # fmt: skip
    figure.legend(handles=samples, loc="outside lower right", ncols=4, frameon=False, fontsize=SMALL, title="share of the images",
                  title_fontsize=SMALL)  # fmt: skip


def _area(share: float) -> float:
    return 8 + 220 * share
