"""How often a path runs through the unit."""

import torch
from torch import Tensor

from ...paths.neuron_paths import NeuronPaths
from .path import summed
from .registry import register_importance


@register_importance("frequency", "paths")
def frequency(paths: NeuronPaths) -> list[Tensor]:
    """The share of images whose path it belongs to."""
    return summed(paths, torch.ones_like(paths.attribution))
