"""Layer conductance, by captum: the flow of integrated gradients from a black image to the image, through each unit.

Dhamdhere et al., "How Important Is a Neuron?" (ICLR 2019), as captum's ``LayerConductance`` computes it on the down-projection's
input, and for heads on the output projection's, summed over a head's channels.
"""

import torch
from captum.attr import LayerConductance
from torch import Tensor

from ..checks import InputError
from ..models.hooks import eager
from ..models.outputs import as_tensor
from ..options import Rule
from ..runs.clean import CleanRun
from .registry import Found, Search, register_method

NODES = 10


@register_method("conductance")
def locate_conductance(run: CleanRun, search: Search) -> Found:
    """The largest conductances of every site, summed over tokens; the baseline is an image of zeros."""
    found = conductance(run, search.quadrature.method, search.quadrature.n_steps or NODES)
    return Found(torch.stack([values.topk(search.top_k).indices for values in found], 1))


def conductance(run: CleanRun, method: Rule, n_steps: int) -> list[Tensor]:
    """The conductance of every unit, summed over tokens, a site (B, U)."""
    if method == "gaussradau":
        raise InputError(
            "quadrature 'gaussradau' isn't one of captum's, which conductance is; expected 'gausslegendre', ..."
        )
    if len({site.reader for site in run.vit.sites}) < len(run.vit.sites):
        raise InputError(
            f"{type(run.vit.model).__name__} runs one layer in several blocks, which captum's conductance can't tell apart; expected "
            "another method"
        )
    rows = torch.empty(0, dtype=torch.long, device=run.rows.device)

    def output(pixels: Tensor, images: Tensor) -> Tensor:
        return run.output_of(as_tensor(run.vit.model(pixels)), images)

    sites = []
    for site in run.vit.sites:
        values = torch.empty(len(run.rows), site.width, device=rows.device)

        def work(piece: slice) -> None:
            with torch.enable_grad(), eager(), site.called():
                found = LayerConductance(output, site.reader).attribute(
                    run.pixels[piece],
                    baselines=0,
                    additional_forward_args=run.rows[piece],
                    n_steps=n_steps,
                    method=method,
                    attribute_to_layer_input=True,
                    internal_batch_size=max(run.pieces.size, 2 * (piece.stop - piece.start)),  # captum's least
                )
            values[piece] = run.vit.split(found)[0].sum(1).unflatten(-1, (-1, site.size)).sum(-1)

        run.pieces.each(len(run.rows), work)
        sites.append(values)
    return sites
