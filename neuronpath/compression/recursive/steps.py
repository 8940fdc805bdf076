"""A vision transformer taken apart: images in, from any block to any other, logits out."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import InputError, InputTypeError
from ...models.around import answered
from ...models.class_names import head_size
from ...models.hooks import alone, at_rest, eager
from ...models.outputs import run_model
from ...models.view import view
from ...models.vit import Extra, ViT
from ...options import Sureness


class Steps:
    """Runs a model's blocks some at a time, on any rows. Use it inside :meth:`running`.

    ``rested``: nobody else has the model, and it is in eval mode with no weight that requires a gradient, so that nothing has to be
    put to rest at every step.

    What the model gives a block beside its input (rotary positions) is taken from the first image: it is the same for all.
    """

    def __init__(self, model: nn.Module | ViT, rested: bool = False) -> None:
        self.vit, self.rested = view(model), rested
        if self.vit.around is not None or not self.vit.has_head:
            raise InputTypeError(
                f"{type(self.vit.model).__name__} can't answer early: it has no classes, or is no vision transformer itself; expected "
                "one with a classification head"
            )
        if head_size(self.vit.model) == 1:
            raise InputError(
                f"{type(self.vit.model).__name__} has one class, of which every exit is sure; expected two at least"
            )
        self.extras: list[Extra] = []
        self.shape: torch.Size | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self.rested:
                stack.enter_context(alone(self.vit.model))
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(torch.no_grad())
            else:
                stack.enter_context(at_rest(self.vit.model))
            stack.enter_context(eager())
            yield

    @contextmanager
    def as_they_are(self) -> Iterator[None]:
        """Inside :meth:`running`: what is at rest already isn't put to rest at every step."""
        before, self.rested = self.rested, True
        try:
            yield
        finally:
            self.rested = before

    def enter(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to block 0's input (B, N, D)."""
        like = next(self.vit.model.parameters())
        if self.shape != images.shape[1:]:
            self.extras.clear()
            self._embed(images[:1].to(like), self.extras)
            self.shape = images.shape[1:]
        return self._embed(images.to(like), [])

    def _embed(self, images: Tensor, extras: list[Extra]) -> Tensor:
        seen: list[Tensor] = []

        def keep(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            seen.append(x)
            extras.append(Extra(args, kwargs))
            return x

        with answered(self.vit.blocks, keep):
            run_model(self.vit.model, images)
        return seen[0]

    def run(self, x: Tensor, start: int, stop: int) -> Tensor:
        """The residual stream (B, N, D) before block ``start`` to that before block ``stop``."""
        for block, extra in zip(self.vit.blocks[start:stop], self.extras[start:stop], strict=True):
            answer = block(x, *extra.args, **extra.kwargs)
            x = answer[0] if isinstance(answer, tuple) else answer
        return x


def scores(logits: Tensor, by: Sureness) -> Tensor:
    """How sure logits (..., classes) are, from 0 to 1: the largest probability, or 1 less the entropy as a share of the largest."""
    p = logits.float().softmax(-1)
    if by == "confidence":
        return p.amax(-1)
    entropy = -(p * p.clamp_min(1e-30).log()).sum(-1)
    return 1 - entropy / torch.tensor(float(max(2, p.shape[-1]))).log()
