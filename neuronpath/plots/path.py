"""Paths through the blocks: one image's, many images' as a bundle, several methods' side by side."""

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from torch import Tensor

from ..checks import InputError
from ..paths.neuron_paths import NeuronPaths
from .parts import (
    BLUE,
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

CROWDED = 0.08  # of a block's neurons: one this near below another has its label below itself
SHARES = (0.1, 0.5, 1.0)  # of the images, in the legend of a bundle


def plot_path(paths: NeuronPaths, images: Tensor | None = None, index: int = 0, ax: Axes | None = None) -> Figure:
    """One image's path: blocks from left to right, neurons from bottom to top, the path as a line through them.

    A point's size is the size of the neuron's attribution, its colour and shape the sign. ``images`` (B, C, H, W) puts the input
    beside it; with ``ax`` the path alone is drawn there.
    """
    check_paths(paths, images, index)
    path = paths[index]
    blocks = path.neurons.shape[1]
    own = ax is None
    if ax is None and images is not None:
        figure: Figure = Picture(figsize=(block_width(blocks) + 3.2, 4), layout="constrained")
        beside, ax = figure.subplots(1, 2, width_ratios=[1, max(1.5, 0.28 * blocks)])
        show_image(beside, images[index], path.names[0])
    else:
        figure, ax = axes_for(ax, (block_width(blocks) + 0.6, 4))
    _draw(ax, path)
    ax.set_title(f"{decision(path)}joint attribution score {float(path.score[0]):.4g}", fontsize=10)
    _legend(figure, ax, own)
    return figure


def plot_methods(paths: Mapping[str, NeuronPaths], images: Tensor | None = None, index: int = 0) -> Figure:
    """One image's paths by several methods, side by side, drawn as by :func:`plot_path`.

    ``paths`` names the methods. What all of them chose is labelled in bold.
    """
    if not isinstance(paths, Mapping) or not paths:
        raise InputError("paths names no methods; expected {name: NeuronPaths, ...}")
    for each in paths.values():
        check_paths(each, images, index)
    chosen = [each[index] for each in paths.values()]
    blocks = chosen[0].neurons.shape[1]
    if any(path.neurons.shape[1] != blocks for path in chosen):
        raise InputError("paths are of models with different numbers of blocks; expected the same in all")
    common = set.intersection(*({(b, n) for b, row in enumerate(p.neurons[0].tolist()) for n in row} for p in chosen))
    beside = int(images is not None)
    wide = min(1.4 + 0.5 * blocks, 12.0)
    figure = Picture(figsize=(2.4 * beside + wide * len(chosen), 4.2), layout="constrained")
    axes = figure.subplots(1, beside + len(chosen), width_ratios=[2.4] * beside + [wide] * len(chosen), squeeze=False)[
        0
    ]
    if images is not None:
        show_image(axes[0], images[index], chosen[0].names[0])
    for ax, name, path in zip(axes[beside:], paths, chosen, strict=True):
        _draw(ax, path, common)
        figures = f"score {float(path.score[0]):.4g}, removal {float(path.removal[0]):.4g}"
        ax.set_title(f"{plain(name)}: {decision(path).rstrip(', ')}\n{figures}", fontsize=10)
        if ax is not axes[beside]:
            ax.set_ylabel("")
    _legend(figure, axes[-1], own=True)
    return figure


def plot_paths(paths: NeuronPaths, ax: Axes | None = None) -> Figure:
    """Many images' paths as a bundle: what more of them share is thicker and darker.

    A point's area is the share of the images whose path holds the neuron, a line's width and darkness the share that goes from the
    one neuron to the other (of several neurons a block, the first). The commonest neuron of every block is named.
    """
    check_paths(paths)
    images, blocks, _ = paths.neurons.shape
    neurons = paths.neurons.numpy()
    figure, ax = axes_for(ax, (block_width(blocks) + 0.6, 4.4))
    segments, shares = [], []
    for block in range(blocks - 1):
        pairs, counts = np.unique(neurons[:, block : block + 2, 0], axis=0, return_counts=True)
        segments += [((block, a), (block + 1, b)) for a, b in pairs]
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
    for block in range(blocks):
        found, counts = np.unique(neurons[:, block], return_counts=True)
        areas, commonest = _area(counts / images), counts.argmax()
        ax.scatter(np.full(len(found), block), found, areas, BLUE, edgecolors="white", linewidths=0.6, zorder=2)
        label(ax, str(found[commonest]), (block, found[commonest]), 5 + 0.5 * areas[commonest] ** 0.5)
    block_axis(ax, blocks, paths.widths)
    ax.set_title(f"{images} images' paths", fontsize=10)
    samples = [ax.scatter([], [], _area(share), BLUE, edgecolors="white", label=f"{share:.0%}") for share in SHARES]
    figure.legend(handles=samples, loc="outside lower right", ncols=4, frameon=False, fontsize=SMALL, title="share of the images",
                  title_fontsize=SMALL)  # fmt: skip
    return figure


def _area(share: Any) -> Any:
    return 8 + 220 * share


def _draw(ax: Axes, path: NeuronPaths, bold: Set[tuple[int, int]] = frozenset()) -> None:
    """The path of one image (B = 1), the neurons named in ``bold`` labelled so."""
    blocks, k = path.neurons.shape[1:]
    neurons, worth = path.neurons[0].numpy(), path.attribution[0].numpy()
    largest = np.abs(worth).max() or 1.0
    at = np.repeat(np.arange(blocks)[:, None], k, 1)
    ax.plot(np.arange(blocks), neurons[:, 0], color=LINE, linewidth=1.5, zorder=1)
    for here, marker, colour, name in (
        (worth >= 0, "o", RAISES, "raises the output"),
        (worth < 0, "s", LOWERS, "lowers it"),
    ):
        size = 25 + 275 * np.abs(worth[here]) / largest
        ax.scatter(
            at[here],
            neurons[here],
            size,
            colour,
            marker=marker,
            edgecolors="white",
            linewidths=0.8,
            zorder=2,
            label=name,
        )
    for block, row in enumerate(neurons):
        for neuron in row:
            crowded = any(0 < other - neuron < CROWDED * max(path.widths) for other in row)
            weight = "bold" if (block, neuron) in bold else "normal"
            label(ax, str(neuron), (block, neuron), -20 if crowded else 11, weight)
    block_axis(ax, blocks, path.widths)


def _legend(figure: Figure, ax: Axes, own: bool) -> None:
    """The two signs' shapes, as far as they occur: below the figure if it is our own, else in the axes."""
    signs = {
        points.get_label(): points
        for each in (figure.axes if own else [ax])
        for points in each.collections
        if np.size(points.get_offsets())
    }
    style = {"ncols": 2, "frameon": False, "fontsize": SMALL, "markerscale": 0.7, "handles": list(signs.values())}
    if own:
        figure.legend(loc="outside lower right", **style)
    else:
        ax.legend(**style)
