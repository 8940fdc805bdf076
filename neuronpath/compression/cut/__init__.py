"""Units taken out of a module for good, or masked as if they were: neurons out of an MLP, heads out of attention."""

from ...models.vit import ViT
from .heads import heads_of
from .mlp import mlp_of
from .part import Cuts, Part, check_cut

__all__ = ["Cuts", "Part", "check_cut", "part_of"]


def part_of(vit: ViT, site: int) -> Part:
    """What holds the units of a site; raises InputTypeError for a module that can't be cut, with the reason."""
    return (mlp_of if vit.places[site].kind == "neuron" else heads_of)(vit, site)
