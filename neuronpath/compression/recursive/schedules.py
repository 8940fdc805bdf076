"""In which order images at different depths run: the same for images that really run and for those on paper."""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from .live import Batch, join


class Work(Protocol):
    """What a schedule arranges."""

    def take(self, count: int) -> Batch:
        """As many as ``count`` new images; none at the end."""

    def run(self, batch: Batch) -> tuple[Batch, Tensor]:
        """Every image to its next exit, and which of them leave there (R,)."""


def sync(work: Work, slots: int) -> Iterator[Batch]:
    """A batch runs until its last image leaves; those that left earlier run along."""
    while len(batch := work.take(slots)):
        gone = torch.zeros(len(batch), dtype=torch.bool)
        while not gone.all():
            batch, sure = work.run(batch)
            yield batch[sure & ~gone]
            gone |= sure


def compact(work: Work, slots: int) -> Iterator[Batch]:
    """A batch shrinks as images leave; the next begins when it is empty."""
    while len(batch := work.take(slots)):
        while len(batch):
            batch, sure = work.run(batch)
            yield batch[sure]
            batch = batch[~sure]


def mixed(work: Work, slots: int) -> Iterator[Batch]:
    """One batch of all depths; new images take the places of those that leave at once."""
    batch = work.take(slots)
    while len(batch):
        batch, sure = work.run(batch)
        yield batch[sure]
        stays = batch[~sure]
        batch = join([stays, work.take(slots - len(stays))])


def queues(work: Work, slots: int) -> Iterator[Batch]:
    """A queue before every depth; the deepest runs that fills a batch, at the stream's end the least deep that isn't empty."""
    waiting: dict[int, Batch] = {}
    ended = False
    while True:
        full = [step for step, queue in waiting.items() if len(queue) >= slots]
        if full:
            step = max(full)
        elif not ended:
            batch = work.take(slots)
            ended = len(batch) < slots
            if not len(batch):
                continue
            step, waiting[0] = 0, batch
        elif waiting:
            step = min(waiting)
        else:
            return
        queue = waiting.pop(step)
        if len(queue) > slots:
            waiting[step] = queue[slice(slots, None)]
        batch, sure = work.run(queue[slice(0, slots)])
        yield batch[sure]
        if not sure.all():
            stays = batch[~sure]
            waiting[step + 1] = join([waiting[step + 1], stays]) if step + 1 in waiting else stays


SCHEDULES: dict[str, Callable[[Work, int], Iterator[Batch]]] = {
    "queues": queues,
    "mixed": mixed,
    "compact": compact,
    "sync": sync,
}
