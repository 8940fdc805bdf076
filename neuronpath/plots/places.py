"""Units on images: where each one of a path looks, and the images on which units are most active."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor, nn

from ..checks import InputError, checked
from ..data.given import Images, sliceable
from ..data.pixels import short_name, shortened, to_pixels
from ..features.activations import activation_maps, most_active, unit_maps
from ..features.values import named_units
from ..options import Token
from ..paths.neuron_paths import NeuronPaths
from .parts import LINE, SCALE, SMALL, TEXT, Picture, check_paths, plain, show_image

PANELS = 7  # in a row, at most
OPACITY = 0.72  # of a map over its image


@checked
def plot_places(model: nn.Module, images: Images, paths: NeuronPaths, index: int = 0) -> Figure:
    """Where each unit of an image's path looks: its activation on every patch, laid over the image, a panel a unit; of heads the norm.

    The brighter, the more active; each panel has its own scale, with its ends below it, 0 among what it spans. The colours are as even
    to the eye in grey as in colour. See :func:`~neuronpath.activation_maps` for the values.
    """
    images = sliceable(images)
    check_paths(paths, images, index)
    path, image = paths[index], images[index : index + 1] if index >= 0 else images[index:][:1]
    maps = activation_maps(model, image, path)[0].flatten(0, 1).numpy()
    titles = path.units_of(0)
    rows = -(-(len(titles) + 1) // PANELS)
    columns = -(-(len(titles) + 1) // rows)
    tall = image.shape[2] / image.shape[3]
    figure = Picture(figsize=(1.75 * columns, rows * (1.6 * tall + 0.62)), layout="compressed")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    target = int(path.target[0])
    show_image(axes[0], image[0], short_name(path.names[0], 20), model)
    axes[0].set_xlabel(plain(shortened(f"class {path.name_of(target)}", 22)) if target >= 0 else "", fontsize=SMALL)
    for ax, values, unit in zip(axes[1:], maps, titles, strict=False):
        shown = overlay(ax, image[0], values, model)
        _bar(figure, shown, cax=ax.inset_axes((0.0, -0.1, 1.0, 0.05)), orientation="horizontal")
        ax.set_title(paths.settings.name_of(unit), fontsize=TEXT - 0.5)
    for ax in axes[1 + len(titles) :]:
        ax.set_axis_off()
    return figure


@checked
def plot_gallery(
    model: nn.Module, images: Images | Iterable, units: NeuronPaths | Sequence[tuple], n: int = 6, *, index: int = 0,
    names: Sequence[str] | None = None, maps: bool = False, token: Token | None = None,
) -> Figure:  # fmt: skip
    """The images on which units are most active, a row a unit, the most active first, the activation below each.

    Args:
        model: a vision transformer of a known family.
        images: (N, C, H, W), or batches of them, such as a DataLoader gives; only the best are kept in memory.
        units: a list of (block, neuron), ("head", block, index) or :class:`~neuronpath.Unit`; or NeuronPaths: those of the path
            ``index``.
        n: images a unit.
        names: N names of the images; None numbers them.
        maps: lay the unit's activation on every patch over the images, as in :func:`plot_places`; a row has one scale.
        token: the tokens whose mean is the activation: "cls", "patch", "pooled", "all". None is what the paths' units are read on;
            of a list what the model's head pools.
    """
    if isinstance(units, NeuronPaths):
        check_paths(units, index=index)
        token, units = token or units.settings.token, units.units_of(index)
    named = named_units(units)
    best, numbers, pictures = most_active(model, images, named, n, token=token)
    if names is not None and len(names) <= int(numbers.max()):
        raise InputError(
            f"names holds {len(names)} names, but there is an image {int(numbers.max())}; expected one each"
        )
    rows, columns = best.shape
    first = next(iter(pictures.values()))
    tall = first.shape[1] / first.shape[2]
    figure = Picture(figsize=(0.9 + 1.25 * columns, rows * (1.15 * tall + 0.45)), layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False)
    shown = torch.stack([pictures[number] for number in numbers.flatten().tolist()])
    laid = unit_maps(model, shown, [[unit] for unit in named for _ in range(columns)]) if maps else []
    for row, start in enumerate(range(0, len(laid), columns)):
        mine = torch.cat(laid[start : start + columns]).numpy()
        maps_of_row = [
            overlay(ax, shown[start + at], mine[at], model, ends_of(mine)) for at, ax in enumerate(axes[row])
        ]
        _bar(figure, maps_of_row[0], ax=list(axes[row]), fraction=0.02, pad=0.01, aspect=12)
    for at, ax in enumerate(axes.flat):
        if not laid:
            show_image(ax, shown[at], "", model)
        number = int(numbers.flatten()[at])
        name = plain(short_name(names[number], 18)) if names is not None else f"no. {number}"
        value = f"{best.flatten()[at]:#.3g}"
        ax.set_xlabel(f"{name}\n{value}", fontsize=SMALL - 1)
    for mine, unit in zip(axes, named, strict=True):
        mine[0].set_ylabel(str(unit).replace(", ", "\n"), fontsize=SMALL + 0.5, rotation=0, ha="right", va="center")
    return figure


def overlay(
    ax: Axes, image: Tensor, values: np.ndarray, model: nn.Module | None = None, ends: tuple[float, float] | None = None
) -> AxesImage:
    """An image (C, H, W) in pale grey beneath values (h, w) of its patches, dark to bright from the lowest to the highest.

    ``ends`` are those of the scale; None is the values' own, and 0.
    """
    pixels = to_pixels(image, model).astype(float)
    grey = pixels if pixels.ndim == 2 else pixels @ (0.299, 0.587, 0.114)
    ax.imshow(grey, cmap="gray", vmin=-116, vmax=371)  # little contrast, so that the brightness is the map's
    height, width = grey.shape
    low, high = ends or ends_of(values)
    shown = ax.imshow(values, cmap=SCALE, vmin=low, vmax=high, alpha=OPACITY, extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                      interpolation="nearest")  # fmt: skip
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_color(LINE)
    return shown


def ends_of(values: np.ndarray) -> tuple[float, float]:
    """The ends of a scale that holds the values, and 0."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    return low, high if high > low else low + 1.0


def _bar(figure: Figure, shown: AxesImage, **place: Any) -> None:
    """The scale of a map, with its ends and 0."""
    bar = figure.colorbar(shown, **place)
    low, high = shown.get_clim()
    ends = [low, 0, high] if high and low < -0.25 * high else [low, high]
    bar.set_ticks(ends, labels=[f"{end:#.2g}" if end else "0" for end in ends])
    bar.ax.tick_params(labelsize=SMALL - 1, length=0, pad=1.5)
    if bar.orientation == "horizontal":  # no text beyond the panel
        first, *_, last = bar.ax.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
    bar.ax.set_facecolor("0.5")  # as pale as the image beneath the map
    bar.outline.set_visible(False)
