"""Weights made of parts: a matrix that several layers share, a low-rank product that is the layer's own, or both.

``torch.nn.utils.parametrize`` holds the parts as ordinary parameters and makes ``layer.weight`` of them whenever it is read, so that
hooks, views and layers that hand their weights to a function (BEiT's, EVA's, torchvision's attention) work as they are. Several
layers may hold one and the same Parameter: that is how weights are tied.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

PARTS = "parametrizations"  # the child that torch gives a module whose weight is made of others


class Sum(nn.Module):
    """Parts to a weight: [W, b, a, ...] to W + b a + ..., and [b, a, ...] to b a + ...; W is (out, in), b (out, r), a (r, in)."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        super().__init__()
        self._first = tuple(parts)
        self.register_buffer("merged", None, persistent=False)
        self.register_load_state_dict_post_hook(_forget)

    def forward(self, *parts: Tensor) -> Tensor:
        if isinstance(self.merged, Tensor) and not self.training:
            return self.merged
        return total(parts)

    def right_inverse(self, _weight: Tensor) -> tuple[Tensor, ...]:
        first, self._first = self._first, ()
        return first


def _forget(module: Any, _keys: object) -> None:
    """Other parts were loaded: what was merged of the earlier ones is no longer their sum."""
    module.merged = None


class Thin(nn.Linear):
    """A linear layer whose weight is made of parts; of products alone it multiplies by one factor after the other."""

    def forward(self, input: Tensor) -> Tensor:
        parts = parts_of(self)
        if len(parts) % 2:
            return F.linear(input, self.weight, self.bias)
        sums = [F.linear(F.linear(input, a), b) for b, a in pairs_in(parts)]
        first = sums[0] if self.bias is None else sums[0] + self.bias
        return sum(sums[1:], first)


def pairs_in(parts: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The factors (b, a) among the parts."""
    start = len(parts) % 2
    return list(zip(parts[start::2], parts[start + 1 :: 2], strict=True))


def total(parts: Sequence[Tensor]) -> Tensor:
    """The weight that the parts add up to."""
    products = [b @ a for b, a in pairs_in(parts)]
    return sum(products, parts[0]) if len(parts) % 2 else sum(products[1:], products[0])


def is_factored(module: nn.Module, name: str = "weight") -> bool:
    """Whether the module's weight of this name is made of parts."""
    return parametrize.is_parametrized(module, name) and isinstance(_sum_of(module, name), Sum)


def _sum_of(module: Any, name: str) -> Any:
    return module.parametrizations[name][0]


def parts_of(module: Any, name: str = "weight") -> list[nn.Parameter]:
    """The parameters that the module's weight is made of; an ordinary weight is the only one."""
    if not is_factored(module, name):
        return [getattr(module, name)]
    held = module.parametrizations[name]
    return [getattr(held, f"original{i}") for i in range(held.ntensors)]


def set_parts(module: Any, name: str, parts: Sequence[nn.Parameter]) -> None:
    """Make the module's weight of these very parameters, which other modules may hold too; in place.

    Of one part it becomes an ordinary weight. torch's ``remove_parametrizations`` is of no use here: it changes the module's class,
    which copies of the module have too.
    """
    if is_factored(module, name) and len(parts) == 1:
        module.__class__ = type(module).__base__
        del module._modules[PARTS]
        module.__class__ = nn.Linear if type(module) is Thin else type(module)
    if len(parts) == 1:
        setattr(module, name, parts[0])
    elif is_factored(module, name):
        module.parametrizations[name] = parametrize.ParametrizationList([Sum(parts)], parts[0], unsafe=True)
    else:
        setattr(module, name, parts[0])
        if type(module) is nn.Linear:
            module.__class__ = Thin
        parametrize.register_parametrization(module, name, Sum(parts), unsafe=True)
    if len(parts) > 1:
        for i, part in enumerate(parts):
            setattr(module.parametrizations[name], f"original{i}", part)
        module.parametrizations.train(module.training)
    if isinstance(module, nn.Linear):
        module.out_features = parts[0].shape[0]
        module.in_features = parts[0 if len(parts) % 2 else 1].shape[1]


def factored_in(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Every module within the model that has a weight made of parts, with the weight's name."""
    held = [m for m in model.modules() if parametrize.is_parametrized(m)]
    return [(m, name) for m in held for name in m.parametrizations if is_factored(m, name)]  # type: ignore[union-attr]


def merge(model: nn.Module) -> None:
    """Have every weight that isn't cheaper in parts made once, for speed, until :func:`unmerge`; in eval mode only."""
    for module, name in factored_in(model):
        parts = parts_of(module, name)
        if len(parts) % 2 or not isinstance(module, Thin):
            _sum_of(module, name).merged = total([part.detach() for part in parts])


def unmerge(model: nn.Module) -> None:
    """Have every weight made of its parts again."""
    for module, name in factored_in(model):
        _sum_of(module, name).merged = None
