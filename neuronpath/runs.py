"""The clean run of a batch, and the runs that start from what it leaves behind.

In a *frozen run* the neurons on the pooled tokens are held at given values, block by block, while everything else follows; in a
*live run* they follow too. Both begin behind block 0's attention, for all that comes before is as it was in the clean run; and in
the last block they compute nothing for tokens that no one reads.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .errors import InputError, InputTypeError
from .hooks import input_replaced, inputs_seen
from .vit import ViT, check_model

OUTPUTS = ("prob", "logit")
CPU_PIECE = 256 * 2**20  # bytes of a piece's graph on a CPU: more would only leave the cache sooner
CUDA_SHARE = 0.25  # of the free memory, for a piece's graph on a GPU
HALF_SCALE = 2.0**12  # keeps the gradients of a float16 model above float16's smallest number


class Pieces:
    """How many rows (an image at a node) run at once: halved whenever the device runs out of memory."""

    def __init__(self, size: int) -> None:
        self.size = size

    def each(self, rows: int, work: Callable[[slice], None]) -> None:
        """Have ``work`` done on consecutive slices of ``rows`` rows; it must change nothing before it has succeeded."""
        start = 0
        while start < rows:
            piece = slice(start, min(start + self.size, rows))
            try:
                work(piece)
            except torch.OutOfMemoryError:
                if self.size == 1:
                    raise
                self.size //= 2
            else:
                start = piece.stop


@dataclass(frozen=True, eq=False)
class CleanRun:
    """What one ordinary run over B images leaves behind: all that later runs need."""

    vit: ViT
    output: str
    pieces: Pieces
    logits: Tensor  # (B, classes)
    target: Tensor  # (B,)
    hidden: list[Tensor]  # a block: (B, T, M), the neurons' values on the T pooled tokens
    middle: Tensor  # (B, T, D): the residual stream behind block 0's attention, on the pooled tokens
    others: Tensor  # (B, N - T, D): block 0's output on the other tokens
    live_gradients: list[Tensor] = field(
        default_factory=list
    )  # a block: (B, T, M), F's gradients where nothing is held

    def measure(self, logits: Tensor, images: Tensor) -> Tensor:
        """F (R,) of logits (R, classes) whose rows belong to ``images`` (R,)."""
        return measure(logits, self.target[images], self.output)

    @property
    def images(self) -> Tensor:
        """The indices 0 .. B - 1."""
        return torch.arange(len(self.target), device=self.target.device)

    @property
    def value(self) -> Tensor:
        """F (B,) of the clean run."""
        return self.measure(self.logits, self.images)

    def enter(self, images: Tensor, hidden: Tensor | Callable[[Tensor], Tensor]) -> Tensor:
        """Block 0's output (R, N, D) for the named images, its neurons replaced by ``hidden``."""
        return self.vit.join(self.vit.mlp(0, self.middle[images], hidden), self.others[images])

    def finish(self, x: Tensor, block: int, images: Tensor) -> Tensor:
        """F (R,) when blocks ``block`` and later run live from ``x`` (R, N, D)."""
        for later in range(block, len(self.vit.blocks)):
            x = self.vit.block(later, x)
        return self.measure(self.vit.readout(x), images)

    def replaced(self, images: Tensor, hidden: Sequence[Tensor | Callable[[Tensor], Tensor]]) -> Tensor:
        """F (R,) of a run whose neurons on the pooled tokens are replaced, a block by a (R, T, M) or by a function."""
        x = self.enter(images, hidden[0])
        for block in range(1, len(hidden)):
            x = self.vit.block(block, x, hidden[block])
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

        self.pieces.each(len(self.target), work)
        return found


def widest(values: Tensor) -> torch.dtype:
    """The dtype to accumulate in: float32, or float64 for float64."""
    return torch.promote_types(values.dtype, torch.float32)


def measure(logits: Tensor, target: Tensor, output: str) -> Tensor:
    """F (R,): the target's probability or logit."""
    logits = logits.to(widest(logits))
    values = logits.softmax(-1) if output == "prob" else logits
    return values.gather(1, target[:, None])[:, 0]


def gradients_of(values: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of the values' sum, without float16's underflow."""
    if inputs[0].dtype != torch.float16:
        return list(torch.autograd.grad(values.sum(), inputs))
    return [g.float() / HALF_SCALE for g in torch.autograd.grad(values.sum() * HALF_SCALE, inputs)]


def clean_run(
    vit: ViT, images: Tensor, target: Tensor | None, output: str, pieces: Pieces, live: bool = False
) -> CleanRun:
    """Run the model as it is, once, and keep what later runs start from; ``live`` also keeps F's gradients.

    ``target=None`` takes the predicted classes.
    """
    first_two: list[Tensor] = []
    whole: list[Tensor] = []  # every block's neurons on all tokens, in the graph if there is one

    def keep(neurons: Tensor) -> Tensor:
        whole.append(neurons if neurons.requires_grad or not live else neurons.detach().requires_grad_())
        return whole[-1]

    with ExitStack() as stack:
        for block in vit.blocks[:2]:
            stack.enter_context(inputs_seen(block, lambda args, _kwargs: first_two.append(args[0].detach())))
        for fc2 in vit.neurons:
            stack.enter_context(input_replaced(fc2, keep))
        stack.enter_context(torch.set_grad_enabled(live))
        stack.enter_context(eager())
        try:
            logits = vit.model(images)
        except (AssertionError, RuntimeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"the model refuses images of shape {tuple(images.shape)}: {reason}") from error
        if len(whole) != len(vit.blocks):
            raise InputTypeError(
                f"{type(vit.model).__name__} ran {len(whole)} of its {len(vit.blocks)} blocks; expected each of them once"
            )
        hidden = [vit.split(neurons.detach())[0].clone() for neurons in whole]
        check_finite(vit, hidden, logits.detach())
        if target is None:
            target = logits.argmax(-1)
        check_range(target, logits.shape[-1])
        found = gradients_of(measure(logits, target, output), whole) if live else []
    middle, others = vit.split(vit.attend(0, first_two[0]))
    if len(vit.blocks) > 1:
        others = vit.split(first_two[1])[1]
    live_gradients = [vit.split(gradient)[0].to(widest(gradient)) for gradient in found]
    return CleanRun(
        vit, output, pieces, logits.detach(), target, hidden, middle.clone(), others.clone(), live_gradients
    )


def clean_runs(
    vit: ViT,
    images: Tensor,
    target: int | Sequence[int] | Tensor | np.ndarray | None,
    output: str,
    internal_batch_size: int | None = None,
    n_nodes: int = 1,
    live: bool = False,
) -> Iterator[CleanRun]:
    """The clean runs of consecutive chunks of the images (see :func:`check_images`), moved to the model's device and dtype.

    A chunk has as many images as make one piece with ``n_nodes`` rows an image.
    """
    if output not in OUTPUTS:
        raise InputError(f"output is {output!r}; expected one of {', '.join(OUTPUTS)}")
    classes = as_target(target, len(images))
    like = next(vit.model.parameters())
    pieces = Pieces(rows_at_once(vit, internal_batch_size, images))
    at_once = max(1, pieces.size // n_nodes)
    for start in range(0, len(images), at_once):
        chosen = slice(start, start + at_once)
        wanted = None if classes is None else classes[chosen].to(like.device)
        run = clean_run(vit, images[chosen].to(like), wanted, output, pieces, live)
        if start == 0:
            check_view(run)
            if classes is not None:
                check_range(classes, run.logits.shape[-1])
        yield run


def rows_at_once(vit: ViT, internal_batch_size: int | None, images: Tensor) -> int:
    """How many rows to run together: what was asked for, or as many as the graph's share of the memory holds."""
    if internal_batch_size is not None:
        if isinstance(internal_batch_size, bool) or not isinstance(internal_batch_size, int) or internal_batch_size < 1:
            raise InputError(f"internal_batch_size is {internal_batch_size!r}; expected a whole number of at least 1")
        return internal_batch_size
    like = next(vit.model.parameters())
    # kept for the backward, a token and block: the inputs of two norms, q, k, v and attention's output, the activation's input
    floats = sum(6 * fc2.out_features + fc2.in_features for fc2 in vit.neurons)
    row = floats * vit.n_tokens((images.shape[-2], images.shape[-1])) * like.element_size()
    share = CUDA_SHARE * torch.cuda.mem_get_info(like.device)[0] if like.is_cuda else CPU_PIECE
    return max(1, int(share // row))


def eager() -> AbstractContextManager:
    """Run compiled modules as they were written, for hooks don't reach into compiled code."""
    set_stance = getattr(torch.compiler, "set_stance", None)  # torch 2.6 and later
    return set_stance("force_eager") if set_stance else nullcontext()


def check_finite(vit: ViT, hidden: Sequence[Tensor], logits: Tensor) -> None:
    """Refuse NaN and infinity, naming the weight they came from, else the block."""
    for index, values in enumerate(hidden):
        if not torch.isfinite(values).all():
            check_model(vit.model)
            raise InputError(f"the neurons of block {index} hold NaN or infinity; expected finite activations")
    if not torch.isfinite(logits).all():
        check_model(vit.model)
        raise InputError("the model's logits hold NaN or infinity; expected finite logits")


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


def check_range(target: Tensor, n_classes: int) -> None:
    wrong = target[(target < 0) | (target >= n_classes)].tolist()
    if wrong:
        raise InputError(f"target {wrong[0]} is out of range; expected 0 to {n_classes - 1}")


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
