"""What the cross-entropy gains without the unit, to first order, squared.

Molchanov et al., "Importance Estimation for Neural Network Pruning" (CVPR 2019), equation 8, one gate a unit.
"""

from torch import Tensor

from ...checks import InputError, InputTypeError
from ...models.outputs import check_range
from ...models.vit import ViT
from ...runs.gates import clean_gates
from .registry import Calibration, register_importance


@register_importance("taylor", "images")
def taylor(vit: ViT, on: Calibration) -> list[Tensor]:
    """The square of a gate's derivative."""
    if not vit.has_head:
        raise InputTypeError(
            f"{type(vit.model).__name__} has no classes (num_classes=0), of which 'taylor' is made; expected by='causal' with output="
        )
    return on.mean(vit, lambda run: [gate.square() for gate in clean_gates(run)], log_likelihood, live=True)


def log_likelihood(answer: Tensor, target: Tensor | None) -> Tensor:
    """Minus the cross-entropy (R,) of logits (R, classes)."""
    if target is None or answer.ndim != 2:
        raise InputError(f"the model's output has shape {tuple(answer.shape)}; 'taylor' expected logits (B, classes)")
    if answer.shape[-1] == 1:
        raise InputError(
            "the model has one class, whose cross-entropy is always 0; expected by='causal' with output='sigmoid' or 'logit'"
        )
    check_range(target, answer.shape[-1])
    return answer.log_softmax(-1).gather(1, target[:, None])[:, 0]
