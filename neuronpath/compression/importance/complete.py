"""The unit's part in what F gains while all units go from 0 to their values together."""

import torch
from torch import Tensor

from ...models.vit import ViT
from ...runs.clean import CleanRun
from ...runs.quadrature import nodes_and_weights
from .registry import Calibration, register_importance

NODES = 2  # of Gauss-Legendre; more change no ranking that matters


@register_importance("complete", "images")
def complete(vit: ViT, on: Calibration) -> list[Tensor]:
    """|complete attribution|: value times mean gradient while all units are held and scaled by alpha."""

    def effect(run: CleanRun) -> list[Tensor]:
        total = [torch.zeros_like(values[:, 0]) for values in run.hidden]
        for alpha, weight in zip(*nodes_and_weights("gausslegendre", NODES), strict=True):
            found = run.gradients_at([alpha] * len(run.hidden))
            for sums, values, gradient in zip(total, run.hidden, found, strict=True):
                sums += (values * gradient).sum(1) * weight
        return [sums.abs() for sums in total]

    return on.mean(vit, effect)
