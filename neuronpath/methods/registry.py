"""The methods by name, what each of them is given, and what it gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from ..checks import InputError, checked
from ..options import Effort, Objective, Rule, Token, Units
from ..runs.clean import CleanRun
from ..runs.gates import Ablated
from ..runs.influence import Quadrature
from ..units import Place, at_units

UNITS: tuple[Units, ...] = get_args(Units)


@dataclass(frozen=True, eq=False)
class Search:
    """What a method is asked for."""

    quadrature: Quadrature = Quadrature()  # noqa: RUF009  (frozen)
    top_k: int = 1  # units a site
    objective: Objective = "joint"  # maximise the joint attribution score, or the "complete" attribution
    effort: Effort = "standard"
    seed: int = 0  # of methods that draw
    ablated: Ablated = None  # the channels of units that are gone


@dataclass(frozen=True, eq=False)
class Found:
    """What a method has located, for B images."""

    units: Tensor  # (B, S, K)
    sweeps: Tensor | None = None  # (B,): how often the whole path was computed anew; None for methods that don't refine
    converged: Tensor | None = None  # (B,): whether the search ended because nothing raised the objective any more
    gradients: Tensor | None = None  # (B, S, T, K): G on the path, where it is known
    n_steps: int = 0  # the nodes that it is known with
    clean: Tensor | None = None  # (B, S, K): F's derivatives to the path's gates in the clean run, where they are known


Locator = Callable[[CleanRun, Search], Found]


@dataclass(frozen=True)
class Method:
    """A locator and what it needs."""

    locate: Locator
    quadrature: Rule  # its default rule
    live: bool = False  # whether it needs F's gradients in the ordinary run
    units: tuple[Units, ...] = UNITS  # what it finds paths of; the first where nothing is asked for
    token: Token = "pooled"  # the tokens that units are read on where nothing is asked for
    efforts: tuple[Effort, ...] = ("standard",)
    ablates: bool = False  # whether its figures are of an ablation in a live run, to any baseline


_METHODS: dict[str, Method] = {}


@checked
def register_method(
    name: str,
    quadrature: Rule = "gausslegendre",
    live: bool = False,
    units: tuple[Units, ...] = UNITS,
    token: Token = "pooled",
    efforts: tuple[Effort, ...] = ("standard",),
    ablates: bool = False,
) -> Callable[[Locator], Locator]:
    """Decorate a function that locates paths, to be found under this name.

    Args:
        name: what ``find_path(method=...)`` takes.
        quadrature: its default rule.
        live: whether it reads ``run.live_gradients``.
        units: what it finds paths of, of "neurons", "heads" and "both"; the first is its default.
        token: the tokens that it reads units on by default.
        efforts: those of "standard" and "thorough" that it knows.
        ablates: whether its figures are those of an ablation in a live run: attributions sum to what that takes, baselines are its
            own; otherwise they are those of the frozen run.
    """

    def register(locate: Locator) -> Locator:
        _METHODS[name] = Method(locate, quadrature, live, units, token, efforts, ablates)
        return locate

    return register


def list_methods() -> list[str]:
    """The names that ``find_path(method=...)`` takes."""
    return sorted(_METHODS)


def method_named(name: str) -> Method:
    if not isinstance(name, str) or name not in _METHODS:
        raise InputError(f"method {name!r} is unknown; expected one of {', '.join(list_methods())}")
    return _METHODS[name]


def check_top_k(top_k: int, places: Sequence[Place]) -> None:
    fewest = min(places, key=lambda place: place.width)
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= fewest.width:
        raise InputError(
            f"top_k is {top_k!r}; expected a whole number from 1 to {fewest.width}, the {fewest.kind}s of a block"
        )


def worth(clean: Tensor, gradient: Tensor, objective: Objective) -> Tensor:
    """The objective (B,) of a path with values and mean gradients (B, S, T, K).

    "joint" is the joint attribution score, a product of sums; "complete" the complete attribution, a sum of products.
    """
    if objective == "complete":
        return (clean * gradient).sum((1, 2, 3))
    return (clean.sum((1, 3)) * gradient.sum((1, 3))).sum(1)


def best_units(
    clean: Tensor,
    gradient: Tensor,
    path_value: Tensor,
    path_gradient: Tensor,
    top_k: int,
    objective: Objective = "joint",
) -> Tensor:
    """The units (B, K) of a site that join a path best.

    Args:
        clean, gradient: (B, T, U) of the site's units.
        path_value, path_gradient: (B, T), summed over the path at the other sites.

    For several units a site they are taken one after the other, each counting from then on.
    """
    if objective == "complete":
        return (clean * gradient).sum(1).topk(top_k).indices
    value, slope = path_value.clone(), path_gradient.clone()
    taken = torch.zeros_like(gradient[:, 0])
    best: list[Tensor] = []
    for _ in range(top_k):
        score = ((value[..., None] + clean) * (slope[..., None] + gradient)).sum(1) + taken
        unit = score.argmax(1)[:, None]
        best.append(unit)
        taken.scatter_(1, unit, -torch.inf)
        value += at_units(clean, unit)[..., 0]
        slope += at_units(gradient, unit)[..., 0]
    return torch.cat(best, 1)


def largest(gates: list[Tensor], top_k: int) -> Tensor:
    """The units (B, S, K) with the largest gates, a site (B, U)."""
    return torch.stack([gate.topk(top_k).indices for gate in gates], 1)
