"""Attention's heads: their rows of ``qkv`` (and of a gate), their columns of ``proj``. timm's ``Attention`` only."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import Attention
from torch import Tensor, nn

from ...checks import InputTypeError
from ...models.adapters import name_of, weight_of
from ...models.hooks import input_replaced
from ...models.vit import ViT
from .part import Cuts, Part, can_be_cut, keep_rows, module_around


@dataclass(frozen=True)
class Heads(Part):
    """The parts of timm's Attention that hold its heads."""

    qkv: nn.Linear  # 3 x heads x head_dim rows: queries, keys, values
    gate: nn.Linear | None  # heads x head_dim rows

    @property
    def wide(self) -> int:
        return self.qkv.in_features

    def incoming(self) -> Tensor:
        """Of the values: queries and keys say where a head looks, not what it writes."""
        value = weight_of(self.qkv).unflatten(0, (3, self.width, self.size))[2]
        return value.flatten(1)

    def cut(self, kept: Tensor, mean: Tensor | None = None, cuts: Cuts | None = None) -> None:
        cuts = cuts or Cuts()
        channels, all_channels = self.channels(kept), self.down.in_features
        keep_rows(self.qkv, torch.cat([channels + part * all_channels for part in range(3)]), cuts)
        if self.gate is not None:
            keep_rows(self.gate, channels, cuts)
        self.cut_down(channels, mean, cuts)
        attention: Any = self.module
        attention.num_heads, attention.attn_dim = len(kept), len(channels)

    @contextmanager
    def masked(self, kept: Tensor, mean: Tensor | None = None) -> Iterator[None]:
        like = self.down.weight
        gone = self.gone(self.channels(kept))
        fill = torch.zeros_like(like[0]) if mean is None else mean.to(like)
        with input_replaced(self.down, lambda values: torch.where(gone, fill.to(values), values)):
            yield


def heads_of(vit: ViT, site: int) -> Heads:
    """The attention behind a site of heads; raises InputTypeError for one that can't be cut, with the reason."""
    proj, block = vit.sites[site].reader, vit.places[site].block
    module: Any = module_around(vit, site)
    kind = f"{type(module).__module__}.{type(module).__name__}"  # timm has several that are called Attention
    name = f"block {block} of {type(vit.model).__name__} has attention of class {kind}"
    if type(module) is not Attention:
        raise InputTypeError(f"{name}, whose heads can't be taken out one by one; expected timm.layers.Attention")
    if type(module.norm) is not nn.Identity:
        raise InputTypeError(f"{name} with a norm over all of its heads; that can't be cut head by head")
    gate = getattr(module, "gate", None)
    odd = [m for m in (module.qkv, proj, gate) if m is not None and not can_be_cut(m)]
    if odd:
        raise InputTypeError(
            f"{name} with {name_of(odd[0])}; expected plain torch.nn.Linear layers, or those with LoRA of peft"
        )
    return Heads(module, proj, vit.sites[site].size, module.qkv, gate)
