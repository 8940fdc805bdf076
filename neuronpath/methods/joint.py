"""The path that maximises the joint attribution score (or the complete attribution), sought over all sites at once.

The gradient of F to every unit of every site is had from one forward and one backward. Given the mean gradients G along one
path, the objective of any other path is known to first order; so

    start:   the whole path that the clean run's gradients support best
    repeat:  G along the path                                      one forward, one backward a node
             the whole path that G supports best, judged by its own G; kept if it is really better,
             else only its most promising sites are changed, half as many each time
    until no change promises anything, or the effort is spent.

The quadrature is Gauss-Radau by default: its last node is the clean run, whose gradients serve every path, so that a path's G costs
one node where two serve the integral.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..runs.clean import CleanRun
from ..runs.influence import Quadrature, mean_gradients
from ..units import at_units, on_path, units_named
from .progressive import UNITS as PROGRESSIVE
from .progressive import progress
from .registry import Found, Search, best_units, register_method, worth

ANGLES = 48  # directions in which the hull of attainable sums is sought, a quadrant
NEARLY = 1e-6  # a promise of less than this share of the score is rounding
MIDPOINT = Quadrature("gausslegendre", 1)  # precise enough for a start
FINER = Quadrature("gausslegendre", 2)  # twice the work of the search's own nodes, and tells apart what those don't
SWEEPS = {"standard": 4, "thorough": 12}  # a start


@register_method("joint", quadrature="gaussradau", efforts=("standard", "thorough"))
def locate_joint(run: CleanRun, search: Search) -> Found:
    """The best of one start ("standard") or of several ("thorough"), each refined.

    The clean run's gradients are small where the output is saturated. Other starts therefore take gradients where it isn't: with
    all units at 0, or those of one half of the sites at half their values. For neurons the last one
    is the layer-progressive path.
    """
    best = refine(run, search, best_whole_path(run.hidden, run.gradients, search))
    if search.effort == "thorough":
        sites = len(run.hidden)
        half = sites // 2
        first, second = [0.5] * half + [1.0] * (sites - half), [1.0] * half + [0.5] * (sites - half)
        for factors in ([0.0] * sites, first, second):
            start = best_whole_path(run.hidden, run.gradients_at(factors), search)
            best = best.or_better(refine(run, search, start))
        if units_named(run.vit.places) in PROGRESSIVE:
            progressive = progress(run, search, MIDPOINT, anchor=True)
            refined = refine(run, search, progressive)
            best = best.or_better(refined)
            if search.quadrature.n_steps is None:
                settle(run, search, best, [progressive, refined.path])
    return Found(best.path, best.sweeps, best.converged, on_path(best.gradients, best.path), search.quadrature.fewest)


def settle(run: CleanRun, search: Search, best: "State", others: list[Tensor]) -> None:
    """Put the best of these paths (B, S, K) in place of ``best``, judged with finer nodes: the search's own err on close calls."""
    differ = sum((path != best.path).any(2).any(1) for path in others).nonzero()[:, 0]  # type: ignore[union-attr]
    if not len(differ):
        return
    finer = replace(search, quadrature=FINER)
    state = compute(run, finer, best.path[differ], differ)
    for path in others:
        state = state.or_better(compute(run, finer, path[differ], differ))
    changed = (state.path != best.path[differ]).any(2).any(1)
    if changed.any():
        where, state = differ[changed], state.at(changed)
        new = compute(run, search, state.path, where)
        best.put(where, replace(new, sweeps=best.sweeps[where] + state.sweeps, converged=best.converged[where]))


@dataclass(frozen=True, eq=False)
class State:
    """Where the refinement of B images stands."""

    path: Tensor  # (B, S, K)
    gradients: list[Tensor]  # G along it, a site (B, T, U)
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

    def put(self, images: Tensor, new: "State") -> None:
        """Write the states of these images."""
        self.path[images], self.objective[images] = new.path, new.objective
        self.sweeps[images], self.converged[images] = new.sweeps, new.converged
        for kept, gradient in zip(self.gradients, new.gradients, strict=True):
            kept[images] = gradient

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
    """The state of ``path`` (b, S, K) for the b images named."""
    everywhere = torch.zeros(len(run.rows), *path.shape[1:], dtype=path.dtype, device=path.device)
    everywhere[images] = path
    gradients = mean_gradients(run, everywhere, search.quadrature.method, search.quadrature.fewest, images)
    clean = [values[images] for values in run.hidden]
    objective = worth(on_path(clean, path), on_path(gradients, path), search.objective)
    return State(
        path.clone(), gradients, objective, torch.ones_like(images), torch.zeros_like(images, dtype=torch.bool)
    )


def refine(run: CleanRun, search: Search, path: Tensor) -> State:
    """Better paths from ``path`` (B, S, K) on, until no change promises anything or the effort is spent."""
    state = compute(run, search, path, run.rows)
    sites = path.shape[1]
    allowed = torch.full((len(path),), sites, device=path.device)  # how many sites may change at once
    active = run.rows
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
        state.put(active, new)
        # a single change that didn't hold what it promised: the promise was within the error of the first order
        state.converged[active[~raised & (allowed[active] == 1)]] = True
        changes = (promised != now.path).any(2).sum(1)
        allowed[active] = torch.where(raised, allowed[active], (changes // 2).clamp(min=1))
        active = active[~state.converged[active]]
        if not len(active):
            break
    return state


def propose(clean: list[Tensor], state: State, search: Search, allowed: Tensor) -> Tensor:
    """The path (b, S, K) that the state's G promises most of, at most ``allowed`` (b,) sites changed; else the same path."""
    gradients, sites = state.gradients, state.path.shape[1]
    value = on_path(clean, state.path).to(gradients[0])  # (b, S, T, K)
    slope = on_path(gradients, state.path)
    now = worth(value, slope, search.objective)
    enough = NEARLY * now.abs()

    # what every site promises if it alone changes, and which sites promise most
    alone = [rechosen(clean, gradients, value, slope, site, search) for site in range(sites)]
    promise = torch.stack([worth(v, s, search.objective) for _, v, s in alone], 1) - now[:, None]
    rank = promise.argsort(1, descending=True).argsort(1)
    may = (rank < allowed[:, None]) & (promise > enough[:, None])

    path, best = state.path.clone(), now
    for site in range(sites):
        units, new_value, new_slope = rechosen(clean, gradients, value, slope, site, search)
        objective = worth(new_value, new_slope, search.objective)
        better = may[:, site] & (objective > best)
        path[:, site] = torch.where(better[:, None], units, path[:, site])
        value = torch.where(better[:, None, None, None], new_value, value)
        slope = torch.where(better[:, None, None, None], new_slope, slope)
        best = torch.where(better, objective, best)

    whole = best_whole_path(clean, gradients, search)
    promised = worth(on_path(clean, whole), on_path(gradients, whole), search.objective)
    jump = (allowed == sites) & (promised > best + enough)
    return torch.where(jump[:, None, None], whole, path)


def rechosen(
    clean: list[Tensor], gradients: list[Tensor], value: Tensor, slope: Tensor, site: int, search: Search
) -> tuple[Tensor, Tensor, Tensor]:
    """One site's units (b, K) chosen anew, as best they join the others, and the path's values and gradients with them.

    ``value`` and ``slope`` (b, S, T, K) are those of the path before.
    """
    other_value, other_slope = (on.sum((1, 3)) - on[:, site].sum(2) for on in (value, slope))
    units = best_units(clean[site], gradients[site], other_value, other_slope, search.top_k, search.objective)
    value, slope = value.clone(), slope.clone()
    value[:, site] = at_units(clean[site], units)
    slope[:, site] = at_units(gradients[site], units)
    return units, value, slope


def best_whole_path(clean: list[Tensor], gradients: list[Tensor], search: Search) -> Tensor:
    """The path (b, S, K) that maximises the objective if the gradients, a site (b, T, U), were the same along every path.

    For one pooled token the score is a product of two sums over sites, of gradients and of values. Its maximum is on the hull of
    attainable pairs of sums, where for some weighing of the two every site chooses by itself; all weighings are tried, for both
    sums positive and for both negative. For several tokens, and for the complete attribution, every site chooses by itself the
    largest product; :func:`propose` goes on from there.
    """
    if search.objective == "complete" or clean[0].shape[1] > 1:
        pairs = zip(clean, gradients, strict=True)
        return torch.stack([(c * g).sum(1).topk(search.top_k).indices for c, g in pairs], 1)
    angle = torch.linspace(0, math.pi / 2, ANGLES, device=clean[0].device, dtype=gradients[0].dtype)
    angle = torch.cat([angle, angle + math.pi])[:, None, None]
    scale_value, scale_slope = (torch.stack([v[:, 0].abs().amax(1) for v in vs]).sum(0) for vs in (clean, gradients))
    chosen = []
    total_value = total_slope = torch.zeros_like(angle[:, :, 0])  # (A, b)
    for c, g in zip(clean, gradients, strict=True):
        value, slope = c[:, 0] / scale_value[:, None], g[:, 0] / scale_slope[:, None]
        neurons = (angle.cos() * slope + angle.sin() * value).topk(search.top_k, 2).indices  # (A, b, K)
        chosen.append(neurons)
        total_value = total_value + value.expand(len(angle), -1, -1).gather(2, neurons).sum(2)
        total_slope = total_slope + slope.expand(len(angle), -1, -1).gather(2, neurons).sum(2)
    best = (total_value * total_slope).argmax(0)  # (b,)
    return torch.stack([neurons[best, torch.arange(len(best), device=best.device)] for neurons in chosen], 1)
