"""The methods by name, and what each of them is given."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..errors import InputError
from ..influence import Quadrature
from ..runs import CleanRun


@dataclass(frozen=True)
class Search:
    """What a method is asked for."""

    quadrature: Quadrature
    top_k: int  # neurons a block
    at_once: int  # rows to run at once
    anchor: bool = True  # hold the block in search at its clean values, where the published algorithm scales all of it


Locator = Callable[[CleanRun, Search], Tensor]  # -> neurons (B, L, K)
_METHODS: dict[str, Locator] = {}


def register_method(name: str) -> Callable[[Locator], Locator]:
    """Decorate a function that locates paths, to be found under this name."""

    def register(locate: Locator) -> Locator:
        _METHODS[name] = locate
        return locate

    return register


def list_methods() -> list[str]:
    """The names that ``find_path(method=...)`` takes."""
    return sorted(_METHODS)


def method_named(name: str) -> Locator:
    if name not in _METHODS:
        raise InputError(f"method {name!r} is unknown; expected one of {', '.join(list_methods())}")
    return _METHODS[name]
