"""The control."""

import torch
from torch import Tensor

from ...models.vit import ViT
from .registry import register_importance


@register_importance("random", "weights")
def random(vit: ViT, seed: int) -> list[Tensor]:
    """Uniform in [0, 1)."""
    draw = torch.Generator().manual_seed(seed % 2**64)  # what torch takes
    return [torch.rand(width, generator=draw) for width in vit.widths]
