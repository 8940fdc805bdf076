"""Influence patterns: the path along which small changes are passed on most, from neuron to neuron.

Lu et al., "Influence Patterns for Explaining Information Flow in BERT" (NeurIPS 2021): a pattern's influence is the product of
the partial derivatives along it,
averaged over the straight line from a baseline to the input. What is computed here, for a path p_1 .. p_L:

    mean over x on the line from an image of zeros to the image of
        dF/dv[L, p_L](x) * product over l < L of dv[l+1, p_(l+1)]/dv[l, p_l](x),      v[l, i] = sum of neuron (l, i) over its tokens

where nothing is held, and a derivative to v is that to a common change of the neuron on all its tokens. All of a block's K neurons
count: derivatives are of the sum of the K neurons behind. The search is greedy as the paper's is, from the output to the input:
the neurons of block l are those that give the largest mean product with those behind them. Heads are passed like neurons, by their
norms; with both, a path goes from each block's heads to its neurons.
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from ..checks import InputError
from ..models.outputs import run_model
from ..models.sites import visited
from ..runs.clean import CleanRun
from ..runs.influence import Grid
from ..runs.pieces import Pieces
from ..runs.quadrature import nodes_and_weights
from ..units import at_units
from .registry import Found, Search, register_method

NODES = 8


@register_method("influence_pattern")
def locate_pattern(run: CleanRun, search: Search) -> Found:
    """The greedy pattern: nodes forward passes, and as many backward passes, in pieces of one backward a block."""
    alphas, weights = nodes_and_weights(search.quadrature.method, search.quadrature.n_steps or NODES)
    path = torch.empty(len(run.rows), len(run.hidden), search.top_k, dtype=torch.long, device=run.rows.device)

    @torch.enable_grad()
    def work(piece: slice) -> None:
        grid = Grid.of(run.rows[piece], alphas, weights)
        rows = torch.arange(piece.stop - piece.start, device=grid.image.device).repeat_interleave(len(alphas))
        found: dict[int, Tensor] = {}  # every site's values (R, T, U), in the graph

        def keep(site: int, channels: Tensor) -> Tensor:
            place = run.vit.sites[site]

            def through(here: Tensor) -> Tensor:
                here = here if here.requires_grad else here.detach().requires_grad_()
                found[site] = place.read(here)
                return place.write(found[site], here)

            return run.vit.on_tokens(channels, through)

        with visited(run.vit.model, run.vit.sites, keep):
            pixels = run.pixels[grid.image] * grid.alpha.view(-1, 1, 1, 1).to(run.pixels)
            behind = run.output_of(run_model(run.vit.model, pixels), grid.image)
        product = torch.ones_like(grid.alpha)  # of the derivatives so far, (R,)
        for site in reversed(range(len(found))):
            try:
                (gradient,) = torch.autograd.grad(behind.sum(), found[site], retain_graph=site > 0)
            except CheckpointError as error:
                raise InputError(
                    f"gradient checkpointing runs the blocks of {type(run.vit.model).__name__} again, which influence_pattern can't "
                    "follow; expected a model without it (timm: model.set_grad_checkpointing(False))"
                ) from error
            derivative = gradient.to(product).sum(1) * product[:, None]  # (R, U)
            mean = derivative.new_zeros(piece.stop - piece.start, derivative.shape[1])
            mean.index_add_(0, rows, derivative * grid.weight[:, None])
            best = mean.topk(search.top_k).indices  # (b, K)
            path[piece, site] = best
            product = derivative.gather(1, best[rows]).sum(1)
            behind = at_units(found[site], best[rows]).sum((1, 2))

    Pieces(max(1, run.pieces.size // len(alphas))).each(len(run.rows), work)
    return Found(path)
