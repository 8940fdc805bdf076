"""The clean run of a batch, and the frozen runs that start from what it leaves behind.

In a *frozen run* the neurons on the pooled tokens are held at given values, block by block, while everything else follows. It
begins behind block 0's attention, for all that comes before is as it was in the clean run; and in the last block it computes
nothing for tokens that no one reads.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .errors import InputError, InputTypeError
from .hooks import inputs_seen
from .vit import ViT, check_model

OUTPUTS = ("prob", "logit")


@dataclass(frozen=True, eq=False)
class CleanRun:
    """What one ordinary run over B images leaves behind: all that a frozen run needs."""

    vit: ViT
    output: str
    logits: Tensor  # (B, classes)
    target: Tensor  # (B,)
    hidden: list[Tensor]  # a block: (B, T, M), the neurons' values on the T pooled tokens
    middle: Tensor  # (B, T, D): the residual stream behind block 0's attention, on the pooled tokens
    others: Tensor  # (B, N - T, D): block 0's output on the other tokens

    def measure(self, logits: Tensor, images: Tensor) -> Tensor:
        """F (R,) of logits (R, classes) whose rows belong to ``images`` (R,)."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        values = logits.softmax(-1) if self.output == "prob" else logits
        return values.gather(1, self.target[images, None])[:, 0]

    @property
    def images(self) -> Tensor:
        """The indices 0 .. B - 1."""
        return torch.arange(len(self.target), device=self.target.device)

    def enter(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Block 0's output (R, N, D) for the named images, its neurons held at ``hidden`` (R, T, M)."""
        return self.vit.join(self.vit.mlp(0, self.middle[images], hidden), self.others[images])

    def finish(self, x: Tensor, block: int, images: Tensor) -> Tensor:
        """F (R,) when blocks ``block`` and later run live from ``x`` (R, N, D)."""
        for later in range(block, len(self.vit.blocks)):
            x = self.vit.block(later, x)
        return self.measure(self.vit.readout(x), images)

    def frozen(self, images: Tensor, hidden: Sequence[Tensor]) -> Tensor:
        """F (R,) of a run whose neurons on the pooled tokens are held at ``hidden``, one (R, T, M) a block."""
        x = self.enter(images, hidden[0])
        for block in range(1, len(hidden)):
            x = self.vit.block(block, x, hidden[block])
        return self.measure(self.vit.readout(x), images)


def clean_run(vit: ViT, images: Tensor, output: str) -> CleanRun:
    """Run the model as it is, once, and keep what frozen runs start from; the targets are the predicted classes."""
    first_two: list[Tensor] = []
    hidden: list[Tensor] = []

    def keep_neurons(args: tuple, _kwargs: dict) -> None:
        hidden.append(vit.split(args[0])[0].clone())

    with ExitStack() as hooks:
        for block in vit.blocks[:2]:
            hooks.enter_context(inputs_seen(block, lambda args, _kwargs: first_two.append(args[0])))
        for fc2 in vit.neurons:
            hooks.enter_context(inputs_seen(fc2, keep_neurons))
        try:
            logits = vit.model(images)
        except (AssertionError, RuntimeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"the model refuses images of shape {tuple(images.shape)}: {reason}") from error
    for index, values in enumerate(hidden):
        if not torch.isfinite(values).all():
            check_model(vit.model)
            raise InputError(f"the neurons of block {index} hold NaN or infinity; expected finite activations")
    if not torch.isfinite(logits).all():
        check_model(vit.model)
        raise InputError("the model's logits hold NaN or infinity; expected finite logits")
    middle, others = vit.split(vit.attend(0, first_two[0]))
    if len(vit.blocks) > 1:
        others = vit.split(first_two[1])[1]
    return CleanRun(vit, output, logits, logits.argmax(-1), hidden, middle.clone(), others.clone())


def check_view(run: CleanRun) -> None:
    """Refuse a model whose frozen run at alpha = 1 isn't its clean run: a block that computes more than its family's blocks do."""
    first = run.images[:1]
    frozen = run.frozen(first, [values[first] for values in run.hidden])
    clean = run.measure(run.logits[first], first)
    tolerance = 1e-4 if run.logits.dtype in (torch.float32, torch.float64) else 0.05
    if not torch.allclose(frozen, clean, rtol=tolerance, atol=tolerance):
        raise InputTypeError(
            f"{type(run.vit.model).__name__} does more than its family's blocks do: run block by block it gives "
            f"{frozen.item():.6g} where its own forward gives {clean.item():.6g}; expected the same"
        )


def check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise InputTypeError(f"images is a {type(images).__name__}; expected a tensor of shape (B, C, H, W)")
    if not images.is_floating_point():
        raise InputTypeError(
            f"images has dtype {images.dtype}; expected floating point, transformed as the model wants it"
        )
    if images.ndim != 4:
        raise InputError(f"images has shape {tuple(images.shape)}; expected (B, C, H, W)")
    if not len(images):
        raise InputError("images is an empty batch; expected at least one image")
    if not torch.isfinite(images).all():
        bad = [i for i, image in enumerate(images) if not torch.isfinite(image).all()]
        raise InputError(f"image {bad[0]} of the batch holds NaN or infinity; expected finite pixels")


def as_target(target: int | Sequence[int] | Tensor | np.ndarray | None, n_images: int) -> Tensor | None:
    """One class an image (B,), or None for the predicted ones."""
    if target is None:
        return None
    classes = torch.as_tensor(target)
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise InputTypeError(f"target is of type {classes.dtype}; expected whole numbers, one class or one an image")
    if classes.ndim == 0:
        classes = classes.expand(n_images)
    if classes.shape != (n_images,):
        raise InputError(f"target has shape {tuple(classes.shape)}; expected one class or ({n_images},), one an image")
    return classes.long()


def clean_runs(
    vit: ViT, images: Tensor, target: int | Sequence[int] | Tensor | np.ndarray | None, output: str, at_once: int
) -> Iterator[CleanRun]:
    """The clean runs of consecutive chunks of ``at_once`` images, moved to the model's device and dtype."""
    check_images(images)
    if output not in OUTPUTS:
        raise InputError(f"output is {output!r}; expected one of {', '.join(OUTPUTS)}")
    classes = as_target(target, len(images))
    like = next(vit.model.parameters())
    for start in range(0, len(images), at_once):
        run = clean_run(vit, images[start : start + at_once].to(like), output)
        if start == 0:
            check_view(run)
        if classes is not None:
            n_classes = run.logits.shape[-1]
            wrong = classes[(classes < 0) | (classes >= n_classes)].tolist()
            if wrong:
                raise InputError(f"target {wrong[0]} is out of range; expected 0 to {n_classes - 1}")
            run = replace(run, target=classes[start : start + at_once].to(like.device))
        yield run
