"""Knowledge attribution: integrated gradients of single neurons, each block by itself and each neuron for itself.

Dai et al., "Knowledge Neurons in Pretrained Transformers" (ACL 2022), section 3.1: Attr(i) = w[i] * integral of dF/dh[i] while the
values go from 0 to w. As in the authors' code a block's neurons go together (a run for each would cost M times as much), on the
tokens that neurons are read on; other blocks follow live. Equals captum's ``LayerIntegratedGradients`` on the block's neurons,
with zeros on those tokens for a baseline.
"""

import torch

from ..models.outputs import widest
from ..runs.clean import CleanRun, gradients_of
from ..runs.influence import Grid
from ..runs.quadrature import nodes_and_weights
from .registry import Found, Search, register_method

NODES = 8


@register_method("knowledge")
def locate_knowledge(run: CleanRun, search: Search) -> Found:
    """The largest attributions of every block, summed over tokens. About nodes * (L + 1) / 2 forward and backward passes."""
    chosen = [
        attribution.sum(1).topk(search.top_k).indices
        for attribution in knowledge(run, search.quadrature.method, search.quadrature.n_steps or NODES)
    ]
    return Found(torch.stack(chosen, 1))


def knowledge(run: CleanRun, method: str, n_steps: int) -> list[torch.Tensor]:
    """The attribution of every neuron, a block (B, T, M)."""
    grid = Grid.of(run.images, *nodes_and_weights(method, n_steps))
    before = stream_before(run)
    found = []
    for block, clean in enumerate(run.hidden):
        mean = torch.zeros_like(clean, dtype=widest(clean))

        def work(piece: slice) -> None:
            rows, alpha, weight = grid.image[piece], grid.alpha[piece, None, None], grid.weight[piece, None, None]
            held = (clean[rows] * alpha.to(clean)).requires_grad_()
            with torch.enable_grad():
                x = run.enter(rows, held) if block == 0 else run.block(block, before[block][rows], rows, held)
                (gradient,) = gradients_of(run.finish(x, block + 1, rows), [held])
            mean.index_add_(0, rows, gradient.to(mean) * weight.to(mean))

        run.pieces.each(len(grid.image), work)
        found.append(clean * mean)
    return found


def stream_before(run: CleanRun) -> list[torch.Tensor]:
    """What enters every block in the clean run, (B, N, D); block 0's isn't kept, for runs begin behind its attention."""
    entering = [run.pixels.new_empty(0)]
    x = run.enter(run.images, run.hidden[0])
    for block in range(1, len(run.hidden)):
        entering.append(x)
        x = run.block(block, x, run.images)
    return entering
