"""What F loses with the unit, to first order."""

from torch import Tensor

from ...models.vit import ViT
from ...runs.gates import clean_gates
from .registry import Calibration, register_importance


@register_importance("causal", "images")
def causal(vit: ViT, on: Calibration) -> list[Tensor]:
    """|value times gradient in the ordinary run|, summed over tokens."""
    return on.mean(vit, lambda run: [gate.abs() for gate in clean_gates(run)], live=True)
