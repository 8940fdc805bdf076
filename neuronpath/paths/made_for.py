"""The model that a result was made for."""

from typing import Protocol

from torch import nn

from ..checks import InputError
from ..models.view import view
from ..models.vit import ViT
from .settings import Settings


class Made(Protocol):
    """A result that says what made it: NeuronPaths, a Circuit."""

    @property
    def settings(self) -> Settings: ...


def view_for(made: Made, model: nn.Module | ViT) -> ViT:
    """The view that paths or circuits were made with; refuses a model with other weights' names or shapes."""
    vit = view(model)
    settings = made.settings
    if (settings.fingerprint or vit.fingerprint) == vit.fingerprint:
        vit = view(vit, settings.token, settings.units)
        if not settings.sites or list(settings.sites) == vit.places:
            return vit
    blocks = {place.block for place in settings.sites}
    raise InputError(
        f"these paths were made for another model ({settings.model}, {len(blocks)} blocks); "
        f"{type(vit.model).__name__} has {len(vit.blocks)} blocks of {vit.widths[0]} {vit.places[0].kind}s, or weights of other shapes"
    )
