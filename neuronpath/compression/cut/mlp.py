"""An MLP's neurons: the rows that make them, an inner norm over them, the columns that write them."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...checks import InputTypeError
from ...models.adapters import is_adapter, is_linear, layers_of, name_of, weight_of
from ...models.hooks import input_replaced
from ...models.vit import ViT
from .part import Cuts, Part, can_be_cut, keep_rows, module_around


@dataclass(frozen=True)
class Mlp(Part):
    """An MLP's parts that hold its M neurons."""

    ups: Sequence[nn.Linear]  # of M rows each, or of 2 M where gate and value are packed in one
    norm: nn.Module | None  # over the neurons, before ``down``

    @property
    def wide(self) -> int:
        return self.ups[0].in_features

    def incoming(self) -> Tensor:
        rows = [weight_of(up).unflatten(0, (-1, self.width)) for up in self.ups]
        return torch.cat([part for packed in rows for part in packed], 1)

    def cut(self, kept: Tensor, mean: Tensor | None = None, cuts: Cuts | None = None) -> None:
        cuts = cuts or Cuts()
        kept, width = kept.to(self.down.weight.device), self.width
        for up in self.ups:
            keep_rows(up, kept if up.out_features == width else torch.cat([kept, kept + width]), cuts)
        if self.norm is not None:
            _cut_norm(self.norm, kept, cuts)
        self.cut_down(kept, mean, cuts)
        for name in ("intermediate_size", "hidden_features"):  # what some MLPs note down beside their layers
            if getattr(self.module, name, None) == width:
                setattr(self.module, name, len(kept))

    @contextmanager
    def masked(self, kept: Tensor, mean: Tensor | None = None) -> Iterator[None]:
        like = self.down.weight
        kept = kept.to(like.device)
        gone = self.gone(kept)
        fill = torch.zeros_like(like[0]) if mean is None else mean.to(like)
        with ExitStack() as stack:
            if self.norm is not None:
                small = copy.deepcopy(self.norm)
                _cut_norm(small, kept, Cuts())

                def of_the_kept(_norm: nn.Module, args: tuple, output: Tensor) -> Tensor:
                    return output.index_copy(-1, kept, small(args[0][..., kept]).to(output))

                stack.callback(self.norm.register_forward_hook(of_the_kept).remove)
            stack.enter_context(input_replaced(self.down, lambda values: torch.where(gone, fill.to(values), values)))
            yield


def _cut_norm(norm: nn.Module, kept: Tensor, cuts: Cuts) -> None:
    keep_rows(norm, kept, cuts)
    if hasattr(norm, "normalized_shape"):
        norm.normalized_shape = (len(kept),)  # type: ignore[assignment]


def mlp_of(vit: ViT, site: int) -> Mlp:
    """The MLP behind a site of neurons; raises InputTypeError for one that can't be cut, with the reason."""
    down, (block, _, width) = vit.sites[site].reader, vit.places[site]
    module = module_around(vit, site)
    name = f"block {block} of {type(vit.model).__name__}"
    if module is vit.blocks[block]:
        raise InputTypeError(
            f"{name} has its down-projection in no module of its own; expected an MLP such as timm's Mlp"
        )
    inside = [m for m in layers_of(module) if m is not module and m is not down]
    ups = [m for m in inside if is_linear(m)]
    odd = [m for m in [*ups, down] if not can_be_cut(m)] + [m for m in inside if is_adapter(m) and not is_linear(m)]
    if odd or not ups:
        found = name_of(odd[0]) if odd else "no up-projection"
        raise InputTypeError(
            f"{name} has an MLP with {found}; expected plain torch.nn.Linear layers, or those with LoRA of peft"
        )
    wrong = [m for m in ups if m.out_features not in (width, 2 * width)]
    behind = inside[inside.index(ups[-1]) + 1 :]  # what comes before the up-projection normalises the residual stream
    norms = [m for m in behind if next(m.parameters(recurse=False), None) is not None]
    if wrong or len(norms) > 1 or any(p.shape != (width,) for norm in norms for p in norm.parameters()):
        odd_one = (wrong or norms)[0]
        raise InputTypeError(
            f"{name} has an MLP with {odd_one} for {width} neurons; that can't be cut neuron by neuron"
        )
    return Mlp(module, down, 1, ups, norms[0] if norms else None)
