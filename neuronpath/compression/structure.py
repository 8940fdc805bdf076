"""What a model's weights are made of and which of them are one, as plain data: to write it down, and to make a fresh model so."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import InputError, shown
from ..models.factored import PARTS, factored_in, pairs_in, parts_of, set_parts
from ..models.view import view
from .recursive.exits import attach, exits_of


def described(model: nn.Module) -> dict[str, Any]:
    """``parts``: [module, weight, number of parts] of every factored weight. ``same``: names of weights that are another's too.
    ``exits``, where there are any: behind which blocks, and whether they share the model's head."""
    names = {module: name for name, module in model.named_modules()}
    first: dict[int, str] = {}
    same = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if first.setdefault(id(value), name) != name:
            same[name] = first[id(value)]
    parts = [[names[module], name, len(parts_of(module, name))] for module, name in factored_in(model)]
    exits = exits_of(model)
    early = None if exits is None else {"at": exits.at, "shared": not exits.heads}
    return {"parts": parts, "same": same, **({"exits": early} if early else {})}


def weights_once(model: nn.Module, same: Mapping[str, str]) -> dict[str, Tensor]:
    """The model's weights without those that are another's too, on the CPU."""
    return {
        name: value.detach().cpu().contiguous().clone()
        for name, value in model.state_dict().items()
        if name not in same
    }


def restructure(
    model: nn.Module, about: Mapping[str, Any], weights: Mapping[str, Tensor], path: object
) -> dict[str, Tensor]:
    """Give a fresh model the parts and ties that were described, in place; the weights by all of their names."""
    same: Mapping[str, str] = about.get("same", {})
    if early := about.get("exits"):
        at = early["at"]
        if not all(type(block) is int for block in at) or not 0 < len(at) < len(view(model).blocks):
            raise InputError(f"{path} has exits at {shown(at)}; expected blocks")
        attach(model, at, bool(early["shared"]))
    everywhere = {**weights, **{name: weights[source] for name, source in same.items() if source in weights}}
    for where, name, count in about.get("parts", []):
        module: Any = model.get_submodule(where)
        held = [everywhere.get(f"{where}.{PARTS}.{name}.original{i}") for i in range(count)]
        shape = tuple(getattr(module, name).shape)
        if not _add_up(held, shape):
            raise InputError(f"{path} has other parts for {shown(where)} than its {shape} weights need")
        set_parts(module, name, [nn.Parameter(torch.empty_like(part)) for part in held if part is not None])
    for name, source in same.items():
        (other, own), (parent, leaf) = (_split(model, each) for each in (source, name))
        value = getattr(other, own)
        if isinstance(value, nn.Parameter) and getattr(parent, leaf).shape == value.shape:
            setattr(parent, leaf, value)
    return everywhere


def _add_up(parts: list[Tensor | None], shape: tuple[int, ...]) -> bool:
    """Whether these are a matrix, or none, and pairs of factors, whose sum has the shape."""
    if len(parts) < 2 or any(part is None or part.ndim != 2 or not part.is_floating_point() for part in parts):
        return False
    there = [part for part in parts if part is not None]
    return all(tuple(part.shape) == shape for part in there[: len(there) % 2]) and all(
        b.shape[1] == a.shape[0] and (b.shape[0], a.shape[1]) == shape for b, a in pairs_in(there)
    )


def _split(model: nn.Module, name: str) -> tuple[Any, str]:
    """The module that has a weight of this name, and what it is called there."""
    where, _, own = name.rpartition(".")
    return model.get_submodule(where), own
