"""Live joint influence: the path whose joint ablation takes most from the output, sought over all sites at once.

Every unit has a gate, 1 as it is and 0 ablated, and all else follows (see ``runs/gates.py``). The derivatives of F to all gates of all
sites come from one forward and one backward. Averaged while the gates of a set of units go from 1 to 0, they sum, over the set, to
what ablating it takes, and tell of every other unit what it would add. So

    start:   gates averaged while all units go; the largest of every site make a path
    repeat:  gates averaged while the path's own units go                       one forward, one backward a node
             the largest of every site, in place of the path's where that promises more: at all such sites, or, where that takes
             no more, at the half that promises most; kept for the images where ablating the new path really takes more
    until no change promises anything, or takes more, or the effort is spent.
"""

import torch
from torch import Tensor

from ..runs.clean import CleanRun
from ..runs.gates import gated_output, mean_gates
from .registry import Found, Search, largest, register_method

NODES = 2  # of Gauss-Legendre: more choose no better
SWEEPS = {"standard": 3, "thorough": 12}


@register_method(
    "live",
    "clenshawcurtis",
    units=("both", "neurons", "heads"),
    token="all",
    efforts=("standard", "thorough"),
    ablates=True,
)
def locate_live(run: CleanRun, search: Search) -> Found:
    """The path that takes most, and how it was found."""
    path = largest(mean_gates(run, None, "gausslegendre", NODES, search.ablated), search.top_k)
    sites = path.shape[1]
    value = gated_output(run, path, 0.0, search.ablated)
    allowed = torch.full_like(run.rows, sites)
    sweeps, converged = torch.zeros_like(run.rows), torch.zeros_like(run.rows, dtype=torch.bool)
    for _ in range(SWEEPS[search.effort]):
        active = run.rows[~converged]
        if not len(active):
            break
        gates = mean_gates(run, path, "gausslegendre", NODES, search.ablated, active)
        sweeps[active] += 1
        proposed, few, promising = proposals(gates, path[active], allowed[active], search.top_k)
        better = torch.zeros_like(promising)
        for new in (proposed, few):  # the second for the images that the first doesn't serve
            trying = (promising & ~better).nonzero()[:, 0]
            rows = active[trying]
            found = gated_output(run, path.index_copy(0, rows, new[trying]), 0.0, search.ablated, rows)
            holds = found < value[rows]
            path[rows[holds]], value[rows[holds]] = new[trying[holds]], found[holds]
            better[trying] = holds
        half = (allowed[active] // 2).clamp(min=1)
        converged[active] = ~promising | (~better & (allowed[active] == 1))
        allowed[active] = torch.where(better, allowed[active], half)
    return Found(path, sweeps, converged)


def proposals(gates: list[Tensor], path: Tensor, allowed: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two paths (b, S, K), changed at ``allowed`` (b,) sites and at half of them; and whether anything is promised (b,)."""
    best = largest(gates, top_k)
    worth = torch.stack(
        [g.gather(1, best[:, s]).sum(1) - g.gather(1, path[:, s]).sum(1) for s, g in enumerate(gates)], 1
    )
    rank = worth.argsort(1, descending=True).argsort(1)
    count = torch.minimum((worth > 0).sum(1), allowed)

    def changed(at_most: Tensor) -> Tensor:
        return torch.where(((rank < at_most[:, None]) & (worth > 0))[:, :, None], best, path)

    return changed(count), changed((count // 2).clamp(min=1)), count > 0
