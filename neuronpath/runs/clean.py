"""The clean run of a batch, and the runs that start from what it leaves behind.

In a *frozen run* the neurons on the pooled tokens are held at given values, block by block, while everything else follows; in a
*live run* they follow too. Both begin behind block 0's attention, for all that comes before is as it was in the clean run; and in
the last block they compute nothing for tokens that no one reads.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import InputError, InputTypeError
from ..models.hooks import input_replaced, inputs_seen
from ..models.outputs import Output, as_target, check_output, check_range, measure, run_model, widest
from ..models.vit import Extra, Hidden, ViT, check_model
from .pieces import Pieces, rows_at_once

HALF_SCALE = 2.0**12  # keeps the gradients of a float16 model above float16's smallest number


@dataclass(frozen=True, eq=False)
class CleanRun:
    """What one ordinary run over B images leaves behind: all that later runs need."""

    vit: ViT
    output: Output
    pieces: Pieces
    pixels: Tensor  # (B, C, H, W)
    answer: Tensor  # (B, classes), or whatever else the model returns
    target: Tensor | None  # (B,)
    extras: list[Extra]  # what the model calls each block with, beside its input
    hidden: list[Tensor]  # a block: (B, T, M), the neurons' values on the T tokens that they are read on
    middle: Tensor  # (B, T, D): the residual stream behind block 0's attention, on those tokens
    others: Tensor  # (B, N - T, D): block 0's output on the other tokens
    live_gradients: list[Tensor] = field(
        default_factory=list
    )  # a block: (B, T, M), F's gradients where nothing is held

    def measure(self, answer: Tensor, images: Tensor) -> Tensor:
        """F (R,) of the model's output (R, ...) whose rows belong to ``images`` (R,)."""
        return measure(answer, None if self.target is None else self.target[images], self.output)

    @cached_property
    def images(self) -> Tensor:
        """The indices 0 .. B - 1."""
        return torch.arange(len(self.answer), device=self.answer.device)

    @cached_property
    def value(self) -> Tensor:
        """F (B,) of the clean run."""
        return self.measure(self.answer, self.images)

    def extra(self, block: int, images: Tensor) -> Extra:
        """What the model calls the block with, for rows that belong to ``images`` (R,).

        Of its tensors those with four dimensions and the batch's length have a row an image, as masks do; the others serve all.
        """

        def of_rows(value: Any) -> Any:
            if isinstance(value, Tensor) and value.ndim == 4 and len(value) == len(self.answer):
                return value[images]
            return tuple(map(of_rows, value)) if isinstance(value, tuple) else value

        extra = self.extras[block]
        return Extra(of_rows(extra.args), {name: of_rows(value) for name, value in extra.kwargs.items()})

    def attend(self, block: int, x: Tensor, images: Tensor) -> Tensor:
        """A block's input (R, N, D) to the residual stream after its attention."""
        return self.vit.attend(block, x, self.extra(block, images))

    def block(self, block: int, x: Tensor, images: Tensor, hidden: Hidden = None) -> Tensor:
        """One block (see :meth:`ViT.block`) on rows (R, N, D) that belong to ``images`` (R,)."""
        return self.vit.block(block, x, self.extra(block, images), hidden)

    def enter(self, images: Tensor, hidden: Tensor | Callable[[Tensor], Tensor]) -> Tensor:
        """Block 0's output (R, N, D) for the named images, its neurons replaced by ``hidden``."""
        return self.vit.join(self.vit.mlp(0, self.middle[images], hidden), self.others[images])

    def finish(self, x: Tensor, block: int, images: Tensor) -> Tensor:
        """F (R,) when blocks ``block`` and later run live from ``x`` (R, N, D)."""
        for later in range(block, len(self.vit.blocks)):
            x = self.block(later, x, images)
        return self.measure(self.vit.readout(x), images)

    def replaced(self, images: Tensor, hidden: Sequence[Tensor | Callable[[Tensor], Tensor]]) -> Tensor:
        """F (R,) of a run whose neurons on the pooled tokens are replaced, a block by a (R, T, M) or by a function."""
        x = self.enter(images, hidden[0])
        for block in range(1, len(hidden)):
            x = self.block(block, x, images, hidden[block])
        return self.measure(self.vit.readout(x), images)

    def frozen_gradients(self, images: Tensor, hidden: Sequence[Tensor]) -> list[Tensor]:
        """F's gradient to every neuron of a frozen run, a block (R, T, M): one forward, one backward."""
        held = [values.detach().requires_grad_() for values in hidden]
        with torch.enable_grad():
            return gradients_of(self.replaced(images, held), held)

    @cached_property
    def gradients(self) -> list[Tensor]:
        """F's gradient to every neuron in the frozen run at alpha = 1, a block (B, T, M): the same for every path."""
        return self.gradients_at([1.0] * len(self.hidden))

    def gradients_at(self, factors: Sequence[float]) -> list[Tensor]:
        """F's gradients in the frozen run whose every neuron is scaled, by one factor a block."""
        found = [torch.empty_like(values, dtype=widest(values)) for values in self.hidden]

        def work(piece: slice) -> None:
            held = [values[piece] * factor for values, factor in zip(self.hidden, factors, strict=True)]
            for block, gradient in enumerate(self.frozen_gradients(self.images[piece], held)):
                found[block][piece] = gradient

        self.pieces.each(len(self.images), work)
        return found


def gradients_of(values: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of the values' sum, without float16's underflow."""
    if not values.requires_grad:
        raise InputError(
            "output's values have no gradient; expected a function of the model's output that autograd can follow"
        )
    if inputs[0].dtype != torch.float16:
        return list(torch.autograd.grad(values.sum(), inputs))
    return [g.float() / HALF_SCALE for g in torch.autograd.grad(values.sum() * HALF_SCALE, inputs)]


def clean_run(
    vit: ViT, images: Tensor, target: Tensor | None, output: Output, pieces: Pieces, live: bool = False
) -> CleanRun:
    """Run the model as it is, once, and keep what later runs start from; ``live`` also keeps F's gradients.

    ``target=None`` takes the predicted classes, where there are any.
    """
    inputs: list[Tensor] = []  # of blocks 0 and 1
    extras: list[Extra] = []
    whole: list[Tensor] = []  # every block's neurons on all tokens, in the graph if there is one

    def enters(args: tuple, kwargs: dict) -> None:
        extras.append(Extra(args[1:], kwargs))
        if len(inputs) < 2:
            inputs.append(args[0].detach())

    def keep(neurons: Tensor) -> Tensor:
        whole.append(neurons if neurons.requires_grad or not live else neurons.detach().requires_grad_())
        return whole[-1]

    with ExitStack() as stack:
        for block in vit.blocks:
            stack.enter_context(inputs_seen(block, enters))
        for fc2 in vit.neurons:
            stack.enter_context(input_replaced(fc2, keep))
        stack.enter_context(torch.set_grad_enabled(live))
        answer = run_model(vit.model, images)
        if len(whole) != len(vit.blocks) or len(extras) != len(vit.blocks):
            ran = min(len(whole), len(extras))
            raise InputTypeError(
                f"{type(vit.model).__name__} ran {ran} of its {len(vit.blocks)} blocks; expected each of them once"
            )
        hidden = [vit.split(neurons.detach())[0].clone() for neurons in whole]
        check_finite(vit, hidden, answer.detach())
        if target is None and vit.has_head and answer.ndim == 2:
            target = answer.argmax(-1)
        if target is not None and isinstance(output, str) and answer.ndim == 2:
            check_range(target, answer.shape[-1])
        found = gradients_of(measure(answer, target, output), whole) if live else []
    middle, others = vit.split(vit.attend(0, inputs[0], extras[0]))
    if len(vit.blocks) > 1:
        others = vit.split(inputs[1])[1]
    elif vit.head_reads_others:
        others = vit.mlp(0, others)
    live_gradients = [vit.split(gradient)[0].to(widest(gradient)) for gradient in found]
    return CleanRun(
        vit,
        output,
        pieces,
        images,
        answer.detach(),
        target,
        extras,
        hidden,
        middle.clone(),
        others.clone(),
        live_gradients,
    )


def clean_runs(
    vit: ViT,
    images: Tensor,
    target: int | Sequence[int] | Tensor | np.ndarray | None,
    output: Output,
    internal_batch_size: int | None = None,
    n_nodes: int = 1,
    live: bool = False,
) -> Iterator[CleanRun]:
    """The clean runs of consecutive chunks of the images (see :func:`check_images`), moved to the model's device and dtype.

    A chunk has as many images as make one piece with ``n_nodes`` rows an image.
    """
    check_output(output, vit.has_head, type(vit.model).__name__)
    classes = as_target(target, len(images))
    like = next(vit.model.parameters())
    pieces = Pieces(rows_at_once(vit, internal_batch_size, images[:1].to(like)))
    at_once = max(1, pieces.size // n_nodes)
    for start in range(0, len(images), at_once):
        chosen = slice(start, start + at_once)
        wanted = None if classes is None else classes[chosen].to(like.device)
        run = clean_run(vit, images[chosen].to(like), wanted, output, pieces, live)
        if start == 0:
            check_view(run)
            if classes is not None and isinstance(output, str):
                check_range(classes, run.answer.shape[-1])
        yield run


def check_finite(vit: ViT, hidden: Sequence[Tensor], answer: Tensor) -> None:
    """Refuse NaN and infinity, naming the weight they came from, else the block."""
    for index, values in enumerate(hidden):
        if not torch.isfinite(values).all():
            check_model(vit.model)
            raise InputError(f"the neurons of block {index} hold NaN or infinity; expected finite activations")
    if not torch.isfinite(answer).all():
        check_model(vit.model)
        raise InputError("the model's output holds NaN or infinity; expected finite numbers")


def check_view(run: CleanRun) -> None:
    """Refuse a model whose frozen run at alpha = 1 isn't its clean run: its blocks compute more than its family's do."""
    first = run.images[:1]
    frozen = run.replaced(first, [values[first] for values in run.hidden])
    clean = run.value[:1]
    tolerance = 1e-4 if run.middle.dtype in (torch.float32, torch.float64) else 0.05
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
    for index, image in enumerate(images):
        if not torch.isfinite(image).all():
            raise InputError(f"image {index} of the batch holds NaN or infinity; expected finite pixels")
