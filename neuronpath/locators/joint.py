"""The path that maximises the joint attribution score (or the complete attribution), sought over all blocks at once.

The gradient of F to every neuron of every block is had from one forward and one backward. Given the mean gradients G along one
path, the objective of any other path is known to first order; so

    start:   the whole path that the clean run's gradients support best
    repeat:  G along the path                                      one forward, one backward a node
             the whole path that G supports best, judged by its own G; kept if it is really better,
             else only its most promising blocks are changed, half as many each time
    until no change promises anything, or the effort is spent.

The quadrature is Gauss-Radau by default: its last node is the clean run, whose gradients serve every path, so that a path's G costs
one node where two serve the integral.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..influence import Quadrature, at_neurons, mean_gradients, on_path
from ..runs import CleanRun
from .progressive import progress
from .registry import Found, Search, best_neurons, register_method, worth

ANGLES = 48  # directions in which the hull of attainable sums is sought, a quadrant
NEARLY = 1e-6  # a promise of less than this share of the score is rounding
MIDPOINT = Quadrature("gausslegendre", 1)  # precise enough for a start
SWEEPS = {"standard": 4, "thorough": 12}  # a start


@register_method("joint", quadrature="gaussradau")
def locate_joint(run: CleanRun, search: Search) -> Found:
    """The best of one start ("standard") or of several ("thorough"), each refined.

    The clean run's gradients are small where the output is saturated. Other starts therefore take gradients where it isn't: with
    all neurons scaled down, or those of one half of the blocks. The last one is the layer-progressive path.
    """
    best = refine(run, search, best_whole_path(run.hidden, run.gradients, search))
    if search.effort == "thorough":
        blocks = len(run.hidden)
        half = blocks // 2
        starts = [[factor] * blocks for factor in (0.75, 0.5, 0.0)]
        starts += [[0.5] * half + [1.0] * (blocks - half), [1.0] * half + [0.5] * (blocks - half)]
        for factors in starts:
            start = best_whole_path(run.hidden, run.gradients_at(factors), search)
            best = best.or_better(refine(run, search, start))
        progressive = progress(run, search, MIDPOINT, anchor=True)
        best = best.or_better(refine(run, search, progressive))
        if search.quadrature.n_steps is None:  # close calls want more nodes than the search has
            search = replace(search, quadrature=replace(search.quadrature, n_steps=search.quadrature.attempts[1]))
            last = compute(run, search, progressive, run.images)
            best = replace(
                compute(run, search, best.path, run.images), converged=best.converged, sweeps=best.sweeps + 1
            ).or_better(last)
    return Found(best.path, best.sweeps, best.converged, on_path(best.gradients, best.path), search.quadrature.fewest)


@dataclass(frozen=True, eq=False)
class State:
    """Where the refinement of B images stands."""

    path: Tensor  # (B, L, K)
    gradients: list[Tensor]  # G along it, a block (B, T, M)
    objective: Tensor  # (B,)
    sweeps: Tensor  # (B,)
    converged: Tensor  # (B,)

    def at(self, images: Tensor) -> "State":
        return State(
            self.path[images],
            [gradient[images] for gradient in self.gradients],
            self.objective[images],
            self.sweeps[images],
            self.converged[images],
        )

    def or_better(self, other: "State") -> "State":
        """For each image the better of the two; their sweeps add up."""
        better = other.objective > self.objective * (1 + NEARLY * self.objective.sign())

        def pick(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(better.view(-1, *[1] * (mine.ndim - 1)), theirs, mine)

        return State(
            pick(self.path, other.path),
            [pick(mine, theirs) for mine, theirs in zip(self.gradients, other.gradients, strict=True)],
            pick(self.objective, other.objective),
            self.sweeps + other.sweeps,
            pick(self.converged, other.converged),
        )


def compute(run: CleanRun, search: Search, path: Tensor, images: Tensor) -> State:
    """The state of ``path`` (b, L, K) for the b images named."""
    everywhere = torch.zeros(len(run.images), *path.shape[1:], dtype=path.dtype, device=path.device)
    everywhere[images] = path
    gradients = mean_gradients(run, everywhere, search.quadrature.method, search.quadrature.fewest, images)
    clean = [values[images] for values in run.hidden]
    objective = worth(on_path(clean, path), on_path(gradients, path), search.objective)
    return State(path, gradients, objective, torch.ones_like(images), torch.zeros_like(images, dtype=torch.bool))


def refine(run: CleanRun, search: Search, path: Tensor) -> State:
    """Better paths from ``path`` (B, L, K) on, until no change promises anything or the effort is spent."""
    state = compute(run, search, path, run.images)
    blocks = path.shape[1]
    allowed = torch.full((len(path),), blocks, device=path.device)  # how many blocks may change at once
    active = run.images
    for _ in range(SWEEPS[search.effort]):
        now = state.at(active)
        clean = [values[active] for values in run.hidden]
        promised = propose(clean, now, search, allowed[active])
        promising = (promised != now.path).any(2).any(1)
        state.converged[active[~promising]] = True
        active, promised, now = active[promising], promised[promising], now.at(promising)
        if not len(active):
            break
        new = now.or_better(compute(run, search, promised, active))
        raised = (new.path != now.path).any(2).any(1)
        # a single change that didn't hold what it promised: the promise was within the error of the first order
        state.converged[active[~raised & (allowed[active] == 1)]] = True
        state.path[active], state.objective[active], state.sweeps[active] = new.path, new.objective, new.sweeps
        for kept, gradient in zip(state.gradients, new.gradients, strict=True):
            kept[active] = gradient
        changes = (promised != now.path).any(2).sum(1)
        allowed[active] = torch.where(raised, allowed[active], (changes // 2).clamp(min=1))
        active = active[~state.converged[active]]
        if not len(active):
            break
    return state


def propose(clean: list[Tensor], state: State, search: Search, allowed: Tensor) -> Tensor:
    """The path (b, L, K) that the state's G promises most of, at most ``allowed`` (b,) blocks changed; else the same path."""
    gradients, blocks = state.gradients, state.path.shape[1]

    def objective(path: Tensor) -> Tensor:
        return worth(on_path(clean, path), on_path(gradients, path), search.objective)

    # what every block promises if it alone changes, and which blocks promise most
    now = objective(state.path)
    alone = torch.stack(
        [objective(with_block(clean, gradients, state.path, block, search)) - now for block in range(blocks)], 1
    )
    alone = alone.masked_fill(alone <= NEARLY * now.abs()[:, None], -torch.inf)
    rank = alone.argsort(1, descending=True).argsort(1)
    may = (rank < allowed[:, None]) & (alone > -torch.inf)
    path = state.path
    for block in range(blocks):
        changed = with_block(clean, gradients, path, block, search)
        better = may[:, block] & (objective(changed) > objective(path))
        path = torch.where(better[:, None, None], changed, path)
    whole = best_whole_path(clean, gradients, search)
    jump = (allowed == blocks) & (objective(whole) > objective(path) + NEARLY * now.abs())
    return torch.where(jump[:, None, None], whole, path)


def with_block(clean: list[Tensor], gradients: list[Tensor], path: Tensor, block: int, search: Search) -> Tensor:
    """The path with the neurons of one block chosen anew, as best they join the others."""
    others = [b for b in range(path.shape[1]) if b != block]
    value, slope = (
        torch.stack([at_neurons(v[b], path[:, b]).sum(2) for b in others]).sum(0)
        if others
        else torch.zeros_like(v[block][..., 0])
        for v in (clean, gradients)
    )
    changed = path.clone()
    changed[:, block] = best_neurons(
        clean[block], gradients[block], value.to(gradients[block]), slope, search.top_k, search.objective
    )
    return changed


def best_whole_path(clean: list[Tensor], gradients: list[Tensor], search: Search) -> Tensor:
    """The path (b, L, K) that maximises the objective if the gradients, a block (b, T, M), were the same along every path.

    For one pooled token the score is a product of two sums over blocks, of gradients and of values. Its maximum is on the hull of
    attainable pairs of sums, where for some weighing of the two every block chooses by itself; all weighings are tried, for both
    sums positive and for both negative. For several tokens, and for the complete attribution, every block chooses by itself the
    largest product; :func:`propose` goes on from there.
    """
    if search.objective == "complete" or clean[0].shape[1] > 1:
        pairs = zip(clean, gradients, strict=True)
        return torch.stack([(c * g).sum(1).topk(search.top_k).indices for c, g in pairs], 1)
    angle = torch.linspace(0, math.pi / 2, ANGLES, device=clean[0].device, dtype=gradients[0].dtype)
    angle = torch.cat([angle, angle + math.pi])
    scale_value, scale_slope = (torch.stack([v[:, 0].abs().amax(1) for v in vs]).sum(0) for vs in (clean, gradients))
    chosen = []
    for c, g in zip(clean, gradients, strict=True):
        value, slope = c[:, 0] / scale_value[:, None], g[:, 0] / scale_slope[:, None]
        weighed = angle.cos()[:, None, None] * slope + angle.sin()[:, None, None] * value  # (A, b, M)
        chosen.append(weighed.topk(search.top_k, 2).indices)
    paths = torch.stack(chosen, 2)  # (A, b, L, K)
    scores = torch.stack([worth(on_path(clean, p), on_path(gradients, p), "joint") for p in paths])
    return paths.gather(0, scores.argmax(0)[None, :, None, None].expand(1, *paths.shape[1:]))[0]
