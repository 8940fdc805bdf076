"""Smaller models of a wanted size, by any way or several one after the other, so that ways can be compared at equal size."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..checks import InputError, check_one_of
from ..models.factored import parts_of
from ..models.hooks import alone, inputs_seen
from ..models.outputs import run_model
from ..models.view import inner_of, view
from ..options import Equal, Layout, Units
from .cost import multiply_adds
from .importance import importance
from .low_rank import groups_of, low_rank
from .matrices import table_of
from .prune import prune
from .recursive.recursive import recursive

WAYS = ("low-rank", "recursive", "prune", "first-blocks", "every-other")
HALVINGS = 7  # in which the share of units to keep is found
LEAST = 1e-3  # of them


class Sizes:
    """What is to be as small as wanted: ``equal``, a model's parameters, each once, or the multiply-adds of an image (C, H, W)."""

    def __init__(self, image: Tensor, equal: Equal) -> None:
        self.image, self.equal = image, equal

    def of(self, model: nn.Module) -> int:
        if self.equal == "parameters":
            return sum(p.numel() for p in model.parameters())
        return multiply_adds(model, self.image[None])

    def a_weight(self, model: nn.Module) -> int:
        """What one weight of a block's linear layers counts: one parameter, or a multiply-add a token."""
        if self.equal == "parameters":
            return 1
        seen: list[int] = []
        vit = view(model)
        with torch.no_grad(), inputs_seen(vit.blocks[0], lambda args, _: seen.append(args[0].shape[-2])):
            run_model(vit.model, self.image[None].to(next(model.parameters())))
        return seen[0]


def ways_of(text: str, equal: Equal) -> list[str]:
    """The ways that a text such as "recursive+low-rank" names, in their order."""
    ways = text.split("+")
    for way in ways:
        check_one_of("method", way, WAYS)
    if equal != "parameters" and "recursive" in ways:
        raise InputError(
            f"method {text!r}: loops save no multiply-adds; expected equal='parameters', or another method"
        )
    return ways


def sized(
    model: nn.Module,
    way: str,
    share: float,
    images: Tensor,
    equal: Equal = "parameters",
    unique: int | None = None,
    layout: Layout = "cycle",
) -> nn.Module:
    """A copy of the model with about this share of its parameters or multiply-adds.

    Of several ways ("recursive+low-rank") each takes as large a share as the next.

    Args:
        way: some of ``WAYS``, with + between.
        images: (B, C, H, W), to calibrate with.
        unique: of "recursive"; None is the most shared blocks that leave as much again for what is each block's own.
    """
    ways = ways_of(way, equal)
    size = Sizes(images[0], equal)
    whole = size.of(model)
    small = model
    for turn, each in enumerate(ways, 1):
        budget = whole * share ** (turn / len(ways))
        if each == "low-rank":
            small = _thin(small, budget, images, size)
        elif each == "recursive":
            small = _looped(small, budget, images, unique, layout)
        elif each == "prune":
            small = _narrow(small, budget, images, size)
        else:
            small = _shallow(small, budget, size, first=each == "first-blocks")
    return small


def _thin(model: nn.Module, budget: float, images: Tensor, size: Sizes) -> nn.Module:
    table = table_of(view(model))
    shared = [table[i][j] for ((i, j), *_) in groups_of(table)]
    parts = [parts_of(m.module, m.name) for m in shared]
    held = sum(part.numel() for each in parts for part in each[: 2 - len(each) % 2])  # a matrix, or a product
    dense = sum(m.weight.numel() for m in shared)
    unit = size.a_weight(model)
    keep = (budget - (size.of(model) - unit * held)) / (unit * dense)
    return low_rank(model, keep=min(1.0, max(keep, 1e-6)), images=images)


def _looped(model: nn.Module, budget: float, images: Tensor, unique: int | None, layout: Layout) -> nn.Module:
    table = table_of(view(model))
    n = len(table)
    matrices = [m for row in table for m in row]
    held = sum(part.numel() for m in matrices for part in parts_of(m.module, m.name))
    left = budget - (sum(p.numel() for p in model.parameters()) - held)
    if unique is None:
        unique = max((k for k in range(1, n) if n % k == 0 and held * k / n <= left / 2), default=1)
    a_rank = sum(sum(m.weight.shape) for m in matrices)
    rank = int(max(0, left - held * unique / n) / a_rank)
    rank = min(rank, *(min(m.weight.shape) for m in matrices))
    return recursive(model, unique, layout=layout, init="fitted" if rank else "lower", rank=rank, images=images)


def _narrow(model: nn.Module, budget: float, images: Tensor, size: Sizes) -> nn.Module:
    """The largest that isn't above the budget, fewer neurons, and fewer heads too where those don't do; the smallest where all are."""
    units: Units = "neurons"
    values = importance(model, images, units=units)
    if size.of(prune(model, values, LEAST)) > budget:
        units = "both"
        values = importance(model, images, units=units)
    low, high = LEAST, 1.0
    for _ in range(HALVINGS):
        keep = (low + high) / 2
        if size.of(prune(model, values, keep, units=units)) > budget:
            high = keep
        else:
            low = keep
    return prune(model, values, low, units=units, compensate=True, images=images)


def _shallow(model: nn.Module, budget: float, size: Sizes, first: bool) -> nn.Module:
    """The first blocks alone, or some at equal distances, as many as come nearest to the budget."""
    n, whole = len(view(model).blocks), size.of(model)
    a_block = (whole - size.of(with_blocks(model, [0]))) / max(1, n - 1)
    count = min(n, max(1, round((budget - whole) / a_block) + n)) if a_block else n
    return with_blocks(model, range(count) if first else [i * n // count for i in range(count)])


def with_blocks(model: nn.Module, chosen: Sequence[int]) -> nn.Module:
    """A copy of the model with these of its blocks only, in their order."""
    with alone(model):
        copied = copy.deepcopy(model)
    blocks = list(view(inner_of(copied)).blocks)
    for parent in copied.modules():
        if isinstance(parent, nn.Sequential | nn.ModuleList) and list(parent) == blocks:
            parent._modules = {str(i): blocks[block] for i, block in enumerate(chosen)}
            return copied
    raise InputError(f"the blocks of {type(model).__name__} stand in no list; expected another method")
