"""The values of chosen units on images: one number a unit and image, in the autograd graph where gradients are recorded."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..checks import InputError
from ..models.outputs import run_model
from ..models.sites import visited
from ..models.view import view
from ..models.vit import ViT
from ..options import Token
from ..runs.clean import check_finite
from ..units import Unit, as_unit, kinds_named, place_of


class Asked(NamedTuple):
    """Units of a model whose values are asked for."""

    vit: ViT
    units: list[Unit]
    places: list[int]  # the site of each


def asked(model: nn.Module | ViT, units: Sequence[tuple], token: Token | None) -> Asked:
    """The units as callers name them, each looked up in a view of the model on these tokens."""
    named = named_units(units)
    vit = view(model, token, kinds_named(named))
    return Asked(vit, named, [place_of(unit, vit.places) for unit in named])


def named_units(units: Sequence[tuple]) -> list[Unit]:
    """Units as callers name them, one or more."""
    if isinstance(units, Tensor) or not len(units):
        raise InputError(f"units is {units!r}; expected at least one (block, neuron) or ('head', block, index)")
    return [as_unit(unit) for unit in units]


def means_by_site(vit: ViT, images: Tensor, chosen: Sequence[list[int]] | None = None) -> list[Tensor]:
    """Each site's values (B, U), means over the view's tokens, of all its units or of those ``chosen`` there; of heads the norm.

    In the autograd graph where gradients are recorded. The model must be at rest.
    """
    found: dict[int, Tensor] = {}

    def see(site: int, channels: Tensor) -> None:
        values = vit.sites[site].read(vit.split(channels)[0])
        found[site] = (values if chosen is None else values[..., chosen[site]]).float().mean(1)

    with visited(vit.model, vit.sites, see):
        run_model(vit.model, images.to(next(vit.model.parameters())))
    means = [found[site] for site in range(len(vit.sites))]
    check_finite(vit, [values.detach() for values in means])
    return means


def values_of(ask: Asked, images: Tensor) -> Tensor:
    """The values (B, P) of P units on B images, as :func:`means_by_site` has them."""
    numbers = [[p for p, place in enumerate(ask.places) if place == site] for site in range(len(ask.vit.sites))]
    means = means_by_site(ask.vit, images, [[ask.units[p].index for p in here] for here in numbers])
    return torch.cat(means, 1)[:, torch.tensor([p for here in numbers for p in here]).argsort()]
