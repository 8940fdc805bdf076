"""How active the unit is; no gradient."""

import torch
from torch import Tensor
from tqdm import tqdm

from ...features.activations import channels_seen
from ...models.outputs import run_model
from ...models.vit import ViT
from .registry import Calibration, register_importance


@register_importance("activation", "images")
def activation(vit: ViT, on: Calibration) -> list[Tensor]:
    """|value|, averaged over tokens."""
    sums = [torch.zeros(width, dtype=torch.float64) for width in vit.widths]
    like = next(vit.model.parameters())

    def see(s: int, channels: Tensor) -> None:
        sums[s] += vit.sites[s].read(vit.split(channels)[0]).abs().mean(1).double().sum(0).cpu()

    with channels_seen(vit, see), tqdm(total=len(on.images), unit="image", disable=not on.progress) as bar:
        for images in on.images.split(on.batch_size):
            run_model(vit.model, images.to(like))
            bar.update(len(images))
    return [(total / len(on.images)).float() for total in sums]
