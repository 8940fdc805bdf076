"""Live gates: the path whose removal the output would feel most, to first order, from one forward and one backward.

Multiply every unit on the pooled tokens by a gate c that stays in the ordinary run. The derivative of F to c at c = 1 is the
unit's value times F's gradient to it with nothing held: what its removal takes from F, later blocks' answers included, to
first order. The largest of every site make the path; what its removal really takes is then measured by removing it.

Gates at c = 1 are those of Molchanov et al., "Importance Estimation for Neural Network Pruning" (CVPR 2019), section 3.1.

``effort="thorough"`` goes on: it averages the derivatives while the present path's gates go from 1 to 0, which for the path's own
units sums to what their removal takes and tells of every other what it would add; the largest make a new path, kept for the images
where its removal really takes more.
"""

import torch
from torch import Tensor

from ..models.outputs import widest
from ..runs.clean import CleanRun, gradients_of
from ..runs.influence import Grid, edited_output
from ..runs.quadrature import nodes_and_weights
from .registry import Found, Search, register_method

SWEEPS = 6
NODES = 2  # of Gauss-Legendre, on the way from the clean run to the path's removal


@register_method("causal", live=True)
def locate_causal(run: CleanRun, search: Search) -> Found:
    """The largest gates of every site; refined for a thorough search."""
    gates = [(values * gradient).sum(1) for values, gradient in zip(run.hidden, run.live_gradients, strict=True)]
    path = largest(gates, search.top_k)
    if search.effort != "thorough":
        return Found(path)
    removal = run.value - edited_output(run, path, 0.0)
    sweeps = torch.ones_like(run.rows)
    active = torch.ones_like(run.rows, dtype=torch.bool)  # a path that has just got better may get better still
    for _ in range(SWEEPS):
        new = torch.where(active[:, None, None], largest(mean_gates(run, path), search.top_k), path)
        taken = run.value - edited_output(run, new, 0.0)
        sweeps += active
        active &= taken > removal
        if not active.any():
            break
        path = torch.where(active[:, None, None], new, path)
        removal = torch.where(active, taken, removal)
    return Found(path, sweeps, ~active)


def largest(gates: list[Tensor], top_k: int) -> Tensor:
    """The units (B, S, K) with the largest gates, a site (B, U)."""
    return torch.stack([gate.topk(top_k).indices for gate in gates], 1)


def mean_gates(run: CleanRun, path: Tensor) -> list[Tensor]:
    """F's derivative to every unit's gate, a site (B, U), averaged while the gates of ``path`` (B, S, K) go from 1 to 0."""
    grid = Grid.of(run.rows, *nodes_and_weights("gausslegendre", NODES))
    means = [torch.zeros_like(values[:, 0], dtype=widest(values)) for values in run.hidden]

    def work(piece: slice) -> None:
        rows, alpha, weight = grid.image[piece], grid.alpha[piece], grid.weight[piece]
        gates = []
        for site, mean in enumerate(means):
            index = path[rows, site]
            gate = torch.ones(len(rows), mean.shape[1], dtype=run.middle.dtype, device=mean.device)
            gates.append(gate.scatter(1, index, alpha[:, None].to(gate).expand_as(index)).requires_grad_())
        with torch.enable_grad():
            values = run.replaced(rows, [lambda live, gate=gate: live * gate[:, None] for gate in gates])  # type: ignore[misc]
            found = gradients_of(values, gates)
        for mean, gradient in zip(means, found, strict=True):
            mean.index_add_(0, rows, gradient.to(mean) * weight[:, None].to(mean))

    run.pieces.each(len(grid.image), work)
    return means
