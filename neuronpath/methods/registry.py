"""The methods by name, what each of them is given, and what it gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import InputError
from ..runs.clean import CleanRun
from ..runs.influence import Quadrature, at_neurons

OBJECTIVES = ("joint", "complete")
EFFORTS = ("standard", "thorough")


@dataclass(frozen=True)
class Search:
    """What a method is asked for."""

    quadrature: Quadrature = Quadrature()  # noqa: RUF009  (frozen)
    top_k: int = 1  # neurons a block
    objective: str = "joint"  # maximise the joint attribution score, or the "complete" attribution
    effort: str = "standard"
    seed: int = 0  # of methods that draw


@dataclass(frozen=True, eq=False)
class Found:
    """What a method has located, for B images."""

    neurons: Tensor  # (B, L, K)
    sweeps: Tensor | None = None  # (B,): how often the whole path was computed anew; None for methods that don't refine
    converged: Tensor | None = None  # (B,): whether the search ended because nothing raised the objective any more
    gradients: Tensor | None = None  # (B, L, T, K): G on the path, where it is known
    n_steps: int = 0  # the nodes that it is known with


Locator = Callable[[CleanRun, Search], Found]


@dataclass(frozen=True)
class Method:
    """A locator and what it needs."""

    locate: Locator
    quadrature: str  # its default rule
    live: bool = False  # whether it needs F's gradients in the ordinary run


_METHODS: dict[str, Method] = {}


def register_method(name: str, quadrature: str = "gausslegendre", live: bool = False) -> Callable[[Locator], Locator]:
    """Decorate a function that locates paths, to be found under this name."""

    def register(locate: Locator) -> Locator:
        _METHODS[name] = Method(locate, quadrature, live)
        return locate

    return register


def list_methods() -> list[str]:
    """The names that ``find_path(method=...)`` takes."""
    return sorted(_METHODS)


def method_named(name: str) -> Method:
    if not isinstance(name, str) or name not in _METHODS:
        raise InputError(f"method {name!r} is unknown; expected one of {', '.join(list_methods())}")
    return _METHODS[name]


def check_top_k(top_k: int, widths: Sequence[int]) -> None:
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= min(widths):
        raise InputError(f"top_k is {top_k!r}; expected a whole number from 1 to {min(widths)}, the neurons of a block")


def worth(clean: Tensor, gradient: Tensor, objective: str) -> Tensor:
    """The objective (B,) of a path with values and mean gradients (B, L, T, K).

    "joint" is the joint attribution score, a product of sums; "complete" the complete attribution, a sum of products.
    """
    if objective == "complete":
        return (clean * gradient).sum((1, 2, 3))
    return (clean.sum((1, 3)) * gradient.sum((1, 3))).sum(1)


def best_neurons(
    clean: Tensor, gradient: Tensor, path_value: Tensor, path_gradient: Tensor, top_k: int, objective: str = "joint"
) -> Tensor:
    """The neurons (B, K) of a block that join a path best.

    Args:
        clean, gradient: (B, T, M) of the block's neurons.
        path_value, path_gradient: (B, T), summed over the path in the other blocks.

    For several neurons a block they are taken one after the other, each counting from then on.
    """
    if objective == "complete":
        return (clean * gradient).sum(1).topk(top_k).indices
    value, slope = path_value.clone(), path_gradient.clone()
    taken = torch.zeros_like(gradient[:, 0])
    best: list[Tensor] = []
    for _ in range(top_k):
        score = ((value[..., None] + clean) * (slope[..., None] + gradient)).sum(1) + taken
        neuron = score.argmax(1)[:, None]
        best.append(neuron)
        taken.scatter_(1, neuron, -torch.inf)
        value += at_neurons(clean, neuron)[..., 0]
        slope += at_neurons(gradient, neuron)[..., 0]
    return torch.cat(best, 1)
