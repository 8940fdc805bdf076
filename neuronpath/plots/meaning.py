"""The face of a unit: the image made to excite it, the images that it likes best, and the pixels of these that drive it."""

from collections.abc import Iterable, Sequence

import torch
from matplotlib.figure import Figure
from torch import nn

from ..checks import check_count, checked
from ..data.given import Images
from ..features.activations import most_active
from ..features.pixel_attribution import pixel_attribution
from ..features.values import named_units
from ..features.visualise import visualise
from ..models.view import view
from ..models.vit import ViT
from ..options import Token
from ..paths.neuron_paths import check_names
from .parts import LINE, SMALL, Picture, plain, show_image

PIXELS = "RdBu"  # blue raises, red lowers, white does nothing
MOST = 0.995  # of the pixels: beyond their size the colours don't deepen


@checked
def plot_meaning(
    model: nn.Module | ViT,
    images: Images | Iterable,
    units: Sequence[tuple],
    n: int = 4,
    *,
    names: Sequence[str] | None = None,
    steps: int = 256,
    token: Token | None = None,
    seed: int = 0,
) -> Figure:
    """A row a unit: the image made to excite it, then the ``n`` images that it likes best, and beside each the pixels that drive it.

    Blue pixels raise the unit's value, red ones lower it. Numbers are the unit's values. See :func:`~neuronpath.visualise`,
    :func:`~neuronpath.most_active` and :func:`~neuronpath.pixel_attribution`.

    Args:
        model: a vision transformer whose images' mean and deviation are known, as those of timm are.
        images: (N, C, H, W), or batches of them, such as a DataLoader gives; only the best are kept in memory.
        units: a list of (block, neuron), ("head", block, index) or :class:`~neuronpath.Unit`.
        n: images a unit.
        names: what to call the units, such as :func:`~neuronpath.name_units` gives.
        steps: of the image that is made.
        token: the tokens on which units are read; None is what the model's head pools.
        seed: of the image that is made.

    Raises:
        InputError: for units that the model lacks, names that aren't as many, or images that can't be used.
    """
    check_count("n", n)
    named, shown_by = named_units(units), view(model).model
    called_by = [] if names is None else list(map(str, names))
    if names is not None:
        check_names(called_by, len(named), "a unit")
    best, numbers, pictures = most_active(model, images, named, n, token=token)
    made = visualise(model, named, steps=steps, token=token, seed=seed)
    columns = 1 + 2 * best.shape[1]
    figure = Picture(figsize=(1.1 + 1.05 * columns, 1.35 * len(named)), layout="compressed")
    axes = figure.subplots(len(named), columns, squeeze=False)
    axes[0, 0].set_title("made", fontsize=SMALL)
    for row, unit in enumerate(named):
        seen = torch.stack([pictures[number] for number in numbers[row].tolist()])
        driven = pixel_attribution(model, seen, [unit], token=token).attribution[:, 0].sum(1)  # over channels
        show_image(axes[row, 0], made.images[row], "", shown_by)
        axes[row, 0].set_xlabel(f"{made.values[row]:#.3g}", fontsize=SMALL - 1)
        called = f"\n{plain(called_by[row])}" if called_by else ""
        axes[row, 0].set_ylabel(
            str(unit).replace(", ", "\n") + called, fontsize=SMALL + 0.5, rotation=0, ha="right", va="center"
        )
        for at, image in enumerate(seen):
            show_image(axes[row, 1 + 2 * at], image, "", shown_by)
            axes[row, 1 + 2 * at].set_xlabel(f"{best[row, at]:#.3g}", fontsize=SMALL - 1)
            most = float(driven[at].abs().quantile(MOST)) or 1.0
            beside = axes[row, 2 + 2 * at]
            beside.imshow(driven[at].numpy(), cmap=PIXELS, vmin=-most, vmax=most)
            beside.set(xticks=[], yticks=[])
            beside.spines[:].set_color(LINE)
    return figure
