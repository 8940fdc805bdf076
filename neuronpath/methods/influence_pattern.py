"""Influence patterns: the path along which small changes are passed on most, from neuron to neuron.

Lu et al., "Influence Patterns for Explaining Information Flow in BERT" (NeurIPS 2021): a pattern's influence is the product of
the partial derivatives along it,
averaged over the straight line from a baseline to the input. What is computed here, for a path p_1 .. p_L:

    mean over x on the line from an image of zeros to the image of
        dF/dv[L, p_L](x) * product over l < L of dv[l+1, p_(l+1)]/dv[l, p_l](x),      v[l, i] = sum of neuron (l, i) over its tokens

where nothing is held, and a derivative to v is that to a common change of the neuron on all its tokens. All of a block's K neurons
count: derivatives are of the sum of the K neurons behind. The search is greedy as the paper's is, from the output to the input:
the neurons of block l are those that give the largest mean product with those behind them.
"""

from contextlib import ExitStack

import torch
from torch import Tensor

from ..models.hooks import input_replaced
from ..models.outputs import run_model
from ..runs.clean import CleanRun
from ..runs.influence import Grid, at_neurons
from ..runs.pieces import Pieces
from ..runs.quadrature import nodes_and_weights
from .registry import Found, Search, register_method

NODES = 8


@register_method("influence_pattern")
def locate_pattern(run: CleanRun, search: Search) -> Found:
    """The greedy pattern: nodes forward passes, and as many backward passes, in pieces of one backward a block."""
    alphas, weights = nodes_and_weights(search.quadrature.method, search.quadrature.n_steps or NODES)
    path = torch.empty(len(run.images), len(run.hidden), search.top_k, dtype=torch.long, device=run.images.device)

    @torch.enable_grad()
    def work(piece: slice) -> None:
        grid = Grid.of(run.images[piece], alphas, weights)
        rows = torch.arange(piece.stop - piece.start, device=grid.image.device).repeat_interleave(len(alphas))
        neurons: list[Tensor] = []  # every block's (R, T, M), in the graph

        def keep(whole: Tensor) -> Tensor:
            here, others = run.vit.split(whole)
            neurons.append(here if here.requires_grad else here.detach().requires_grad_())
            return run.vit.join(neurons[-1], others)

        with ExitStack() as stack:
            for fc2 in run.vit.neurons:
                stack.enter_context(input_replaced(fc2, keep))
            pixels = run.pixels[grid.image] * grid.alpha.view(-1, 1, 1, 1).to(run.pixels)
            behind = run.measure(run_model(run.vit.model, pixels), grid.image)
        product = torch.ones_like(grid.alpha)  # of the derivatives so far, (R,)
        for block in reversed(range(len(neurons))):
            (gradient,) = torch.autograd.grad(behind.sum(), neurons[block], retain_graph=block > 0)
            derivative = gradient.to(product).sum(1) * product[:, None]  # (R, M)
            mean = derivative.new_zeros(piece.stop - piece.start, derivative.shape[1])
            mean.index_add_(0, rows, derivative * grid.weight[:, None])
            best = mean.topk(search.top_k).indices  # (b, K)
            path[piece, block] = best
            product = derivative.gather(1, best[rows]).sum(1)
            behind = at_neurons(neurons[block], best[rows]).sum((1, 2))

    Pieces(max(1, run.pieces.size // len(alphas))).each(len(run.images), work)
    return Found(path)
