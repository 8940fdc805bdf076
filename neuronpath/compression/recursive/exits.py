"""Exits: heads behind loops, by which easy images leave a model early."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from ...checks import InputError, InputTypeError, checked
from ...models.hooks import alone
from ...models.view import inner_of, view
from ...models.vit import ViT
from .steps import Steps

CHILD = "exits"  # the name of the exits within the model


class Exits(nn.Module):
    """Where a model may answer early: behind the blocks ``at``, by heads of their own, or by the model's where there are none."""

    def __init__(self, at: Sequence[int], heads: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.at = list(at)
        self.heads = nn.ModuleList(heads)

    def logits(self, vit: ViT, which: int, x: Tensor) -> Tensor:
        """The answer (B, classes) of the residual stream (B, N, D) behind the block ``at[which]``."""
        if not self.heads:
            return vit.readout(x)
        pooled = {"cls": x[:, 0], "patch": x[:, vit.num_prefix_tokens :].mean(1), "all": x.mean(1)}[vit.pools]
        return self.heads[which](pooled)


@checked
def with_exits(
    model: nn.Module | ViT, at: Literal["loops"] | Sequence[int] = "loops", shared: bool = True
) -> nn.Module:
    """A copy of the model that can answer early, by :func:`predict` and :class:`Server`; called as it is it answers as before.

    Exits want training: :func:`distil` trains them together with the model.

    Args:
        model: a vision transformer with a classification head, recursive or not.
        at: "loops": behind every loop (without loops behind each quarter of the blocks), or the blocks' numbers, ascending.
        shared: the exits use the model's own head. False gives each a norm and a linear layer of its own, copies of the model's
            where they fit.

    Raises:
        InputError: for blocks that aren't there, or the last, which needs no exit; for a model with one class, of which all are sure.
    """
    vit = view(model)
    Steps(vit)  # refuses what has no head, or one class
    last = len(vit.blocks) - 1
    blocks = [end for end in vit.loop_ends if end < last] if isinstance(at, str) else [int(block) for block in at]
    if not blocks or blocks != sorted(set(blocks)) or not 0 <= blocks[0] <= blocks[-1] < last:
        raise InputError(
            f"at is {at}; expected blocks of 0 to {last - 1}, ascending, each once: the last needs no exit"
        )
    with alone(vit.model):
        copied = copy.deepcopy(vit.model)
    attach(inner_of(copied), blocks, shared)
    return copied


def attach(model: nn.Module, at: Sequence[int], shared: bool) -> None:
    """Give a model exits behind these blocks, in place."""
    vit = view(model)
    heads = [] if shared else [_own_head(model, vit) for _ in at]
    setattr(model, CHILD, Exits(at, heads))
    exits: Any = getattr(model, CHILD)
    exits.to(next(model.parameters())).train(model.training)


def exits_of(model: nn.Module) -> Exits | None:
    """The model's exits, where it has any."""
    found = getattr(inner_of(model), CHILD, None)
    return found if isinstance(found, Exits) else None


def _own_head(model: nn.Module, vit: ViT) -> nn.Module:
    """A norm and a linear layer over the pooled tokens: copies of the model's last ones where they are of these sizes."""
    wide = vit.sites[0].reader.out_features
    block_parts = {m for block in vit.blocks for m in block.modules()}
    outside = [m for m in model.modules() if m not in block_parts]
    linears = [m for m in outside if isinstance(m, nn.Linear) and m.in_features == wide]
    norms = [m for m in outside if isinstance(m, nn.LayerNorm) and m.normalized_shape == (wide,)]
    if not linears:
        raise InputTypeError(
            f"{type(model).__name__} has no linear classifier over {wide} channels; expected shared=True"
        )
    return nn.Sequential(copy.deepcopy(norms[-1]) if norms else nn.LayerNorm(wide), copy.deepcopy(linears[-1]))
