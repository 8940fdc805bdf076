"""Knowledge attribution: integrated gradients of single units, each site by itself and each unit for itself.

Dai et al., "Knowledge Neurons in Pretrained Transformers" (ACL 2022), section 3.1: Attr(i) = w[i] * integral of dF/dh[i] while the
values go from 0 to w. As in the authors' code a block's neurons go together (a run for each would cost M times as much), on the
tokens that units are read on; all else follows live. Equals captum's ``LayerIntegratedGradients`` on the block's neurons,
with zeros on those tokens for a baseline. A block's heads go together likewise.
"""

import torch

from ..models.outputs import widest
from ..options import Rule
from ..runs.clean import CleanRun
from ..runs.gradients import gradients_of
from ..runs.influence import Grid
from ..runs.quadrature import nodes_and_weights
from .registry import Found, Search, register_method

NODES = 8


@register_method("knowledge")
def locate_knowledge(run: CleanRun, search: Search) -> Found:
    """The largest attributions of every site, summed over tokens. About nodes * (L + 1) / 2 forward and backward passes."""
    chosen = [
        attribution.sum(1).topk(search.top_k).indices
        for attribution in knowledge(run, search.quadrature.method, search.quadrature.n_steps or NODES)
    ]
    return Found(torch.stack(chosen, 1))


def knowledge(run: CleanRun, method: Rule, n_steps: int) -> list[torch.Tensor]:
    """The attribution of every unit, a site (B, T, U)."""
    grid = Grid.of(run.rows, *nodes_and_weights(method, n_steps))
    before = stream_before(run)
    found = []
    for site, clean in enumerate(run.hidden):
        block = run.vit.places[site].block
        mean = torch.zeros_like(clean, dtype=widest(clean))

        def work(piece: slice) -> None:
            rows, alpha, weight = grid.image[piece], grid.alpha[piece, None, None], grid.weight[piece, None, None]
            held = (clean[rows] * alpha.to(clean)).requires_grad_()
            with torch.enable_grad():
                x = (
                    run.block(block, before[block][rows], rows, {site: held})
                    if block
                    else run.enter(rows, {site: held})
                )
                (gradient,) = gradients_of(run.finish(x, block + 1, rows), [held])
            mean.index_add_(0, rows, gradient.to(mean) * weight.to(mean))

        run.pieces.each(len(grid.image), work)
        found.append(clean * mean)
    return found


def stream_before(run: CleanRun) -> list[torch.Tensor]:
    """What enters every block in the clean run, (B, N, D)."""
    entering = [run.entering]
    x = run.enter(run.rows, {})
    for block in range(1, len(run.vit.blocks)):
        entering.append(x)
        x = run.block(block, x, run.rows)
    return entering
