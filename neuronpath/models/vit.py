"""A vision transformer as this library sees it: embed -> blocks -> readout, where its units are, which tokens it pools."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..options import Token
from ..units import Place, loop_ends
from .adapters import plain_state
from .factored import parts_of
from .hooks import input_replaced
from .sites import Site

Hidden = Tensor | Callable[[Tensor], Tensor] | None


@dataclass(frozen=True)
class Halves:
    """How a block divides into attention and MLP. Both functions get the block first."""

    attend: Callable[..., Tensor]
    """Its input to the residual stream after attention; also gets what else the model calls the block with (a mask)."""
    mlp: Callable[..., Tensor]
    """The residual stream after attention to the block's output, on any of the tokens."""


@dataclass(frozen=True)
class Extra:
    """What a model calls a block with beside its input, as the model itself passes it."""

    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ViT:
    """A view on a vision transformer; make one with :func:`view`.

    Its units are neurons (hidden units of the MLPs), attention heads, or both. They are read where they enter the layer that writes
    them into the residual stream (see :class:`Site`): a neuron after the activation, the gate and the inner norm; a head after its
    gate and norm. They are read on the tokens that the head of the model pools, or on those that :func:`view` was asked for.
    """

    model: nn.Module
    """The user's own model."""
    blocks: Sequence[nn.Module]
    """Its L blocks, in the order in which they run."""
    halves: Sequence[Halves]
    """How each of them divides."""
    sites: Sequence[Site]
    """The S places where units are read: of a family's function all that there are; of a view those asked for, as the model runs."""
    readout: Callable[[Tensor], Tensor]
    """The last block's output (B, N, D) to the model's output."""
    pools: Token
    """The tokens that the head reads: "cls", "patch" or "all"."""
    num_prefix_tokens: int = 1
    """The tokens before the patches."""
    num_cls_tokens: int = 1
    """The first of them: class and distillation token; the others are registers."""
    pools_registers: bool = False
    """Whether the head reads the registers too."""
    has_head: bool = True
    """Whether the output is logits; without, only an output of the user's own says what to explain."""
    no_heads: str = "its family tells of none"
    """Why attention heads can't be reached, where ``sites`` has none."""
    token: Token = "pooled"
    """The tokens that units are read on: "cls", "patch", "pooled" or "all"."""
    inner: nn.Module | None = None
    """The vision transformer inside ``model``, where :func:`view` had to look for it; of a view on an ordinary one ``model`` itself."""
    around: Callable[[Tensor, Tensor], Tensor] | None = None
    """Of a model that holds the vision transformer: images and the last block's output to the whole model's output."""

    def __repr__(self) -> str:
        kinds = [f"{kind}s" for kind in dict.fromkeys(place.kind for place in self.places)]
        return (
            f"ViT({type(self.model).__name__}, {len(self.blocks)} blocks, {' and '.join(kinds)}, token={self.token!r})"
        )

    @cached_property
    def places(self) -> list[Place]:
        """The sites as results note them down."""
        return [site.place for site in self.sites]

    @property
    def widths(self) -> list[int]:
        """The number of units of every site."""
        return [place.width for place in self.places]

    @cached_property
    def sites_of(self) -> list[dict[str, int]]:
        """Of every block the numbers of its sites, by the kind of their units."""
        return [{p.kind: s for s, p in enumerate(self.places) if p.block == b} for b in range(len(self.blocks))]

    @cached_property
    def tied(self) -> list[list[int]]:
        """The sites whose layers are one, or share a weight or a part of it (a recursive model's passes), as groups of two or more."""
        groups: dict[int, list[int]] = {}
        for s, site in enumerate(self.sites):
            groups.setdefault(id(parts_of(site.reader)[0]), []).append(s)
        return [group for group in groups.values() if len(group) > 1]

    @cached_property
    def passes(self) -> list[tuple[int, int]]:
        """Of a model whose blocks share weights every block's (loop, shared block), both counted from 0; empty for any other.

        The n-th block that holds a shared block's weights is loop n through it. A block that shares nothing is one of its own.
        """
        if not self.tied:
            return []
        owner = list(range(len(self.blocks)))
        for group in self.tied:
            blocks = [self.places[s].block for s in group]
            for block in blocks:
                owner[block] = min(owner[block], min(blocks))
        numbers = {block: number for number, block in enumerate(sorted(set(owner)))}
        return [(owner[:i].count(block), numbers[block]) for i, block in enumerate(owner)]

    @cached_property
    def loop_ends(self) -> list[int]:
        """The last block of every loop: of a cycle, or of a run of neighbours that share; of a model without loops each quarter's."""
        if self.passes:
            return loop_ends(self.passes)
        return sorted({(quarter * len(self.blocks)) // 4 - 1 for quarter in range(1, 5)} - {-1})

    @cached_property
    def fingerprint(self) -> str:
        """A name for the vision transformer's architecture: of the names and shapes of its weights, those of adapters aside."""
        state = plain_state(self.inner or self.model)
        weights = {name.replace("_orig_mod.", ""): value for name, value in state.items()}  # compiled blocks
        shapes = ";".join(f"{name}{tuple(value.shape)}" for name, value in sorted(weights.items()))
        return hashlib.sha256(shapes.encode()).hexdigest()[:16]

    def answer(self, x: Tensor, images: Tensor) -> Tensor:
        """The model's output (R, ...), when the last block gives ``x`` (R, N, D) for ``images`` (R, C, H, W)."""
        return self.readout(x) if self.around is None else self.around(images, x)

    def rest(self, token: Token) -> tuple[int, float]:
        """The range of the tokens that ``token`` leaves out; it is one range, whatever the choice."""
        token = self.pools if token == "pooled" and self.pools != "all" else token
        return {
            "cls": (self.num_cls_tokens, float("inf")),
            "patch": (0, self.num_prefix_tokens),
            "pooled": (0, 0) if self.pools_registers else (self.num_cls_tokens, self.num_prefix_tokens),
            "all": (0, 0),
        }[token]

    @property
    def head_reads_others(self) -> bool:
        """Whether the head reads tokens on which no unit is read."""
        (start, stop), (idle_start, idle_stop) = self.rest(self.token), self.rest("pooled")
        return start < stop and not (idle_start <= start and stop <= idle_stop)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of (B, N, ...) the tokens on which units are read, and all the others."""
        start, stop = self.rest(self.token)
        if stop == float("inf"):
            return x[:, :start], x[:, start:]
        stop = int(stop)
        chosen = x[:, stop:] if start == 0 else torch.cat([x[:, :start], x[:, stop:]], 1)
        return chosen, x[:, start:stop]

    def join(self, chosen: Tensor, others: Tensor) -> Tensor:
        """The inverse of :meth:`split`."""
        start = self.rest(self.token)[0]
        return torch.cat([chosen[:, :start], others, chosen[:, start:]], 1)

    def on_tokens(self, channels: Tensor, edit: Callable[[Tensor], Tensor]) -> Tensor:
        """Channels (B, N, C) of all tokens, ``edit`` applied to those (B, T, C) on which units are read."""
        here, others = self.split(channels)
        return self.join(edit(here), others)

    def attend(self, block: int, x: Tensor, extra: Extra, hidden: Hidden = None) -> Tensor:
        """A block's input (B, N, D) to the residual stream after its attention, of the same shape.

        ``hidden``, where given, takes the place of the heads' channels on the tokens that units are read on: a tensor (B, T, C), or a
        function of them.
        """
        attend, module = self.halves[block].attend, self.blocks[block]
        if hidden is None:
            return attend(module, x, *extra.args, **extra.kwargs)
        site = self.sites[self.sites_of[block]["head"]]
        edit = hidden if callable(hidden) else lambda _: hidden
        with site.called(), input_replaced(site.reader, lambda channels: self.on_tokens(channels, edit)):
            return attend(module, x, *extra.args, **extra.kwargs)

    def mlp(self, block: int, x: Tensor, hidden: Hidden = None) -> Tensor:
        """The residual stream after attention to the block's output, on any set of tokens (B, T, D).

        ``hidden``, where given, takes the place of the neurons' values: a tensor (B, T, M), or a function of them.
        """
        if hidden is None:
            return self.halves[block].mlp(self.blocks[block], x)
        replaced = hidden if callable(hidden) else lambda _: hidden
        with input_replaced(self.sites[self.sites_of[block]["neuron"]].reader, replaced):
            return self.halves[block].mlp(self.blocks[block], x)

    def block(self, block: int, x: Tensor, extra: Extra, hidden: Mapping[str, Hidden] | None = None) -> Tensor:
        """One block, live or with the channels of its "head" and "neuron" replaced by ``hidden`` on their tokens.

        In the last block tokens that nothing reads any more stop after attention.
        """
        hidden = hidden or {}
        stop = block == len(self.blocks) - 1 and not self.head_reads_others
        middle = self.attend(block, x, extra, hidden.get("head"))
        neurons = hidden.get("neuron")
        if neurons is None and not stop:
            return self.mlp(block, middle)
        chosen, others = self.split(middle)
        return self.join(self.mlp(block, chosen, neurons), others if stop else self.mlp(block, others))
