"""Pictures of paths. Every function returns its figure and leaves pyplot alone."""

import os
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from .errors import InputError
from .paths import NeuronPaths

RAISES, LOWERS, LINE = "#0072B2", "#D55E00", "#888888"  # Okabe and Ito's blue and vermillion: told apart by all


def plot_path(paths: NeuronPaths, images: Tensor | None = None, index: int = 0, ax: Axes | None = None) -> Figure:
    """One image's path: blocks from left to right, neurons from bottom to top, the path as a line through them.

    A point's size is the size of the neuron's attribution, its colour and shape the sign. ``images`` (B, C, H, W) puts the input
    beside it; with ``ax`` the path alone is drawn there.
    """
    if not -len(paths) <= index < len(paths):
        raise InputError(f"index {index} is out of range; expected 0 to {len(paths) - 1}")
    if images is not None and len(images) != len(paths):
        raise InputError(f"images holds {len(images)} images for {len(paths)} paths; expected as many")
    path = paths[index]
    blocks, k = path.neurons.shape[1:]
    own = ax is None
    if ax is None:
        figure = Figure(figsize=(min(4 + 0.55 * blocks, 16) + 2.6 * (images is not None), 4), layout="constrained")
        if images is None:
            ax = figure.subplots()
        else:
            beside, ax = figure.subplots(1, 2, width_ratios=[1, max(1.5, 0.28 * blocks)])
            _show_image(beside, images[index])
            beside.set_title(_short(path.names[0]), fontsize=9)
    neurons, worth = path.neurons[0].numpy(), path.attribution[0].numpy()
    largest = np.abs(worth).max() or 1.0
    at = np.repeat(np.arange(blocks)[:, None], k, 1)
    ax.plot(np.arange(blocks), neurons[:, 0], color=LINE, linewidth=1.5, zorder=1)
    for sign, marker, colour, label in ((1, "o", RAISES, "raises the output"), (-1, "s", LOWERS, "lowers it")):
        here = (worth >= 0) if sign > 0 else (worth < 0)
        size = 25 + 275 * np.abs(worth[here]) / largest
        ax.scatter(
            at[here],
            neurons[here],
            s=size,
            c=colour,
            marker=marker,
            edgecolors="white",
            linewidths=0.8,
            zorder=2,
            label=label,
        )
    for block, row in enumerate(neurons):
        for neuron in row:
            ax.annotate(
                str(neuron),
                (block, neuron),
                xytext=(0, 11),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                zorder=3,
                bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            )
    widths = path.settings.get("widths") or [int(neurons.max()) + 1]
    ax.set(xlabel="block", ylabel="neuron", ylim=(-0.06 * max(widths), 1.12 * max(widths)), xlim=(-0.6, blocks - 0.4))
    ax.set_xticks(np.arange(blocks))
    ax.spines[["top", "right"]].set_visible(False)
    target, probability = int(path.target[0]), float(path.probability[0])
    ax.set_title(
        f"class {path.name_of(target)}, probability {probability:.3f}, joint attribution score {float(path.score[0]):.4g}",
        fontsize=10,
    )
    whole = ax.get_figure(root=True)
    assert isinstance(whole, Figure)
    legend = {
        "ncols": 2,
        "frameon": False,
        "fontsize": 8,
        "markerscale": 0.7,
        "handles": [c for c in ax.collections if np.size(c.get_offsets())],
    }
    if own:
        whole.legend(loc="outside lower right", **legend)
    else:
        ax.legend(**legend)
    return whole


def check_picture(path: str | os.PathLike) -> None:
    """Refuse a name whose ending says no kind of picture that matplotlib writes."""
    kinds = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.lstrip(".").lower() not in kinds:
        raise InputError(f"{path} names no kind of picture; expected an ending such as .png, .svg or .pdf")


def _show_image(ax: Axes, image: Tensor) -> None:
    """An image as the model sees it, its values stretched to what can be shown."""
    pixels = image.detach().float().cpu().permute(1, 2, 0).numpy()
    if pixels.shape[2] not in (1, 3):
        pixels = pixels.mean(2, keepdims=True)
    low, high = pixels.min(), pixels.max()
    ax.imshow((pixels - low) / ((high - low) or 1), cmap="gray", vmin=0, vmax=1)
    ax.set_axis_off()


def _short(name: str, longest: int = 28) -> str:
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    return name if len(name) <= longest else f"{name[: longest - 9]}…{name[-8:]}"
