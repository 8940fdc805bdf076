"""Gates: live runs in which units go from what they are to their ablated values, and F's derivatives to every unit's gate.

A gate c multiplies what a unit differs by from its ablated value: at c = 1 the unit is as it is, at c = 0 ablated, and everything
behind follows, live. F's derivative to it is (value - ablated) times gradient, summed over tokens and channels. Where the gates of a
set of units go from 1 to 0 together (alpha), the means of their derivatives sum to F(1) - F(0): what ablating the set really takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..models.outputs import widest
from ..options import Rule
from .clean import CleanRun
from .gradients import gradients_of
from .influence import Grid
from .quadrature import nodes_and_weights

Ablated = Sequence[Tensor] | None  # a site (B or 1, T, C): the channels of units that are gone; None is 0


def gates_of(run: CleanRun, path: Tensor | None, rows: Tensor, alpha: Tensor | float) -> list[Tensor]:
    """The gates (R, U) of every site: those of ``path`` (B, S, K) at alpha, one number or (R,), all others at 1.

    Without a path all are at alpha.
    """
    found = []
    for site, width in enumerate(run.vit.widths):
        gates = torch.ones(len(rows), width, dtype=run.middle.dtype, device=rows.device)
        value = alpha[:, None].to(gates) if isinstance(alpha, Tensor) else gates.new_full((1, 1), alpha)
        if path is None:
            found.append(gates * value)
        else:
            index = path[rows, site]
            found.append(gates.scatter(1, index, value.expand_as(index)))
    return found


def gated(run: CleanRun, rows: Tensor, gates: Sequence[Tensor], ablated: Ablated = None) -> Tensor:
    """F (R,) of live runs with these gates, a site (R, U)."""
    return run.output_of(gated_answer(run, rows, gates, ablated), rows)


def gated_answer(run: CleanRun, rows: Tensor, gates: Sequence[Tensor], ablated: Ablated = None) -> Tensor:
    """The model's output (R, ...) in live runs with these gates, a site (R, U)."""

    def edit(site: int, live: Tensor) -> Tensor:
        gate = run.vit.sites[site].spread(gates[site])[:, None]
        if ablated is None:
            return live * gate
        gone = ablated[site] if len(ablated[site]) == 1 else ablated[site][rows]
        return live * gate + gone * (1 - gate)  # exact at 1 and at 0

    return run.answer_with(rows, [partial(edit, site) for site in range(len(gates))])


def clean_gates(run: CleanRun) -> list[Tensor]:
    """F's derivative to every unit's gate in the clean run, all gates at 1 and 0 the baseline: a site (B, U). Wants ``live``."""
    return [(values * gradient).sum(1) for values, gradient in zip(run.hidden, run.live_gradients, strict=True)]


def mean_gates(
    run: CleanRun,
    path: Tensor | None,
    method: Rule,
    n_steps: int,
    ablated: Ablated = None,
    images: Tensor | None = None,
) -> list[Tensor]:
    """F's derivative to every unit's gate while those of ``path`` (B, S, K) go from 1 to 0, averaged: a site (b, U).

    Without a path all gates go; with ``images`` (b,) only these images are run.
    """
    images = run.rows if images is None else images
    grid = Grid.of(images, *nodes_and_weights(method, n_steps))
    slots = Grid.of(torch.arange(len(images), device=images.device), *nodes_and_weights(method, n_steps)).image
    means = [
        torch.zeros(len(images), width, dtype=widest(run.middle), device=images.device) for width in run.vit.widths
    ]

    def work(piece: slice) -> None:
        rows, weight = grid.image[piece], grid.weight[piece, None]
        gates = [gate.requires_grad_() for gate in gates_of(run, path, rows, grid.alpha[piece])]
        with torch.enable_grad():
            found = gradients_of(gated(run, rows, gates, ablated), gates)
        for mean, gradient in zip(means, found, strict=True):
            mean.index_add_(0, slots[piece], gradient.to(mean) * weight.to(mean))

    run.pieces.each(len(grid.image), work)
    return means


def path_gates(
    run: CleanRun, path: Tensor, alphas: Sequence[float], ablated: Ablated, images: Tensor
) -> tuple[Tensor, Tensor]:
    """F (b, n), and its derivatives to the gates of ``path`` (B, S, K), with these at each of n alphas: (b, n, S, K).

    Of ``images`` (b,). The nodes of an image run together, as images do: a few images take little longer than one node of them.
    """
    grid = Grid.of(images, np.asarray(alphas), np.ones(len(alphas)))
    value = torch.zeros(len(grid.image), dtype=widest(run.middle), device=images.device)
    slopes = value.new_zeros(len(value), *path.shape[1:])

    def work(piece: slice) -> None:
        rows = grid.image[piece]
        gates = [gate.requires_grad_() for gate in gates_of(run, path, rows, grid.alpha[piece])]
        with torch.enable_grad():
            found = gated(run, rows, gates, ablated)
            gradients = gradients_of(found, gates)
        value[piece] = found.detach().to(value)
        slopes[piece] = torch.stack([g.gather(1, path[rows, site]) for site, g in enumerate(gradients)], 1).to(slopes)

    run.pieces.each(len(value), work)
    return value.unflatten(0, (len(images), len(alphas))), slopes.unflatten(0, (len(images), len(alphas)))


@dataclass(frozen=True, eq=False)
class AblatedRun:
    """What live runs give in which a path's gates are at one value, for B images."""

    value: Tensor  # (B,): F
    answer: Tensor  # (B, ...): the model's output


def ablated_run(run: CleanRun, path: Tensor, factor: float = 0.0, ablated: Ablated = None) -> AblatedRun:
    """The model's output, and F, when the gates of ``path`` (B, S, K) are at ``factor`` on the tokens that units are read on."""
    answer = torch.empty_like(run.answer)

    def work(piece: slice) -> None:
        rows = run.rows[piece]
        answer[piece] = gated_answer(run, rows, gates_of(run, path, rows, factor), ablated)

    run.pieces.each(len(run.rows), work)
    return AblatedRun(run.output_of(answer, run.rows), answer)


def gated_output(
    run: CleanRun, path: Tensor, factor: float = 0.0, ablated: Ablated = None, images: Tensor | None = None
) -> Tensor:
    """F (b,) when the gates of ``path`` (B, S, K) are at ``factor`` on the tokens that units are read on.

    With ``images`` (b,) only these are run.
    """
    images = run.rows if images is None else images
    found = torch.empty_like(run.value[images])

    def work(piece: slice) -> None:
        rows = images[piece]
        found[piece] = gated(run, rows, gates_of(run, path, rows, factor), ablated)

    run.pieces.each(len(images), work)
    return found
