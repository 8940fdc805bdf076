"""Edges: direct effects of units on later units, and straight on the output, through the residual stream.

Ablating a sender changes what its half-block, attention or MLP, writes into the residual stream. Its direct effect on a receiver is the
change of F when only the receiver's input lacks what was written: the receiver's channels change, and the run goes on from there, live.
Its effect straight on the output is the change of F when only the readout's input lacks it.

    w = what the sender's half-block writes, less what it writes with the sender ablated
    r(x - w) = the receiver's channels, its half-block run on its input x less w
    real:      F - F(the receiver at r(x - w), all behind it live)
    estimate:  (r(x) - r(x - w)) . dF / dr, one backward for all receivers

After path patching (Goldowsky-Dill et al., arXiv 2304.05969) and edge attribution patching (Syed et al., arXiv 2310.10348), which takes
the receiver, too, to be linear.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..models.outputs import widest
from ..units import KINDS
from .clean import CleanRun
from .gates import Ablated
from .gradients import gradients_of

Edit = Callable[[Tensor], Tensor]  # a site's channels (R, T, C) -> what takes their place


class Nodes(NamedTuple):
    """The units between which edges are sought, n in all: of one image after the other, in the order in which the model runs."""

    image: Tensor  # (n,): the row of the run
    site: Tensor  # (n,)
    unit: Tensor  # (n,): its number there
    rank: Tensor  # (n,): its number among the image's units


class Effects(NamedTuple):
    """Of every node what F loses. W is the most units of an image."""

    estimate: Tensor  # (n, W): through each unit of its image, by rank; NaN where it isn't later
    real: Tensor  # (n, W): the same, patched for real; NaN where that wasn't asked for
    to_output: Tensor  # (n,): straight to the output
    total: Tensor  # (n,): when the unit is ablated and all else follows


@dataclass(frozen=True, eq=False)
class Stream:
    """A run kept half-block by half-block: step 2 l is block l's attention, step 2 l + 1 its MLP."""

    run: CleanRun
    on: list[Tensor]  # a site (B, U), bool: the units that are as they are; all others are ablated
    ablated: Ablated
    x: list[Tensor]  # (B, N, D): the residual stream before every step, and behind the last
    channels: list[Tensor]  # a site (B, T, C)
    gradients: list[Tensor]  # a site (B, T, C): F's
    value: Tensor  # (B,): F

    def without(self, site: int, rows: Tensor, index: Tensor) -> Edit:
        """The site's units as in this run, but these (R,) ablated too."""
        return _with_only(self.run, site, rows, self.on[site][rows].scatter(1, index[:, None], False), self.ablated)

    def written(self, site: int, rows: Tensor, index: Tensor) -> Tensor:
        """What the half-block writes (R, N, D), less what it writes with the units (R,) ablated."""
        step, edit = _step_of(self.run, site), self.without(site, rows, index)
        return self.x[step + 1][rows] - _run_step(self.run, step, self.x[step][rows], rows, edit)

    def finish(self, step: int, x: Tensor, rows: Tensor, edit: Edit | None = None) -> Tensor:
        """F (R,) when the run goes on from ``x`` (R, N, D) before a step, in which ``edit`` acts on the units."""
        for later in range(step, len(self.x) - 1):
            site = _site_of(self.run, later)
            if edit is None and site is not None:
                edit = _with_only(self.run, site, rows, self.on[site][rows], self.ablated)
            x, edit = _run_step(self.run, later, x, rows, edit), None
        return self.run.output_of(self.run.readout(x, rows), rows)

    def received(self, site: int, x: Tensor, rows: Tensor) -> Tensor:
        """A site's channels (R, T, C) when the residual stream before its half-block is ``x``."""
        seen: list[Tensor] = []

        def see(channels: Tensor) -> Tensor:
            seen.append(channels)
            return channels

        _run_step(self.run, _step_of(self.run, site), x, rows, see)
        return seen[0]


def stream_of(run: CleanRun, on: list[Tensor], ablated: Ablated) -> Stream:
    """The run with only the units on (a site (B, U)) as they are: one forward, one backward."""
    channels: dict[int, Tensor] = {}
    probes: dict[int, Tensor] = {}
    x = [run.entering]

    def keep(site: int, live: Tensor) -> Tensor:
        channels[site] = _with_only(run, site, run.rows, on[site], ablated)(live)
        probes[site] = torch.zeros_like(live).requires_grad_()
        return channels[site] + probes[site]

    with torch.enable_grad():
        for step in range(2 * len(run.vit.blocks)):
            site = _site_of(run, step)
            x.append(_run_step(run, step, x[-1], run.rows, None if site is None else partial(keep, site)))
        value = run.output_of(run.readout(x[-1], run.rows), run.rows)
        sites = range(len(run.vit.sites))
        gradients = gradients_of(value, [probes[site] for site in sites])
    kept = [channels[site].detach() for site in sites]
    return Stream(run, on, ablated, [each.detach() for each in x], kept, gradients, value.detach())


def edges_of(stream: Stream, nodes: Nodes, real: bool) -> Effects:
    """All nodes' effects; ``real`` also patches every edge: a forward from the receiver on."""
    run = stream.run
    count, most = len(nodes.rank), int(nodes.rank.max()) + 1 if len(nodes.rank) else 0
    unknown = torch.full((count, most), torch.nan, dtype=widest(run.entering), device=run.rows.device)
    found = Effects(unknown, unknown.clone(), unknown.new_zeros(count), unknown.new_zeros(count))
    at_site = [(nodes.site == site).nonzero()[:, 0] for site in range(len(run.vit.sites))]

    def work(senders: Tensor, site: int, piece: slice) -> None:
        here = senders[piece]
        rows = nodes.image[here]
        written = stream.written(site, rows, nodes.unit[here])
        for taken, step in ((found.to_output, len(stream.x) - 1), (found.total, _step_of(run, site) + 1)):
            taken[here] = stream.value[rows] - stream.finish(step, stream.x[step][rows] - written, rows)
        for later in range(site + 1, len(at_site)):
            receivers = at_site[later]
            which, whose = (rows[:, None] == nodes.image[receivers]).nonzero(as_tuple=True)
            if not len(which):
                continue
            edge = here[which], nodes.rank[receivers[whose]]
            index, size = nodes.unit[receivers[whose]], run.vit.sites[later].size
            channels = stream.received(later, stream.x[_step_of(run, later)][rows] - written, rows)
            change = (stream.channels[later][rows] - channels).to(unknown) * stream.gradients[later][rows]
            found.estimate[edge] = change.sum(1).unflatten(-1, (-1, size)).sum(-1)[which, index]
            if real:
                found.real[edge] = stream.value[rows[which]] - _patched(stream, later, rows, channels, which, index)

    for site, senders in enumerate(at_site):
        run.pieces.each(len(senders), partial(work, senders, site))
    return found


def _patched(stream: Stream, site: int, rows: Tensor, channels: Tensor, which: Tensor, index: Tensor) -> Tensor:
    """F (P,) where of the rows ``which`` (P,) of ``channels`` (R, T, C) only unit ``index`` (P,) takes its place in the run."""
    run, step = stream.run, _step_of(stream.run, site)
    found = torch.zeros(len(which), dtype=stream.value.dtype, device=rows.device)

    def work(piece: slice) -> None:
        here = rows[which[piece]]
        mine = torch.zeros_like(stream.on[site][here]).scatter_(1, index[piece, None], True)
        mine = run.vit.sites[site].spread(mine)[:, None]
        held = torch.where(mine, channels[which[piece]], stream.channels[site][here])
        found[piece] = stream.finish(step, stream.x[step][here], here, lambda _: held)

    run.pieces.each(len(which), work)
    return found


def _with_only(run: CleanRun, site: int, rows: Tensor, on: Tensor, ablated: Ablated) -> Edit:
    """The site's units as they come where ``on`` (R, U), the others ablated."""
    gone: Tensor | float = 0.0
    if ablated is not None:
        gone = ablated[site] if len(ablated[site]) == 1 else ablated[site][rows]
    return lambda live: torch.where(run.vit.sites[site].spread(on)[:, None], live, gone)


def _site_of(run: CleanRun, step: int) -> int | None:
    """The site of a step, where its units are viewed."""
    return run.vit.sites_of[step // 2].get(KINDS["both"][step % 2])


def _step_of(run: CleanRun, site: int) -> int:
    place = run.vit.places[site]
    return 2 * place.block + KINDS["both"].index(place.kind)


def _run_step(run: CleanRun, step: int, x: Tensor, rows: Tensor, edit: Edit | None) -> Tensor:
    """The residual stream (R, N, D) behind a half-block, ``edit`` acting on its units."""
    block = step // 2
    if step % 2 == 0:
        return run.vit.attend(block, x, run.extra(block, rows), edit)
    return run.vit.mlp(block, x, None if edit is None else lambda channels: run.vit.on_tokens(channels, edit))
