"""The best parts for weights: low-rank products, and a matrix that several weights share, plain or weighted by what comes in.

The error that is made small is E |W x - V x|² = tr((W - V) S (W - V)ᵀ) for inputs of second moments S (the identity: the Frobenius
norm, whose best approximation is the truncated singular value decomposition). All in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDS = 8  # of fitting the shared matrix and the products in turn


@dataclass(frozen=True, eq=False)
class Inputs:
    """Second moments S (in, in) of a layer's inputs, and their Cholesky factor: S = C Cᵀ. None weighs all inputs alike."""

    moments: Tensor | None
    factor: Tensor | None

    @staticmethod
    def of(moments: Tensor | None) -> "Inputs":
        return Inputs(moments, None if moments is None else torch.linalg.cholesky(moments))


def product(weight: Tensor, rank: int, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The best b (out, r), a (r, in) of this rank: of W C the first singular vectors, with C out of it again."""
    out, wide = weight.shape
    if rank == 0:
        return weight.new_zeros(out, 0), weight.new_zeros(0, wide)
    if out <= wide:  # the outputs' principal directions; C itself isn't needed
        gram = weight @ (weight.T if inputs.moments is None else inputs.moments @ weight.T)
        b = torch.linalg.eigh(gram).eigenvectors.flip(1)[:, :rank]
        return balanced(b, b.T @ weight)
    scaled = weight if inputs.factor is None else weight @ inputs.factor
    v = torch.linalg.eigh(scaled.T @ scaled).eigenvectors.flip(1)[:, :rank]
    a = v.T if inputs.factor is None else torch.linalg.solve_triangular(inputs.factor.T, v, upper=True).T
    return balanced(scaled @ v, a)


def balanced(b: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """The same product, the k-th column of b as long as the k-th row of a: that is what an optimiser takes best."""
    columns, rows = b.norm(dim=0), a.norm(dim=1)
    scale = torch.where((columns > 0) & (rows > 0), (rows / columns.clamp_min(1e-300)).sqrt(), 1.0)
    return b * scale, a / scale[:, None]


def energies(weight: Tensor, inputs: Inputs) -> Tensor:
    """What each further rank takes off the error, falling: the squared singular values of W C."""
    scaled = weight if inputs.factor is None else weight @ inputs.factor
    gram = scaled @ scaled.T if len(scaled) <= scaled.shape[1] else scaled.T @ scaled
    return torch.linalg.eigvalsh(gram).flip(0).clamp_min(0)


def mean(weights: Sequence[Tensor], inputs: Sequence[Inputs]) -> tuple[Tensor, Inputs]:
    """The one matrix that is nearest to them all, each weighted by its inputs, and what it is weighted by in turn."""
    whole = _together(inputs)
    return _centre([_weighted(w, each) for w, each in zip(weights, inputs, strict=True)], whole), whole


def _together(inputs: Sequence[Inputs]) -> Inputs:
    """What a matrix that all have is weighted by."""
    moments = [each.moments for each in inputs if each.moments is not None]
    return Inputs.of(sum(moments[1:], moments[0])) if moments else inputs[0]


def _weighted(weight: Tensor, inputs: Inputs) -> Tensor:
    return weight if inputs.moments is None else weight @ inputs.moments


def _centre(weighted: Sequence[Tensor], whole: Inputs) -> Tensor:
    """The nearest to all, of W S for each."""
    total = sum(weighted[1:], weighted[0])
    return total / len(weighted) if whole.factor is None else torch.cholesky_solve(total.T, whole.factor).T


def fit(
    weights: Sequence[Tensor], inputs: Sequence[Inputs], rank: int, shared_rank: int | None = None, rounds: int = ROUNDS
) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
    """A shared matrix and a product of ``rank`` for each weight, fitted in turn: the shared parts, and a pair (b, a) a weight.

    The shared parts are one matrix, or a pair of ``shared_rank``.
    """
    own = [product(w, 0, each) for w, each in zip(weights, inputs, strict=True)]
    shared: list[Tensor] = []
    whole = _together(inputs)
    weighted = [_weighted(w, each) for w, each in zip(weights, inputs, strict=True)]
    for turn in range(rounds if rank else 1):
        left = [w - b @ _weighted(a, each) for w, (b, a), each in zip(weighted, own, inputs, strict=True)]
        centre = _centre(left, whole)
        shared = [centre] if shared_rank is None else list(product(centre, shared_rank, whole))
        common = centre if shared_rank is None else shared[0] @ shared[1]
        if rank:
            own = [product(w - common, rank, each) for w, each in zip(weights, inputs, strict=True)]
        if turn == 0 and shared_rank is None and rank >= min(weights[0].shape):
            break  # exact already
    return shared, own
