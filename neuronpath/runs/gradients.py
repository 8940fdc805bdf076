"""Gradients in any precision."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..checks import InputError

# of a float16 model's gradients: its smallest number is 6e-8, its largest 65504
HALF_SCALES = (2.0**12, 2.0**6, 1.0, 2.0**-6)


def gradients_of(values: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of the values' sum, without float16's underflow, nor its overflow."""
    if not values.requires_grad:
        raise InputError(
            "output's values have no gradient; expected a function of the model's output that autograd can follow"
        )
    if inputs[0].dtype != torch.float16:
        return list(torch.autograd.grad(values.sum(), inputs))
    for scale in HALF_SCALES:
        found = torch.autograd.grad(values.sum() * scale, inputs, retain_graph=scale != HALF_SCALES[-1])
        if all(gradient.isfinite().all() for gradient in found):
            break
    return [gradient.float() / scale for gradient in found]
