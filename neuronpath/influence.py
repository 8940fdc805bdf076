"""The joint-influence estimator: score, complete attribution, delta, and every candidate's gradient.

Definitions (after "Discovering Influential Neuron Path in Vision Transformers", ICLR 2025, section 3). In the clean run neuron i of
block l has the value w[l, t, i] on pooled token t. In the frozen run at alpha those values are held as they were, but for a path's
own neurons, which are held at alpha * w. F is the target's probability or logit, g its gradient to a neuron's value in that run, and
G the mean of g over alpha in [0, 1], by quadrature. Then

- joint attribution score = sum_t (sum_l w[l, t, p_l]) * (sum_l G[l, t, p_l])
- attribution of block l  = sum_t w[l, t, p_l] * G[l, t, p_l]
- delta                   = sum_l attribution - (F(1) - F(0)), the error of the quadrature
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn

from .errors import InputError
from .hooks import at_rest
from .quadrature import nodes_and_weights
from .runs import CleanRun, clean_runs
from .vit import ViT, view

TOLERANCE = 1e-3  # |delta| may be this share of |F(1) - F(0)|, plus FLOOR, where the number of steps is left to us
FLOOR = 1e-6
ADAPTIVE_STEPS = (3, 6, 12, 24, 48)  # Gauss-Legendre nodes tried in turn until delta is within tolerance
FIXED_STEPS = 50  # of the other rules, as in captum


@dataclass(frozen=True, eq=False)
class Influence:
    """What the given neurons do jointly, for B images, L blocks and K neurons a block; float32 on the CPU.

    score (B,): the joint attribution score. attribution (B, L, K): the complete attribution of every neuron. output_change (B,):
    F(1) - F(0). delta (B,): what the attributions sum to, less output_change. n_steps (B,): quadrature nodes used.
    """

    score: Tensor
    attribution: Tensor
    output_change: Tensor
    delta: Tensor
    n_steps: Tensor


@dataclass(frozen=True)
class Quadrature:
    """A rule and its number of nodes; ``n_steps=None`` leaves the number to the estimator."""

    method: str = "gausslegendre"
    n_steps: int | None = None

    def __post_init__(self) -> None:
        nodes_and_weights(
            self.method, 2 if self.n_steps is None else self.n_steps
        )  # raises for unknown names and numbers

    @property
    def attempts(self) -> Sequence[int]:
        """Numbers of nodes to try in turn."""
        if self.n_steps is not None:
            return (self.n_steps,)
        return ADAPTIVE_STEPS if self.method == "gausslegendre" else (FIXED_STEPS,)


@dataclass(frozen=True)
class Grid:
    """The rows of a computation, one for each pair of image and node; an image's rows stand together."""

    image: Tensor  # (R,)
    alpha: Tensor  # (R,)
    weight: Tensor  # (R,)

    @classmethod
    def of(cls, images: Tensor, method: str, n_steps: int) -> "Grid":
        alpha, weight = (
            torch.from_numpy(v).to(images.device).repeat(len(images)) for v in nodes_and_weights(method, n_steps)
        )
        return cls(images.repeat_interleave(n_steps), alpha, weight)

    def pieces(self, size: int) -> Iterator[slice]:
        for start in range(0, len(self.image), size):
            yield slice(start, start + size)


def at_neurons(values: Tensor, neurons: Tensor) -> Tensor:
    """Of values (B, T, M) those of the neurons (B, K): (B, T, K)."""
    return values.gather(2, neurons[:, None].expand(-1, values.shape[1], -1))


def scaled(values: Tensor, neurons: Tensor, alpha: Tensor) -> Tensor:
    """Values (R, T, M) with the neurons (R, K) multiplied by alpha (R,)."""
    index = neurons[:, None].expand(-1, values.shape[1], -1)
    return values.scatter(2, index, values.gather(2, index) * alpha[:, None, None].to(values.dtype))


def widest(values: Tensor) -> torch.dtype:
    """The dtype to accumulate in: float32, or float64 for float64."""
    return torch.promote_types(values.dtype, torch.float32)


def path_hidden(run: CleanRun, neurons: Tensor, images: Tensor, alpha: Tensor) -> list[Tensor]:
    """The neurons' values in the frozen run at alpha (R,), one (R, T, M) for each block that ``neurons`` (B, L', K) names."""
    return [scaled(run.hidden[block][images], neurons[images, block], alpha) for block in range(neurons.shape[1])]


def mean_gradients(
    run: CleanRun, neurons: Tensor, images: Tensor, method: str, n_steps: int, at_once: int
) -> list[Tensor]:
    """G of every neuron while the path ``neurons`` (B, L, K) scales: a block (b, T, M), for the b images named.

    One forward and one backward a piece of ``at_once`` rows, whatever the number of blocks and candidates.
    """
    total = [torch.zeros_like(values[images], dtype=widest(values)) for values in run.hidden]
    grid = Grid.of(images, method, n_steps)
    slots = torch.arange(len(images), device=images.device).repeat_interleave(n_steps)
    for piece in grid.pieces(at_once):
        rows = grid.image[piece]
        hidden = [values.requires_grad_() for values in path_hidden(run, neurons, rows, grid.alpha[piece])]
        with torch.enable_grad():
            gradients = torch.autograd.grad(run.frozen(rows, hidden).sum(), hidden)
        for sums, gradient in zip(total, gradients, strict=True):
            sums.index_add_(0, slots[piece], gradient.to(sums) * grid.weight[piece, None, None].to(sums))
    return total


def outputs(run: CleanRun, neurons: Tensor, alpha: float, at_once: int) -> Tensor:
    """F(alpha) (B,) of the frozen run."""
    pieces = [
        run.frozen(rows, path_hidden(run, neurons, rows, torch.full(rows.shape, alpha, device=rows.device)))
        for rows in run.images.split(at_once)
    ]
    return torch.cat(pieces)


def influence_of(run: CleanRun, neurons: Tensor, quadrature: Quadrature, at_once: int) -> Influence:
    """The joint influence of ``neurons`` (B, L, K); where the number of nodes is left to us, nodes are added to the images that
    need them until delta is within tolerance."""
    images = run.images
    change = run.measure(run.logits, images) - outputs(run, neurons, 0.0, at_once)
    # (B, L, T, K)
    clean = torch.stack([at_neurons(v, neurons[:, b]) for b, v in enumerate(run.hidden)], 1).to(widest(run.hidden[0]))
    mean = torch.zeros_like(clean)
    steps = torch.zeros_like(images)
    todo = images
    for n_steps in quadrature.attempts:
        gradients = mean_gradients(run, neurons, todo, quadrature.method, n_steps, at_once)
        mean[todo] = torch.stack([at_neurons(g, neurons[todo, b]) for b, g in enumerate(gradients)], 1)
        steps[todo] = n_steps
        delta = (clean * mean).sum((1, 2, 3)) - change
        todo = images[delta.abs() > TOLERANCE * change.abs() + FLOOR]
        if not len(todo):
            break
    score = (clean.sum((1, 3)) * mean.sum((1, 3))).sum(1)
    return Influence(
        score=score.float().cpu(),
        attribution=(clean * mean).sum(2).float().cpu(),
        output_change=change.float().cpu(),
        delta=delta.float().cpu(),
        n_steps=steps.cpu(),
    )


def joint_influence(
    model: nn.Module,
    images: Tensor,
    neurons: Tensor | Sequence,
    target: int | Sequence[int] | Tensor | None = None,
    *,
    output: str = "prob",
    quadrature: str = "gausslegendre",
    n_steps: int | None = None,
    internal_batch_size: int | None = None,
) -> Influence:
    """Score, attribution and delta of any given neurons.

    Args:
        model: a vision transformer of a known family; it is left exactly as it was.
        images: (B, C, H, W), transformed as the model wants it.
        neurons: (B, L, K) for each image its own, or (L, K) or (L,) for all alike; L is the number of blocks.
        target: the class whose output is explained; None is the predicted one; an int or (B,).
        output: "prob" or "logit".
        quadrature: a rule of captum's name ("gausslegendre", "riemann_left", ...).
        n_steps: nodes of the rule; None adds Gauss-Legendre nodes until |delta| is at most 1e-3 of |F(1) - F(0)| (50 for other rules).
        internal_batch_size: rows (an image at a node) run at once; bounds the memory, doesn't change the result.

    Raises:
        InputError: (a ValueError) for an argument that can't be used, in one line.
    """
    vit = view(model)
    rule = Quadrature(quadrature, n_steps)
    with at_rest(model):
        index = as_neurons(neurons, len(images), vit.widths)
        at_once = rows_at_once(vit, internal_batch_size)
        parts, start = [], 0
        for run in clean_runs(vit, images, target, output, images_at_once(at_once, rule)):
            chosen = index[start : start + len(run.target)].to(run.target.device)
            parts.append(influence_of(run, chosen, rule, at_once))
            start += len(run.target)
    return Influence(
        **{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Influence)}
    )


def as_neurons(neurons: Tensor | Sequence, n_images: int, widths: Sequence[int]) -> Tensor:
    """(B, L, K), checked against the widths of the blocks."""
    index = torch.as_tensor(np.asarray(neurons) if not isinstance(neurons, Tensor) else neurons)
    if index.is_floating_point() or index.dtype == torch.bool:
        raise InputError(f"neurons is of type {index.dtype}; expected whole numbers")
    if index.ndim == 1:
        index = index[:, None]
    if index.ndim == 2:
        index = index.expand(n_images, *index.shape)
    if index.ndim != 3 or index.shape[:2] != (n_images, len(widths)) or not index.shape[2]:
        raise InputError(
            f"neurons has shape {tuple(index.shape)}; expected ({n_images}, {len(widths)}, K): images, blocks, neurons a block"
        )
    for block, width in enumerate(widths):
        here = index[:, block]
        if here.min() < 0 or here.max() >= width:
            wrong = here[(here < 0) | (here >= width)][0]
            raise InputError(f"neuron {wrong} of block {block} is out of range; expected 0 to {width - 1}")
        if (here.sort(1).values.diff(dim=1) == 0).any():
            raise InputError(f"block {block} names a neuron twice; expected different neurons")
    return index.long()


def rows_at_once(vit: ViT, internal_batch_size: int | None) -> int:
    """How many rows to run together: what was asked for, or a number that keeps a block's activations small."""
    if internal_batch_size is None:
        return max(1, 2**16 // max(vit.widths))
    if isinstance(internal_batch_size, bool) or not isinstance(internal_batch_size, int) or internal_batch_size < 1:
        raise InputError(f"internal_batch_size is {internal_batch_size!r}; expected a whole number of at least 1")
    return internal_batch_size


def images_at_once(rows: int, quadrature: Quadrature) -> int:
    """How many images to hold at a time, so that their rows at the fewest nodes fill one piece."""
    return max(1, rows // quadrature.attempts[0])
