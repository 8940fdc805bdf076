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

from ..runs.clean import CleanRun
from ..runs.gates import clean_gates, gated_output, mean_gates
from .registry import Found, Search, largest, register_method

SWEEPS = 6
NODES = 2  # of Gauss-Legendre, on the way from the clean run to the path's removal


@register_method("causal", live=True, efforts=("standard", "thorough"))
def locate_causal(run: CleanRun, search: Search) -> Found:
    """The largest gates of every site; refined for a thorough search."""
    path = largest(clean_gates(run), search.top_k)
    if search.effort != "thorough":
        return Found(path)
    removal = run.value - gated_output(run, path)
    sweeps = torch.ones_like(run.rows)
    active = torch.ones_like(run.rows, dtype=torch.bool)  # a path that has just got better may get better still
    for _ in range(SWEEPS):
        new = torch.where(
            active[:, None, None], largest(mean_gates(run, path, "gausslegendre", NODES), search.top_k), path
        )
        taken = run.value - gated_output(run, new)
        sweeps += active
        active &= taken > removal
        if not active.any():
            break
        path = torch.where(active[:, None, None], new, path)
        removal = torch.where(active, taken, removal)
    return Found(path, sweeps, ~active)
