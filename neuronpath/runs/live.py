"""Live joint influence: what the units of a path carry of their joint ablation, all else following.

The gates of the whole path go from 1 to 0 together (alpha); A[u] is the mean over alpha of F's derivative to unit u's gate. The A of
all units sum to F(1) - F(0), what ablating the path really takes, plus delta, the quadrature's error.
"""

import numpy as np
import torch
from torch import Tensor

from .clean import CleanRun
from .gates import Ablated, gated_output, path_gates
from .influence import FLOOR, TOLERANCE, Influence, Quadrature
from .quadrature import nodes_and_weights


def live_influence_of(
    run: CleanRun,
    path: Tensor,
    quadrature: Quadrature,
    ablated: Ablated = None,
    without: Tensor | None = None,
    clean: Tensor | None = None,
) -> Influence:
    """The live joint influence of ``path`` (B, S, K); it has no score, which is NaN.

    ``without`` is F(0) (B,), ``clean`` F's derivatives to the path's gates at alpha = 1, (B, S, K), where they are known.

    Where the number of nodes is left to us, nodes are added to the images that need them until delta is within tolerance; a node
    that was run before is not run again.
    """
    change = run.value - (gated_output(run, path, 0.0, ablated) if without is None else without)
    attribution = torch.zeros(path.shape, dtype=change.dtype, device=path.device)
    steps, todo = torch.zeros_like(run.rows), run.rows
    delta = torch.zeros_like(change)
    at = {} if clean is None else {1.0: clean.to(attribution)}  # alpha -> (B, S, K), the derivatives there
    for n_steps in quadrature.attempts:
        nodes = list(zip(*map(np.ndarray.tolist, nodes_and_weights(quadrature.method, n_steps)), strict=True))
        new = [alpha for alpha, _ in nodes if alpha not in at]
        found = path_gates(run, path, new, ablated, todo)[1].to(attribution)
        for alpha, slopes in zip(new, found.unbind(1), strict=True):
            at[alpha] = torch.zeros_like(attribution)
            at[alpha][todo] = slopes
        attribution[todo] = sum(weight * at[alpha][todo] for alpha, weight in nodes)
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
