"""The most active units of every site: no gradient at all, the control that a method with gradients has to beat."""

import torch

from ..runs.clean import CleanRun
from .registry import Found, Search, register_method


@register_method("activation")
def locate_active(run: CleanRun, search: Search) -> Found:
    """The largest values in the clean run, averaged over the tokens that units are read on; a head's is its norm."""
    return Found(torch.stack([values.mean(1).topk(search.top_k).indices for values in run.hidden], 1))
