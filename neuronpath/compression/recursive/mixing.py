"""Blocks that share weights, run on images at different depths as one batch: the shared weight once, each depth's own beside it."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import InputTypeError
from ...models.around import answered
from ...models.factored import PARTS, Thin, pairs_in, parts_of
from ...options import Mixing
from .steps import Steps

HOW: tuple[Mixing, ...] = ("gather", "group")
CYCLE = "expected recursive(layout='cycle') with exits behind its loops, or mix='own'"


class Shared:
    """The blocks between two exits, for all depths at once.

    A linear layer multiplies all rows by the weight that its passes share and adds what is each pass's own: products gathered for
    every row ("gather"), or for the rows of each depth ("group"). Any other module with weights of its own runs depth by depth.
    """

    def __init__(self, steps: Steps, stops: Sequence[int], how: str) -> None:
        self.steps, self.how, self.stops = steps, how, list(stops)
        vit, passes = steps.vit, [block for _, block in steps.vit.passes]
        starts = [0, *stops[:-1]]
        loops = [passes[start:stop] for start, stop in zip(starts, stops, strict=True)]
        if not passes or any(loop != loops[0] for loop in loops):
            raise InputTypeError(
                f"the blocks before one exit aren't other passes through those before the next; {CYCLE}"
            )
        self.groups: list[tuple[int, slice]] = []
        self.rows = torch.zeros(0, dtype=torch.long)
        self.replaced: list[tuple[nn.Module, Any]] = []
        for j in range(stops[0]):
            self._replace([vit.blocks[start + j] for start in starts])
        self.seen = False

    def run(self, x: Tensor, groups: list[tuple[int, slice]]) -> Tensor:
        """Rows (R, N, D), each group at its depth, to the next exit."""
        if not self.seen:
            self._check(x)
        self.groups = groups
        depths = [step for step, rows in groups for _ in range(rows.stop - rows.start)]
        self.rows = torch.tensor(depths, device=x.device)
        with ExitStack() as stack:
            for module, forward in self.replaced:
                stack.enter_context(answered([module], forward))
            return self.steps.run(x, 0, self.stops[0])

    def _replace(self, same: Sequence[nn.Module]) -> None:
        """Note what takes the place of the first of these modules, which are one and the same of every depth."""
        first = same[0]
        if type(first).forward in (nn.Linear.forward, Thin.forward):
            self.replaced.append((first, partial(self._linear, _Passes(same))))
        elif PARTS in first._modules or any(True for _ in first.parameters(recurse=False)):
            self.replaced.append((first, partial(self._each, same)))
        else:
            for name in first._modules:
                self._replace([module.get_submodule(name) for module in same])

    def _linear(self, passes: "_Passes", x: Tensor) -> Tensor:
        wide = x.reshape(len(x), -1, x.shape[-1])
        y = passes.together(wide)
        if self.how == "gather":
            for b, a in passes.stacked:
                y += (wide @ a[self.rows].mT) @ b[self.rows].mT
        for step, rows in self.groups:
            for b, a in passes.own[step] if self.how == "group" else ():
                y[rows] += F.linear(F.linear(wide[rows], a), b)
            if passes.biases[step] is not None:
                y[rows] += passes.biases[step]
        return y.reshape(*x.shape[:-1], -1)

    def _each(self, same: Sequence[nn.Module], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return torch.cat([type(same[step]).forward(same[step], x[rows], *args, **kwargs) for step, rows in self.groups])

    def _check(self, x: Tensor) -> None:
        """Refuse blocks of which this makes something else than they do: they read a layer's weights, not its answer."""
        self.seen = True
        x = x[torch.arange(len(self.stops)) % len(x)]
        each = zip([0, *self.stops], self.stops, strict=False)
        expected = torch.cat([self.steps.run(x[i : i + 1], *range_) for i, range_ in enumerate(each)])
        found = self.run(x, [(step, slice(step, step + 1)) for step in range(len(x))])
        if (found - expected).norm() > 0.03 * (expected - x).norm():
            self.seen = False
            raise InputTypeError(
                f"the blocks of {type(self.steps.vit.model).__name__} can't run at several depths in one batch; expected mix='own'"
            )


class _Passes:
    """A linear layer of every depth: what is shared, and what is each one's own."""

    def __init__(self, layers: Sequence[Any]) -> None:
        parts = [parts_of(layer) for layer in layers]
        n = 0
        while n < min(map(len, parts)) and all(each[n] is parts[0][n] for each in parts):
            n += 1
        self.shared, self.biases = parts[0][:n], [layer.bias for layer in layers]
        self.own = [pairs_in(each[n:]) for each in parts]
        shapes = {tuple(tuple(part.shape) for part in each) for each in parts}
        if not n or n % 2 != len(parts[0]) % 2 or len(shapes) > 1:
            raise InputTypeError(f"the passes through a layer share no weight; {CYCLE}")
        self.stacked = [tuple(map(torch.stack, zip(*pair, strict=True))) for pair in zip(*self.own, strict=True)]

    def together(self, x: Tensor) -> Tensor:
        """All rows by what is shared."""
        if len(self.shared) % 2:
            return F.linear(x, self.shared[0])
        (b, a), *_ = pairs_in(self.shared)
        return F.linear(F.linear(x, a), b)
