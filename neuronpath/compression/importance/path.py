"""What the unit carries on the paths that run through it."""

import torch
from torch import Tensor

from ...paths.neuron_paths import NeuronPaths
from .registry import register_importance


@register_importance("path", "paths")
def path(paths: NeuronPaths) -> list[Tensor]:
    """|attribution|, averaged over all paths."""
    return summed(paths, paths.attribution.abs())


def summed(paths: NeuronPaths, carried: Tensor) -> list[Tensor]:
    """The mean over images of what (B, S, K) their units carry, a site (U,)."""
    found = []
    for site, place in enumerate(paths.places):
        sums = torch.zeros(place.width, dtype=torch.float64)
        sums.index_add_(0, paths.units[:, site].flatten(), carried[:, site].double().flatten())
        found.append((sums / len(paths)).float())
    return found
