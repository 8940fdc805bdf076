"""What F loses with the unit, to first order."""

from torch import Tensor

from ...models.vit import ViT
from ...runs.clean import CleanRun
from .registry import Calibration, register_importance


@register_importance("causal", "images")
def causal(vit: ViT, on: Calibration) -> list[Tensor]:
    """|value times gradient in the ordinary run|, summed over tokens."""
    return on.mean(vit, lambda run: [gate.abs() for gate in gates(run)], live=True)


def gates(run: CleanRun) -> list[Tensor]:
    """F's derivative to a gate at 1 that multiplies a unit on all of its tokens, a site (B, U)."""
    return [(values * gradient).sum(1) for values, gradient in zip(run.hidden, run.live_gradients, strict=True)]
