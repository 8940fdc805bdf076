"""Images on their way through a model with exits: some rows at a time, each from where it is to its next exit."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ...checks import InputTypeError, check_count, check_number, check_one_of
from ...models.view import view
from ...models.vit import ViT
from ...options import ExitRule
from .exits import Exits, exits_of
from .mixing import Shared
from .steps import Steps, scores


@dataclass(frozen=True)
class Rule:
    """When an image leaves: see :func:`predict`."""

    confidence: float
    by: ExitRule = "confidence"
    patience: int = 2

    def __post_init__(self) -> None:
        check_one_of("by", self.by, get_args(ExitRule))
        check_number("confidence", self.confidence, 0, 1)
        check_count("patience", self.patience)

    def sure(self, logits: Tensor, streak: Tensor) -> Tensor:
        """Which images leave (R,), on the CPU."""
        return streak >= self.patience if self.by == "patience" else scores(logits, self.by).cpu() >= self.confidence


@dataclass
class Batch:
    """R images on their way; one that entered earlier stands before one that entered later."""

    numbers: Tensor
    """(R,), int64: which images of the stream."""
    steps: Tensor
    """(R,), int64: how many exits are behind them."""
    since: Tensor
    """(R,), float64: when they entered."""
    x: Tensor | None = None
    """(R, N, D): the residual stream; None on paper."""
    logits: Tensor | None = None
    """(R, classes): what the last exit said."""
    said: Tensor | None = None
    """(R,), int64: its classes."""
    streak: Tensor | None = None
    """(R,), int64: how many exits in a row have said so."""

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: Tensor | slice) -> "Batch":
        if isinstance(rows, Tensor) and rows.dtype == torch.bool and bool(rows.all()):
            return self
        values: list[Any] = [getattr(self, field.name) for field in fields(self)]
        chosen: list[Any] = [None if value is None else value[_on(rows, value)] for value in values]
        return Batch(*chosen)


def _on(rows: Tensor | slice, value: Tensor) -> Tensor | slice:
    return rows.to(value.device) if isinstance(rows, Tensor) else rows


def join(batches: list[Batch]) -> Batch:
    """Several batches as one, in this order; what isn't known of all is known of none."""
    there = [batch for batch in batches if len(batch)] or batches[:1]
    if len(there) == 1:
        return there[0]
    columns = zip(*([getattr(batch, field.name) for field in fields(batch)] for batch in there), strict=True)
    return Batch(*(None if any(each is None for each in column) else torch.cat(column) for column in columns))  # type: ignore[arg-type]


class Live:
    """Takes images (C, H, W) from a stream and runs them from exit to exit.

    A stream that raises is at its end; what it raised is kept in ``failure``, so that the images on their way come through first.
    """

    def __init__(
        self,
        steps: Steps,
        exits: Exits,
        rule: Rule,
        images: Iterator[Tensor],
        shared: Shared | None = None,
        first: int = 0,
    ) -> None:
        self.steps, self.exits, self.rule, self.images, self.shared = steps, exits, rule, images, shared
        self.stops = stops_of(steps.vit, exits)
        self.next = first
        self.failure: Exception | None = None

    def take(self, count: int) -> Batch:
        """As many as ``count`` new images, before block 0; none when the stream is at its end."""
        taken: list[Tensor] = []
        if self.failure is None:
            try:
                taken.extend(itertools.islice(self.images, count))
            except Exception as error:
                self.failure = error
        numbers = torch.arange(self.next, self.next + len(taken))
        self.next += len(taken)
        x = None
        if taken:
            with self.steps.running():
                x = self.steps.enter(torch.stack(taken))
        zeros = torch.zeros_like(numbers)
        since = torch.full((len(taken),), time.perf_counter(), dtype=torch.float64)
        return Batch(numbers, zeros, since, x, None, zeros - 1, zeros)

    def run(self, batch: Batch) -> tuple[Batch, Tensor]:
        """Every image to its next exit, and which of them leave there (R,)."""
        x, said, streak = batch.x, batch.said, batch.streak
        assert x is not None
        assert said is not None
        assert streak is not None
        groups = groups_of(batch.steps)
        with self.steps.running():
            if self.shared is not None:
                x = self.shared.run(x, groups)
            else:
                x = torch.cat([self.steps.run(x[rows], *self._range(step)) for step, rows in groups])
            logits = torch.cat([self._logits(step, x[rows]) for step, rows in groups])
        classes = logits.argmax(-1).cpu()
        streak = torch.where(classes == said, streak + 1, 1)
        on = Batch(batch.numbers, batch.steps + 1, batch.since, x, logits, classes, streak)
        return on, self.rule.sure(logits, streak) | (on.steps == len(self.stops))

    def _range(self, step: int) -> tuple[int, int]:
        return (self.stops[step - 1] if step else 0), self.stops[step]

    def _logits(self, step: int, x: Tensor) -> Tensor:
        vit = self.steps.vit
        return vit.readout(x) if step == len(self.stops) - 1 else self.exits.logits(vit, step, x)


def stops_of(vit: ViT, exits: Exits) -> list[int]:
    """How many blocks are behind an image at every exit, the last block's own answer among them."""
    return [*(block + 1 for block in exits.at), len(vit.blocks)]


def groups_of(steps: Tensor) -> list[tuple[int, slice]]:
    """Rows that stand together at the same depth: [(step, rows)]."""
    values, counts = steps.unique_consecutive(return_counts=True)
    ends = counts.cumsum(0).tolist()
    return [(step, slice(end - n, end)) for step, n, end in zip(values.tolist(), counts.tolist(), ends, strict=True)]


def with_its_exits(model: nn.Module | ViT, rested: bool = False) -> tuple[Steps, Exits]:
    """A model taken apart, and its exits; refuses one that has none."""
    vit = view(model)
    exits = exits_of(vit.model)
    if exits is None:
        raise InputTypeError(f"{type(vit.model).__name__} has no exits; expected what with_exits gave")
    return Steps(vit, rested), exits
