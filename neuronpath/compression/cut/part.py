"""A module that holds units, and what cutting needs of it."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import InputTypeError
from ...models.adapters import is_low_rank
from ...models.factored import is_factored, parts_of, set_parts
from ...models.hooks import at_rest, eager
from ...models.vit import ViT


class Cuts:
    """What became of the parameters that were cut, so that one which several layers hold is cut once and stays theirs together."""

    def __init__(self) -> None:
        self._done: dict[nn.Parameter, tuple[int, Tensor, nn.Parameter]] = {}

    def take(self, old: nn.Parameter, index: Tensor, dim: int) -> nn.Parameter:
        """Of the parameter what ``index`` names; raises InputTypeError where another layer that holds it kept something else."""
        if old not in self._done:
            values = old.detach().index_select(dim, index.to(old.device)).clone()
            self._done[old] = dim, index, nn.Parameter(values, requires_grad=old.requires_grad)
        earlier_dim, earlier, new = self._done[old]
        if earlier_dim != dim or not torch.equal(earlier, index):
            raise InputTypeError(
                "two layers share a weight and would keep other units of it; expected layers that read the same units"
            )
        return new

    def weight(self, layer: nn.Module, index: Tensor, dim: int) -> list[nn.Parameter]:
        """The parts of a layer's weight with these rows (dim 0) or columns (1) only."""
        parts = parts_of(layer)
        dense = len(parts) % 2

        def has(number: int) -> bool:  # the whole weight; of its factors b the rows, a the columns
            return number < dense or (number - dense) % 2 == dim

        return [self.take(part, index, dim) if has(i) else part for i, part in enumerate(parts)]


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
    def cut(self, kept: Tensor, mean: Tensor | None = None, cuts: Cuts | None = None) -> None:
        """Take all units but ``kept`` out, in place; ``mean`` (C,) is what those removed leave in the bias.

        ``cuts`` knows the parameters that other modules share and that are cut already.
        """

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

    def cut_down(self, channels: Tensor, mean: Tensor | None, cuts: Cuts) -> None:
        """Leave ``down`` these input channels only, and the mean of the others in its bias."""
        down, gone = self.down, self.gone(channels)
        if mean is not None and gone.any():
            part = mean.to(gone.device).double()[gone]
            left = (down.weight.detach().double()[:, gone] @ part).to(down.weight.dtype)
            bias = left if down.bias is None else down.bias.detach() + left
            down.bias = nn.Parameter(bias, requires_grad=down.weight.requires_grad)
        set_parts(down, "weight", cuts.weight(down, channels, 1))


def can_be_cut(layer: Any) -> bool:
    """Whether a layer's weights are a matrix (out, in), or parts of one, and nothing else, an adapter's aside that can be merged."""
    return is_factored(layer) or type(layer.base_layer if is_low_rank(layer) else layer) is nn.Linear


def module_around(vit: ViT, site: int) -> nn.Module:
    """The module that has the site's layer for a child."""
    reader, block = vit.sites[site].reader, vit.blocks[vit.places[site].block]
    return next(m for m in block.modules() if any(child is reader for child in m.children()))


def keep_rows(module: nn.Module, rows: Tensor, cuts: Cuts) -> None:
    """Of all the module's parameters these rows only."""
    for name, values in list(module.named_parameters(recurse=False)):
        setattr(module, name, cuts.take(values, rows, 0))
    if is_factored(module):
        set_parts(module, "weight", cuts.weight(module, rows, 0))
    elif isinstance(module, nn.Linear):
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
