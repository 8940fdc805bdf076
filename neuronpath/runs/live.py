"""Live joint influence: what the units of a path carry of their joint ablation, all else following.

The gates of the whole path go from 1 to 0 together (alpha); A[u] is the mean over alpha of F's derivative to unit u's gate. The A of
all units sum to F(1) - F(0), what ablating the path really takes, plus delta, the quadrature's error.
"""

import torch
from torch import Tensor

from .clean import CleanRun
from .gates import Ablated, gated_output, mean_gates
from .influence import FLOOR, TOLERANCE, Influence, Quadrature

FEWEST = 8  # nodes to begin with: fewer hardly ever do


def live_influence_of(
    run: CleanRun, path: Tensor, quadrature: Quadrature, ablated: Ablated = None, without: Tensor | None = None
) -> Influence:
    """The live joint influence of ``path`` (B, S, K); it has no score, which is NaN. ``without`` is F(0) (B,), where it is known.

    Where the number of nodes is left to us, nodes are added to the images that need them until delta is within tolerance.
    """
    change = run.value - (gated_output(run, path, 0.0, ablated) if without is None else without)
    attribution = torch.zeros(path.shape, dtype=change.dtype, device=path.device)
    steps, todo = torch.zeros_like(run.rows), run.rows
    delta = torch.zeros_like(change)
    for n_steps in [n for n in quadrature.attempts if n >= FEWEST] or quadrature.attempts:
        means = mean_gates(run, path, quadrature.method, n_steps, ablated, todo)
        attribution[todo] = torch.stack([m.gather(1, path[todo, s]) for s, m in enumerate(means)], 1).to(attribution)
        steps[todo] = n_steps
        delta = attribution.sum((1, 2)) - change
        todo = run.rows[delta.abs() > TOLERANCE * change.abs() + FLOOR]
        if not len(todo):
            break
    return Influence(
        score=torch.full_like(change, torch.nan).float().cpu(),
        attribution=attribution.float().cpu(),
        output_change=change.float().cpu(),
        delta=delta.float().cpu(),
        n_steps=steps.cpu(),
    )
