"""Many images: how the chosen neurons are spread over each block, and which classes are alike."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from ..checks import InputError, InputTypeError, checked
from ..paths.layout import Layout
from ..paths.neuron_paths import NeuronPaths
from ..paths.run import Run
from .parts import (
    LINE,
    SCALE,
    SMALL,
    TEXT,
    Picture,
    axes_for,
    block_axis,
    block_width,
    paths_of,
    plain,
)
from .path import short

READABLE = 12  # classes up to which a heat map's values are written into it
ROOM = 0.075  # of a strip: what a unit must take for its name to fit
NAMED = 60  # and up to which every class is named


@checked
def plot_distribution(paths: NeuronPaths | Run, ax: Axes | None = None) -> Figure:
    """How often each unit is on many images' paths: a strip a block and kind, the commonest unit lowest, and dark to bright by share.

    A unit's part of its strip is its share of the images' choices there, and so is its colour. It is named where there is room.
    The lowest of all strips are the path that the images prefer. ``neuronpath.frequency`` gives the numbers. With ``ax`` the colours
    have no bar of their own. Of a :class:`~neuronpath.Run` 200 images are taken, at random.
    """
    paths, counted = paths_of(paths)
    layout = Layout(paths.places, paths.settings.passes)
    images, sites, k = paths.units.shape
    own = ax is None
    figure, ax = axes_for(ax, (block_width(sites) + 1.6, 4.6))
    wide = 0.4 if layout.both else 0.72
    chosen = [np.unique(paths.units[:, site].numpy(), return_counts=True) for site in range(sites)]
    norm, scale = Normalize(0, max(counts.max() for _, counts in chosen) / images), mpl.colormaps[SCALE]
    for site, (place, (found, counts)) in enumerate(zip(layout.places, chosen, strict=True)):
        order = np.argsort(-counts, kind="stable")
        base, x = 0.0, layout.x(site)
        for unit, count in zip(found[order].tolist(), counts[order].tolist(), strict=True):
            share, high = count / images, count / (images * k)
            colour = scale(norm(share))
            ax.bar(x, high, wide, base, color=colour, edgecolor="white", linewidth=0.4)
            if high > ROOM:
                ink = "white" if norm(share) < 0.55 else "black"
                ax.text(x, base + high / 2, f"{short(place.kind, unit)}\n{share:.0%}", ha="center", va="center", fontsize=SMALL - 1,
                        color=ink, linespacing=1.0, weight="normal" if base else "bold")  # fmt: skip
            base += high
    block_axis(ax, layout)
    ax.set_ylim(0, 1)
    ax.set_yticks([0, 0.5, 1], ["0", "50%", "100%"])
    kinds = " and ".join(f"{kind}s" for kind in layout.kinds)
    beside = f", {layout.kinds[0]}s left and {layout.kinds[1]}s right in each block" if layout.both else ""
    ax.set_ylabel("share of the choices")
    ax.set_title(f"{kinds} of {counted}{beside}", fontsize=10)
    if not own:
        return figure
    bar = figure.colorbar(ScalarMappable(norm, scale), ax=ax, fraction=0.03, pad=0.02, format=PercentFormatter(1))
    bar.set_label("images whose path holds the unit", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)
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
