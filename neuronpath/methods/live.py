"""Live joint influence: the path whose joint ablation takes most from the output, sought over all sites at once.

Every unit has a gate, 1 as it is and 0 ablated, and all else follows (see ``runs/gates.py``). The derivatives of F to all gates of all
sites come from one forward and one backward. Where a path is ablated they tell what each of its units would give back, and what every
other unit would still take. So

    start:   gates averaged while all units go; the largest of every site make a path
    repeat:  gates where the path is ablated                                        one forward, one backward
             the largest of every site that also helps on average of this and the clean run, in place of the path's where that
             promises more: at all such sites, or, where that takes no more, at the quarter that promises most; kept for the
             images where ablating the new path really takes more
    until no change that hasn't been tried alone in vain promises a hundredth of what the path takes, or the effort is spent.
"""

import torch
from torch import Tensor

from ..options import Rule
from ..runs.clean import CleanRun
from ..runs.gates import gated_output, mean_gates
from .registry import Found, Search, largest, register_method

AVERAGED: tuple[Rule, int] = ("gausslegendre", 2)  # more nodes choose no better
ABLATED: tuple[Rule, int] = ("riemann_left", 1)  # alpha = 0
CLEAN: tuple[Rule, int] = ("riemann_right", 1)  # alpha = 1
# where the gates are taken, and sweeps at most; averaged ones lead on where those at the end don't
EFFORTS = {"standard": [(ABLATED, 6)], "thorough": [(ABLATED, 16), (AVERAGED, 8), (ABLATED, 16)]}
GAIN = 0.01  # of what the path takes: a change that promises less is noise once the decision is broken
FEWER = 4  # how many times fewer sites are changed where changing more takes nothing


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
    clean = mean_gates(run, None, *CLEAN, search.ablated)
    path = largest(mean_gates(run, None, *AVERAGED, search.ablated), search.top_k)
    value = gated_output(run, path, 0.0, search.ablated)
    sweeps, converged = torch.zeros_like(run.rows), torch.zeros_like(run.rows, dtype=torch.bool)
    for where, at_most in EFFORTS[search.effort]:
        converged = refine(run, search, clean, path, value, sweeps, where, at_most)
    return Found(path, sweeps, converged, clean=torch.stack([g.gather(1, path[:, s]) for s, g in enumerate(clean)], 1))


def refine(
    run: CleanRun,
    search: Search,
    clean: list[Tensor],
    path: Tensor,
    value: Tensor,
    sweeps: Tensor,
    where: tuple[Rule, int],
    at_most: int,
) -> Tensor:
    """Better the path (B, S, K), its value (B,) and the count of sweeps (B,) in place; (B,) whether no change promised anything."""
    sites = path.shape[1]
    allowed, converged = torch.full_like(run.rows, sites), torch.zeros_like(run.rows, dtype=torch.bool)
    in_vain = torch.zeros(len(path), sites, dtype=torch.bool, device=path.device)  # changed alone, took no more
    for _ in range(at_most):
        active = run.rows[~converged]
        if not len(active):
            break
        gates = mean_gates(run, path, *where, search.ablated, active)
        sweeps[active] += 1
        least = GAIN * (run.value - value)[active].abs()
        best, rank = promises(gates, [gate[active] for gate in clean], path[active], in_vain[active], least)
        count = torch.minimum((rank < sites).sum(1), allowed[active])
        few = (count // FEWER).clamp(min=1)
        better = torch.zeros_like(converged[active])
        for number in (count, few * (few < count)):  # the second for the images that the first doesn't serve
            changed = rank < number[:, None]
            trying = (~better & changed.any(1)).nonzero()[:, 0]
            rows = active[trying]
            new = torch.where(changed[:, :, None], best, path[active])[trying]
            found = gated_output(run, path.index_copy(0, rows, new), 0.0, search.ablated, rows)
            holds = found < value[rows]
            path[rows[holds]], value[rows[holds]] = new[holds], found[holds]
            better[trying] = holds
        in_vain[active] = (in_vain[active] | (rank == 0) & (few == 1)[:, None]) & ~better[:, None]
        converged[active] = count == 0
        allowed[active] = torch.where(better, allowed[active], (allowed[active] // FEWER).clamp(min=1))
    return converged


def promises(
    gates: list[Tensor], clean: list[Tensor], path: Tensor, in_vain: Tensor, least: Tensor
) -> tuple[Tensor, Tensor]:
    """The best units of every site (b, S, K), and the sites' ranks (b, S) by what these promise more than the path's.

    Where that is no more than ``least`` (b,), or was tried in vain, the rank is S.
    """
    none = torch.tensor(-torch.inf, dtype=gates[0].dtype, device=path.device)
    helps = [gate + at_one > 0 for gate, at_one in zip(gates, clean, strict=True)]
    enough = [site.sum(1, keepdim=True) >= path.shape[2] for site in helps]
    fit = [torch.where(ok | ~some, gate, none) for ok, some, gate in zip(helps, enough, gates, strict=True)]
    best = largest(fit, path.shape[2])
    worth = torch.stack(
        [g.gather(1, best[:, s]).sum(1) - g.gather(1, path[:, s]).sum(1) for s, g in enumerate(gates)], 1
    ).masked_fill(in_vain, 0)
    rank = worth.argsort(1, descending=True).argsort(1)
    return best, rank.masked_fill(worth <= least[:, None], path.shape[1])
