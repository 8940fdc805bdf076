"""Weights made of their parts once, for speed, and back."""

from torch import nn

from ...checks import checked
from ...models.factored import merge, unmerge


@checked
def merge_(model: nn.Module) -> nn.Module:
    """Add every block's own low-rank product to the shared weight once, in place, so that a pass costs what an ordinary one does.

    The parts stay, and stay what is saved and shared; the sums take as much memory as untied weights. They serve in eval mode, until
    :func:`unmerge_`; train mode and newly loaded weights go back to the parts. Products that share nothing (:func:`low_rank`) are
    faster as they are, and stay.
    """
    merge(model)
    return model


@checked
def unmerge_(model: nn.Module) -> nn.Module:
    """Undo :func:`merge_`, in place; the weights are made of their parts again whenever they are read."""
    unmerge(model)
    return model
