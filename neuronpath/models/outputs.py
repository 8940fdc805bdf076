"""F, the one number of a model's output that is explained: a probability, a logit, or a function of the user's own."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ..checks import InputError, InputTypeError, check_count, odd_tensor
from ..options import OutputName
from .hooks import at_rest, eager

Output = OutputName | Callable[[Tensor, Tensor | None], Tensor]


def as_tensor(answer: Any) -> Tensor:
    """What a model returned as the tensor to explain: of transformers' outputs the logits, else the pooled features."""
    for name in ("logits", "pooler_output"):
        if isinstance(getattr(answer, name, None), Tensor):
            return getattr(answer, name)
    answer = getattr(answer, "last_hidden_state", answer)
    if not isinstance(answer, Tensor):
        raise InputTypeError(f"the model returns a {type(answer).__name__}; expected a tensor")
    return answer


def run_model(model: nn.Module, images: Tensor) -> Tensor:
    """The model's output for the images, or an InputError with its reason to refuse it."""
    with eager():
        try:
            return as_tensor(model(images))
        except (AssertionError, RuntimeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError | InputError):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"the model refuses images of shape {tuple(images.shape[1:])}: {reason}") from error


def logits_of(model: nn.Module, images: Tensor, batch_size: int = 64) -> Tensor:
    """The model's output for images (B, C, H, W), so many at a time; float32 on the CPU."""
    check_count("batch_size", batch_size)
    like = next(model.parameters())
    with at_rest(model):
        return torch.cat([run_model(model, part.to(like)).float().cpu() for part in images.split(batch_size)])


def check_output(output: object, has_head: bool, name: str) -> None:
    """Refuse an ``output`` that can't be had of a model of this class name."""
    if not callable(output) and output not in get_args(OutputName):
        raise InputError(
            f"output is {output!r}; expected one of {', '.join(get_args(OutputName))}, or a function of (output, target)"
        )
    if not callable(output) and not has_head:
        raise InputTypeError(
            f"{name} has no classes (num_classes=0, or its head taken off); expected a model with a classification head, or output= a "
            "function of (model's output, target)"
        )


def output_name(output: Output) -> str:
    """The output's name, for the record."""
    return output if isinstance(output, str) else getattr(output, "__qualname__", type(output).__name__)


def output_of(answer: Tensor, target: Tensor | None, output: Output) -> Tensor:
    """F (R,) of a model's output, whose rows have the targets (R,)."""
    answer = answer.to(widest(answer))
    if callable(output):
        try:
            values = output(answer, target)
        except TypeError as error:
            raise InputTypeError(
                f"output {output_name(output)} can't be called with (model's output, target): {' '.join(str(error).split())}"
            ) from error
        if not isinstance(values, Tensor) or values.shape != answer.shape[:1] or not values.is_floating_point():
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise InputError(
                f"output {output_name(output)} gave {got}; expected floating-point ({len(answer)},), one an image"
            )
        return values
    if answer.ndim != 2 or target is None:
        raise InputError(
            f"the model's output has shape {tuple(answer.shape)}; expected (B, classes), or output= a function of (model's output, "
            "target)"
        )
    if output == "prob" and answer.shape[1] == 1:
        raise InputError(
            "the model has one class, whose probability by softmax is always 1; expected output='sigmoid' or 'logit'"
        )
    return likelihoods(answer, output).gather(1, target[:, None])[:, 0]


def likelihoods(logits: Tensor, output: Output) -> Tensor:
    """Of logits (R, classes) what ``output`` names; of a function of the user's own the probabilities."""
    if output == "logit":
        return logits
    return logits.sigmoid() if output == "sigmoid" else logits.softmax(-1)


def widest(values: Tensor) -> torch.dtype:
    """The dtype to accumulate in: float32, or float64 for float64."""
    return torch.promote_types(values.dtype, torch.float32)


def check_range(target: Tensor, n_classes: int) -> None:
    wrong = target[(target < 0) | (target >= n_classes)].tolist()
    if wrong:
        raise InputError(f"target {wrong[0]} is out of range; expected 0 to {n_classes - 1}")


def as_target(target: int | Sequence[int] | Tensor | np.ndarray | None, n_images: int) -> Tensor | None:
    """One class an image (B,) on the CPU, or None for the predicted ones."""
    if target is None:
        return None
    if odd := odd_tensor(target):
        raise InputTypeError(f"target is {odd}; expected whole numbers, one class or one an image")
    try:
        classes = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError):
        kind = type(target).__name__
        raise InputTypeError(
            f"target is a {kind} that can't be read as whole numbers; expected one class or one an image"
        ) from None
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise InputTypeError(f"target is of type {classes.dtype}; expected whole numbers, one class or one an image")
    if classes.ndim == 0:
        classes = classes.expand(n_images)
    if classes.shape != (n_images,):
        raise InputError(f"target has shape {tuple(classes.shape)}; expected one class or ({n_images},), one an image")
    return classes.long().cpu()
