"""What units stand for, on pages: a name, an image made to excite them, the pixels that drive them."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex, to_rgb
from PIL import Image
from torch import Tensor

from ..data.pixels import as_uri, data_uri, to_pixels
from ..features.names import name_units
from ..features.pixel_attribution import pixel_attribution
from ..features.visualise import visualise
from ..models.view import view
from ..models.vit import ViT
from ..paths.made_for import view_for
from ..plots.meaning import MOST, PIXELS
from ..units import Unit, kinds_named
from .drawing import key_of
from .measured import Measured, Way, times_of
from .scene import Plain

NODES, STEPS = 32, 256  # of the pixels' integral, and of the images that are made
DRIVEN = 4  # favourites whose pixels are shown


def faces_of(
    vit: ViT, images: Tensor, ways: Mapping[str, Way], found: Mapping[str, Measured], labels: Tensor | None, count: int,
    batch_size: int,
) -> dict[str, Plain]:  # fmt: skip
    """Of the ``count`` units that are most often on paths what they stand for, by their keys."""
    times = sum((times_of(way) for way in ways.values()), Counter[Unit]())
    units = [unit for unit, _ in sorted(times.items(), key=lambda each: (-each[1], each[0]))[:count]]
    if not units:
        return {}
    vit = view(view_for(next(iter(ways.values())), vit), units=kinds_named(units))
    names: Sequence[str | None] = [None] * len(units)
    if labels is not None and len(labels) > 3 and len(labels.unique()) > 1:
        named = name_units(vit, images, units, labels, token=vit.token, batch_size=batch_size)
        names = [in_words(row) for row in named.to_dict("records")]
    made = visualise(vit, units, steps=STEPS, token=vit.token)
    faces = {}
    for at, unit in enumerate(units):
        likes = next(each.likes[unit] for each in found.values() if each.likes and unit in each.likes)
        numbers = [number for number, _ in likes[:DRIVEN]]
        driven = (
            pixel_attribution(vit, images[numbers], [unit], token=vit.token, n_steps=NODES).attribution[:, 0].sum(1)
        )
        faces[key_of(unit)] = {
            "name": names[at],
            "made": data_uri(to_pixels(made.images[at], vit.model)),
            "value": float(f"{float(made.values[at]):.4g}"),
            "best": float(f"{likes[0][1]:.4g}"),
            "pixels": {number: _signed(each.numpy()) for number, each in zip(numbers, driven, strict=True)},
        }
    return faces


def in_words(name: Mapping) -> str:
    """A row of :func:`~neuronpath.name_units` as a sentence, with its controls."""
    told = (
        f"AUROC {name['score']:.3g}; 95 % of shuffled labels stay below {name['control']:.3g}, and "
        f"{100 * name['random_units']:.0f} % of random units of its kind tell a class of theirs as well"
    )
    return (
        f"Goes with {name['name']} ({told})."
        if name["name"]
        else f"Goes with no class: {name['best']} comes nearest ({told})."
    )


def _signed(values: np.ndarray) -> str:
    """What pixels (H, W) add as a picture: blue raises, red lowers."""
    most = float(np.quantile(np.abs(values), MOST)) or 1.0
    shades = [to_hex(mpl.colormaps[PIXELS](step / 31)) for step in range(32)]
    return as_picture(values, -most, most, shades)


def as_picture(values: np.ndarray, low: float, high: float, shades: Sequence[str]) -> str:
    """Values (h, w) as a PNG, a pixel each, in colours from those of ``low`` to those of ``high``."""
    shares = ((values - low) / ((high - low) or 1)).clip(0, 1)
    picture = Image.fromarray((shares * (len(shades) - 1)).round().astype(np.uint8), "P")
    picture.putpalette([round(255 * part) for shade in shades for part in to_rgb(shade)])
    file = io.BytesIO()
    picture.save(file, "PNG", bits=4 if len(shades) <= 16 else 8, optimize=True)
    return as_uri("png", file.getvalue())
