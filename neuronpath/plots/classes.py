"""Many images: how the chosen neurons are spread over each block, and which classes are alike."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from ..checks import InputError, InputTypeError, checked
from ..paths.layout import Layout
from ..paths.neuron_paths import NeuronPaths
from .parts import (
    BLUE,
    FAINT,
    LINE,
    SCALE,
    SMALL,
    TEXT,
    VERMILLION,
    Picture,
    axes_for,
    block_axis,
    block_width,
    check_paths,
    label,
    plain,
)
from .path import short

READABLE = 12  # classes up to which a heat map's values are written into it
NAMED = 60  # and up to which every class is named


@checked
def plot_distribution(paths: NeuronPaths, ax: Axes | None = None) -> Figure:
    """How the chosen units of many images are spread over each block, as violins, and the path that they prefer.

    Dots are the units that were chosen; the preferred path takes the commonest of every site, with its share of the images.
    Units have no order of their own: a violin's width says where choices gather, not that neighbours are alike.

    Source: after the violin plots of "Discovering Influential Neuron Path in Vision Transformers" (ICLR 2025).
    """
    check_paths(paths)
    layout = Layout(paths.places)
    sites = range(len(layout.places))
    units = [paths.units[:, site].flatten().numpy() for site in sites]
    chosen = [np.asarray(layout.y(site, units[site]), dtype=float) for site in sites]
    figure, ax = axes_for(ax, (block_width(len(sites)) + 0.6, 4.4))
    spread = [site for site in sites if np.ptp(chosen[site])]
    if spread:
        violins: dict[str, Any] = ax.violinplot(
            [chosen[s] for s in spread],
            [layout.x(s) for s in spread],
            widths=0.4 if layout.both else 0.8,
            showextrema=False,
        )
        for body in violins["bodies"]:
            body.set(facecolor=FAINT, edgecolor=LINE, alpha=1, linewidth=0.6, zorder=0)
    preferred = []
    for site, here in enumerate(chosen):
        found, first, counts = np.unique(here, return_index=True, return_counts=True)
        best = counts.argmax()
        preferred.append(found[best])
        ax.scatter(np.full(len(found), layout.x(site)), found, 8, BLUE, linewidths=0, alpha=0.7, zorder=1)
        name = short(layout.places[site].kind, units[site][first[best]])
        label(ax, f"{name}\n{counts.max() / len(paths):.0%}", (layout.x(site), found[best]), 8)
    kinds = " and ".join(f"{kind}s" for kind in reversed(layout.kinds))
    ax.plot([layout.x(site) for site in sites], preferred, "D-", color=VERMILLION, linewidth=1.5, markersize=6,
            markeredgecolor="white", zorder=3,
            label="the preferred path, and the share of the images whose path holds the unit")  # fmt: skip
    block_axis(ax, layout, 1.2)
    ax.set_title(f"{kinds} of {len(paths)} images' paths", fontsize=10)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=SMALL)
    return figure


@checked
def plot_similarity(frame: pd.DataFrame) -> Figure:
    """How alike classes are: a heat map, its rows and columns in the order of the dendrogram above it.

    Args:
        frame: C x C, C at least 2, symmetrical, its index and columns the classes; the larger the more alike. The distance of two
            classes is the largest value less theirs; clusters join at their mean distance.

    The colours span the values off the diagonal; what lies beyond takes the last.
    """
    values = check_similarity(frame)
    count = len(values)
    distance = values.max() - values
    np.fill_diagonal(distance, 0)
    tree = dendrogram(linkage(squareform(distance, checks=False), "average", optimal_ordering=True), no_plot=True)
    order = tree["leaves"]
    shown = values[np.ix_(order, order)]
    side = min(max(2.6, 0.36 * count), 9)
    figure = Picture(figsize=(side + 2.4, side + 1.9), layout="constrained")
    top, ax = figure.subplots(2, 1, sharex=True, height_ratios=[0.8, side])
    joints = [
        list(zip((np.array(x) - 5) / 10, y, strict=True)) for x, y in zip(tree["icoord"], tree["dcoord"], strict=True)
    ]
    top.add_collection(LineCollection(joints, colors=LINE, linewidths=1.1))
    top.set_ylim(0, 1.05 * max(map(max, tree["dcoord"])) or 1)
    top.set_axis_off()
    off = shown[~np.eye(count, dtype=bool)]
    heat = ax.imshow(shown, cmap=SCALE, vmin=off.min(), vmax=max(off.max(), off.min() + 1e-9), aspect="auto")
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    bar = figure.colorbar(heat, ax=ax, label="similarity", fraction=0.05, pad=0.02,
                          extend=beyond[bool((shown < off.min()).any()), bool((shown > off.max()).any())])  # fmt: skip
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)
    names = [plain(frame.index[i]) for i in order]
    step = 1 if count <= NAMED else -(-count // NAMED)
    ax.set_xticks(range(0, count, step), names[::step], rotation=90 * (max(map(len, names)) > 3), fontsize=TEXT - 0.5)
    ax.set_yticks(range(0, count, step), names[::step], fontsize=TEXT - 0.5)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if count <= READABLE:
        for (row, column), value in np.ndenumerate(shown):
            ink = "white" if heat.norm(value) < 0.55 else "black"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=SMALL - 1, color=ink)
    return figure


def check_similarity(frame: pd.DataFrame) -> np.ndarray:
    """The values (C, C) of a similarity table, refused unless they are one."""
    if not isinstance(frame, pd.DataFrame):
        raise InputTypeError(f"frame is a {type(frame).__name__}; expected a pandas DataFrame, classes by classes")
    if frame.shape[0] != frame.shape[1] or len(frame) < 2 or list(frame.index) != list(frame.columns):
        raise InputError(
            f"frame has {frame.shape[0]} rows and {frame.shape[1]} columns; expected the same classes in both, 2 at least"
        )
    values = frame.to_numpy(float)
    if not np.isfinite(values).all():
        raise InputError("frame holds NaN or infinity; expected finite similarities")
    if not np.allclose(values, values.T):
        row, column = np.unravel_index(np.abs(values - values.T).argmax(), values.shape)
        raise InputError(
            f"frame isn't symmetrical: {frame.index[row]} and {frame.index[column]} differ; expected one value a pair"
        )
    return values
