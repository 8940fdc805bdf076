"""A module that holds units, and what cutting needs of it."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import InputTypeError
from ...models.adapters import is_low_rank
from ...models.hooks import at_rest, eager
from ...models.vit import ViT


@dataclass(frozen=True)
class Part(ABC):
    """The module, its layer that the units enter, and how many channels each of its units has there."""

    module: nn.Module
    down: nn.Linear
    size: int

    @property
    def width(self) -> int:
        """The number of units."""
        return self.down.in_features // self.size

    @property
    @abstractmethod
    def wide(self) -> int:
        """The channels of the tokens that the module takes."""

    @abstractmethod
    def incoming(self) -> Tensor:
        """The weights that make each unit, (U, n), float64."""

    @abstractmethod
    def cut(self, kept: Tensor, mean: Tensor | None = None) -> None:
        """Take all units but ``kept`` out, in place; ``mean`` (C,) is what those removed leave in the bias."""

    @abstractmethod
    def masked(self, kept: Tensor, mean: Tensor | None = None) -> AbstractContextManager[None]:
        """All units but ``kept`` at 0, or at their ``mean`` (C,), on every token."""

    def channels(self, kept: Tensor) -> Tensor:
        """The channels of these units, on the weights' device."""
        each = kept.to(self.down.weight.device)[:, None] * self.size
        return (each + torch.arange(self.size, device=each.device)).flatten()

    def gone(self, channels: Tensor) -> Tensor:
        """Which channels (C,) are none of these."""
        gone = torch.ones(self.down.in_features, dtype=torch.bool, device=self.down.weight.device)
        gone[channels] = False
        return gone

    def cut_down(self, channels: Tensor, mean: Tensor | None) -> None:
        """Leave ``down`` these input channels only, and the mean of the others in its bias."""
        down, gone = self.down, self.gone(channels)
        if mean is not None and gone.any():
            part = mean.to(gone.device).double()[gone]
            left = (down.weight.detach().double()[:, gone] @ part).to(down.weight.dtype)
            bias = left if down.bias is None else down.bias.detach() + left
            down.bias = nn.Parameter(bias, requires_grad=down.weight.requires_grad)
        down.weight = nn.Parameter(down.weight.detach()[:, channels].clone(), requires_grad=down.weight.requires_grad)
        down.in_features = len(channels)


def can_be_cut(layer: Any) -> bool:
    """Whether a layer's weights are a matrix (out, in) and nothing else, an adapter's aside that can be merged into it."""
    return type(layer.base_layer if is_low_rank(layer) else layer) is nn.Linear


def module_around(vit: ViT, site: int) -> nn.Module:
    """The module that has the site's layer for a child."""
    reader, block = vit.sites[site].reader, vit.blocks[vit.places[site].block]
    return next(m for m in block.modules() if any(child is reader for child in m.children()))


def keep_rows(module: nn.Module, rows: Tensor) -> None:
    """Of all the module's parameters these rows only."""
    for name, values in list(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(values.detach()[rows].clone(), requires_grad=values.requires_grad))
    if isinstance(module, nn.Linear):
        module.out_features = len(rows)


def check_cut(vit: ViT, site: int, old: Part, new: Part, kept: Tensor, mean: Tensor | None) -> None:
    """Refuse a module that computes anything else once it is cut: it isn't built as its parts suggest."""
    like, place = old.down.weight, vit.places[site]
    draw = torch.Generator().manual_seed(place.block)
    tokens = torch.randn(1, 8, old.wide, generator=draw).to(like)
    try:
        with at_rest(old.module), at_rest(new.module), eager():
            found = new.module(tokens)
            with old.masked(kept, mean):
                expected = old.module(tokens)
        tolerance = torch.finfo(like.dtype).eps ** 0.5 * expected.abs().max()
        same, reason = bool((found - expected).abs().max() <= tolerance), ""
    except (RuntimeError, TypeError) as error:
        same, reason = False, f": {str(error).splitlines()[0]}"
    if not same:
        what = "an MLP" if place.kind == "neuron" else "attention"
        raise InputTypeError(
            f"block {place.block} of {type(vit.model).__name__} has {what} ({type(old.module).__name__}) that computes something "
            f"else without a {place.kind} than with it at 0{reason}; it can't be pruned"
        )
