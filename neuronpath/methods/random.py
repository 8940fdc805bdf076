"""Units drawn at random, the control that every method has to beat."""

import torch

from ..runs.baselines import own_number
from ..runs.clean import CleanRun
from .registry import Found, Search, register_method


@register_method("random")
def locate_random(run: CleanRun, search: Search) -> Found:
    """Drawn by the seed and the image's own pixels, so that an image's units don't depend on the batch it comes in."""
    drawn = []
    for image in run.pixels:
        draw = torch.Generator().manual_seed(own_number(image, search.seed))
        drawn.append(torch.stack([torch.randperm(width, generator=draw)[: search.top_k] for width in run.vit.widths]))
    return Found(torch.stack(drawn).to(run.rows.device))
