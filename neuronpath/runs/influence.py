"""The joint-influence estimator: score, complete attribution, delta, and every candidate's gradient.

Definitions (after "Discovering Influential Neuron Path in Vision Transformers", ICLR 2025, section 3). In the clean run unit i of
site s has the value w[s, t, i] on pooled token t. In the frozen run at alpha those values are held as they were, but for a path's
own units, which are held at alpha * w. F is the target's probability or logit, g its gradient to a unit's value in that run, and
G the mean of g over alpha in [0, 1], by quadrature. Then

- joint attribution score = sum_t (sum_s w[s, t, p_s]) * (sum_s G[s, t, p_s])
- attribution at site s   = sum_t w[s, t, p_s] * G[s, t, p_s]
- delta                   = sum_s attribution - (F(1) - F(0)), the error of the quadrature

With neurons alone there is one site a block, S = L. A head's value is the norm of its channels, and scales all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..models.outputs import widest
from ..options import Rule
from ..units import on_path, scaled
from .clean import CleanRun
from .quadrature import nodes_and_weights

TOLERANCE = 1e-3  # |delta| may be this share of |F(1) - F(0)|, plus FLOOR, where the number of steps is left to us
FLOOR = 1e-6
# tried in turn until delta is within tolerance
ADAPTIVE_STEPS = {
    "clenshawcurtis": (5, 9, 17, 33, 65, 129),
    "gausslegendre": (2, 4, 8, 16, 32, 64, 128),
    "gaussradau": (2, 3, 5, 9, 17, 33, 65, 129),
}
FIXED_STEPS = 50  # of the other rules, as in captum


@dataclass(frozen=True, eq=False)
class Influence:
    """What the given units do jointly, for B images, S sites and K units a site; float32 on the CPU."""

    score: Tensor
    """(B,): the joint attribution score."""
    attribution: Tensor
    """(B, S, K): the complete attribution of every unit."""
    output_change: Tensor
    """(B,): F(1) - F(0)."""
    delta: Tensor
    """(B,): what the attributions sum to, less ``output_change``."""
    n_steps: Tensor
    """(B,), int64: the quadrature's nodes."""


@dataclass(frozen=True)
class Quadrature:
    """A rule and its number of nodes; ``n_steps=None`` leaves the number to the estimator."""

    method: Rule = "gausslegendre"
    n_steps: int | None = None

    def __post_init__(self) -> None:
        nodes_and_weights(
            self.method, 2 if self.n_steps is None else self.n_steps
        )  # raises for unknown names and numbers

    @property
    def attempts(self) -> Sequence[int]:
        """Numbers of nodes to try in turn."""
        return ADAPTIVE_STEPS.get(self.method, (FIXED_STEPS,)) if self.n_steps is None else (self.n_steps,)

    @property
    def fewest(self) -> int:
        """The number of nodes to search with."""
        return self.attempts[0]


@dataclass(frozen=True)
class Grid:
    """The rows of a computation, one for each pair of image and node; an image's rows stand together."""

    image: Tensor  # (R,)
    alpha: Tensor  # (R,)
    weight: Tensor  # (R,)

    @classmethod
    def of(cls, images: Tensor, alphas: np.ndarray, weights: np.ndarray) -> "Grid":
        alpha, weight = (torch.as_tensor(values).to(images.device).repeat(len(images)) for values in (alphas, weights))
        return cls(images.repeat_interleave(len(alphas)), alpha, weight)


def path_hidden(run: CleanRun, path: Tensor, rows: Tensor, alpha: Tensor | float) -> list[Tensor]:
    """The units' values in the frozen run at alpha, one (R, T, U) for each site that ``path`` (B, S', K) names."""
    return [scaled(run.hidden[site][rows], path[rows, site], alpha) for site in range(path.shape[1])]


def mean_gradients(
    run: CleanRun, path: Tensor, method: Rule, n_steps: int, images: Tensor | None = None
) -> list[Tensor]:
    """G of every unit while ``path`` (B, S, K) scales: a site (b, T, U), for all images or the b named.

    One forward and one backward an image and node, whatever the number of sites and candidates. A node at alpha = 1 costs
    nothing once the clean run's gradients are known.
    """
    images = run.rows if images is None else images
    alphas, weights = nodes_and_weights(method, n_steps)
    at_one = alphas == 1
    if at_one.any():
        total = [gradient[images] * weights[at_one].item() for gradient in run.gradients]
    else:
        total = [torch.zeros_like(values[images], dtype=widest(values)) for values in run.hidden]
    grid = Grid.of(images, alphas[~at_one], weights[~at_one])
    slots = Grid.of(torch.arange(len(images), device=images.device), alphas[~at_one], weights[~at_one]).image

    def work(piece: slice) -> None:
        rows = grid.image[piece]
        gradients = run.frozen_gradients(rows, path_hidden(run, path, rows, grid.alpha[piece]))
        for sums, gradient in zip(total, gradients, strict=True):
            sums.index_add_(0, slots[piece], gradient.to(sums) * grid.weight[piece, None, None].to(sums))

    run.pieces.each(len(grid.image), work)
    return total


def frozen_output(run: CleanRun, path: Tensor, alpha: float) -> Tensor:
    """F (B,) of the frozen run at alpha."""
    found = torch.empty_like(run.value)

    def work(piece: slice) -> None:
        rows = run.rows[piece]
        found[piece] = run.replaced(rows, path_hidden(run, path, rows, alpha))

    run.pieces.each(len(path), work)
    return found


def influence_of(
    run: CleanRun, path: Tensor, quadrature: Quadrature, known: Tensor | None = None, n_known: int = 0
) -> Influence:
    """The joint influence of ``path`` (B, S, K).

    Where the number of nodes is left to us, nodes are added to the images that need them until delta is within tolerance.
    ``known`` is G on the path (B, S, T, K) with ``n_known`` nodes, where it is known already.
    """
    images = run.rows
    change = run.value - frozen_output(run, path, 0.0)
    clean = on_path(run.hidden, path).to(widest(run.hidden[0]))
    mean = torch.zeros_like(clean) if known is None else known.to(clean)
    steps = torch.full_like(images, n_known)
    todo = images
    for n_steps in quadrature.attempts:
        if n_steps < n_known:
            continue
        if n_steps > n_known:
            gradients = mean_gradients(run, path, quadrature.method, n_steps, todo)
            mean[todo] = on_path(gradients, path[todo])
            steps[todo] = n_steps
        delta = (clean * mean).sum((1, 2, 3)) - change
        todo = images[delta.abs() > TOLERANCE * change.abs() + FLOOR]
        if not len(todo):
            break
    return Influence(
        score=(clean.sum((1, 3)) * mean.sum((1, 3))).sum(1).float().cpu(),
        attribution=(clean * mean).sum(2).float().cpu(),
        output_change=change.float().cpu(),
        delta=delta.float().cpu(),
        n_steps=steps.cpu(),
    )
