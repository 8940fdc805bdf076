"""What a schedule would do, on paper: the very schedules that serve, with measured times in place of work."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...checks import InputError, check_count, checked, shown
from ...options import Schedule
from .live import Batch, groups_of
from .schedules import SCHEDULES


@dataclass(frozen=True)
class BlockTimes:
    """Seconds that a model with exits takes, by how many images run at once; :meth:`Server.block_times` measures them.

    Between the numbers of images that were measured seconds are interpolated, beyond them they grow in proportion.
    """

    batches: Sequence[int]
    """Numbers of images, ascending."""
    stops: Sequence[int]
    """The blocks behind an image at every exit, the last block's answer among them."""
    enter: Sequence[float]
    """From pixels to block 0, for each of ``batches``."""
    steps: Sequence[Sequence[float]]
    """From one exit to the next, exit included: a row for each of ``stops``."""
    mixed: Sequence[float] | None = None
    """The same for images of all depths in one batch; None where each depth runs by itself, one after the other."""

    def __post_init__(self) -> None:
        rows = [self.enter, *self.steps, *([] if self.mixed is None else [self.mixed])]
        n = len(self.batches)
        if not n or any(len(row) != n for row in rows) or len(self.steps) != len(self.stops):
            raise InputError(
                f"block_times has {n} numbers of images, rows of {sorted({len(row) for row in rows})} seconds, {len(self.steps)} of "
                f"them for {len(self.stops)} stops; expected as many seconds as numbers, and a row a stop"
            )

    def of(self, row: Sequence[float], count: int) -> float:
        """The seconds of so many images by one of the rows."""
        if count > self.batches[-1]:
            return row[-1] * count / self.batches[-1]
        return float(np.interp(count, self.batches, row)) if count else 0.0


@dataclass(frozen=True)
class Simulation:
    """What a schedule would do with a stream of images that is always ready."""

    seconds: float
    """Until the last image is answered."""
    rate: float
    """Images a second."""
    latency: float
    """The mean seconds from when an image is taken off the stream until its answer."""


class Paper:
    """Takes and runs images of which only the exit is known, and adds up the seconds."""

    def __init__(self, exit_steps: Tensor, times: BlockTimes) -> None:
        self.exit_steps, self.times = exit_steps, times
        self.clock, self.next = 0.0, 0

    def take(self, count: int) -> Batch:
        numbers = torch.arange(self.next, min(self.next + count, len(self.exit_steps)))
        self.next += len(numbers)
        since = torch.full((len(numbers),), self.clock, dtype=torch.float64)
        self.clock += self.times.of(self.times.enter, len(numbers))
        return Batch(numbers, torch.zeros_like(numbers), since)

    def run(self, batch: Batch) -> tuple[Batch, Tensor]:
        times, groups = self.times, groups_of(batch.steps)
        if times.mixed is not None and len(groups) > 1:
            self.clock += times.of(times.mixed, len(batch))
        else:
            self.clock += sum(times.of(times.steps[step], rows.stop - rows.start) for step, rows in groups)
        on = Batch(batch.numbers, batch.steps + 1, batch.since)
        return on, on.steps >= self.exit_steps[batch.numbers]


@checked
def simulate(
    exit_depths: Sequence[int] | Tensor, block_times: BlockTimes, schedule: Schedule = "queues", slots: int = 32
) -> Simulation:
    """How fast :class:`Server` would be, without running a model.

    Args:
        exit_depths: (B,), the blocks that each image goes through, in the stream's order: :attr:`Prediction.depth`.
        block_times: what a batch takes; :meth:`Server.block_times` measures it.
        schedule: as for :class:`Server`, but for "auto".
        slots: images run at a time.

    Raises:
        InputError: for a depth at which ``block_times`` has no exit.
    """
    check_count("slots", slots)
    depths = exit_depths.flatten().tolist() if isinstance(exit_depths, Tensor) else list(exit_depths)
    if not depths:
        raise InputError("exit_depths is empty; expected the depth of at least one image")
    for depth in depths:
        if depth not in block_times.stops:
            raise InputError(
                f"exit_depths has {shown(depth)}; expected some of {', '.join(map(str, block_times.stops))}"
            )
    paper = Paper(torch.tensor([list(block_times.stops).index(depth) + 1 for depth in depths]), block_times)
    waited = 0.0
    for left in SCHEDULES[schedule](paper, slots):
        waited += (paper.clock - left.since).sum().item()
    return Simulation(paper.clock, len(depths) / paper.clock, waited / len(depths))
