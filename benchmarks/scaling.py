"""What of N times the speed N workers have: on paper from shard times, and with workers that sleep a shard's time.

python benchmarks/scaling.py                # 1, 8 and 64 workers, 2 s a shard: half a minute each
python benchmarks/scaling.py --run run/     # the times that the shards of a run by one worker took

Both are of the process that deals out shards and writes what comes back, which all workers share. What workers share of a machine,
its memory and its cores, is not in it; nor is their start, which takes seconds once.
"""

import heapq
import itertools
import random
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
from common import options, report
from torch import multiprocessing

from neuronpath.data.containers import Item
from neuronpath.jobs.engines import local
from neuronpath.jobs.work import Done, Shard, as_errors
from neuronpath.paths.columns import write_table

IMAGES, SITES = 512, 24  # of a shard, and of a model with 12 blocks


def shard_table() -> pa.Table:
    """A shard's rows, of random numbers: a path's columns."""
    draw = np.random.default_rng(0)
    floats = {name: pa.array(list(draw.random((IMAGES, SITES), np.float32))) for name in ("attribution", "activations")}
    units = pa.array(list(draw.integers(0, 3072, (IMAGES, SITES), np.int32)))
    figures = {str(i): draw.random(IMAGES, np.float32) for i in range(12)}
    return pa.table({"id": [f"n01440764/{i:08d}.JPEG" for i in range(IMAGES)], "units": units, **floats, **figures})


class Sleeper:
    """Work that takes its time and no processor."""

    def __init__(self, pauses: list[float]) -> None:
        self.pauses, self.rows = pauses, shard_table()

    def on(self, _device: str) -> "Sleeper":
        return self

    def run(self, shards: Iterable[Shard]) -> Iterator[Done]:
        for shard in shards:
            time.sleep(self.pauses[shard.number % len(self.pauses)])
            yield Done(shard.number, self.rows, as_errors([]))


def drawn(pause: float) -> list[float]:
    """What shards take: 20 % more or less, as images differ."""
    draw = random.Random(0)
    return [pause * draw.uniform(0.8, 1.2) for _ in range(997)]


def measured(folder: Path) -> list[float]:
    """What a run's shards took: the time from one file to the next."""
    ends = sorted(file.stat().st_mtime for file in (folder / "shards").glob("*.parquet"))
    return [after - before for before, after in itertools.pairwise(ends)]


def slept(workers: int, each: int, pauses: list[float], folder: Path) -> tuple[float, float]:
    """The share of N times one's speed, while all are at work; and the writer's seconds a shard."""
    shards = [Shard(number, [Item(str(number), "")]) for number in range(workers * each)]
    times, writing = [], 0.0
    for done in local._dealt(Sleeper(pauses), shards, ["cpu"] * workers):
        here = time.perf_counter()
        write_table(folder / f"{done.number}.parquet", done.rows)
        times.append(time.perf_counter())
        writing += times[-1] - here
    first, last = (
        2 * workers,
        len(times) - 1 - 2 * workers,
    )  # not the start, nor the end, when some have nothing left to do
    return (last - first) * statistics.mean(pauses) / workers / (times[last] - times[first]), writing / len(times)


def on_paper(workers: int, each: int, pauses: list[float], writing: float) -> float:
    """The share of N times one's speed from the start to the end, if nothing but the shards' times and the writing took any."""
    waiting = iter(range(workers * each))
    hands = [deque(itertools.islice(waiting, local.IN_HAND)) for _ in range(workers)]
    at_work = [(pauses[hand[0] % len(pauses)], worker) for worker, hand in enumerate(hands)]
    heapq.heapify(at_work)
    end = 0.0
    while at_work:
        now, worker = heapq.heappop(at_work)
        end = max(end, now) + writing  # one after the other
        hands[worker].popleft()
        hands[worker].extend(itertools.islice(waiting, 1))
        if hands[worker]:
            heapq.heappush(at_work, (now + pauses[hands[worker][0] % len(pauses)], worker))
    return each * statistics.mean(pauses) / end


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--pause", type=float, default=2.0, help="seconds a shard, a fifth more or less")
    parser.add_argument("--run", type=Path, help="a run's folder instead: the times that its shards took")
    parser.add_argument("--shards", type=int, default=16, help="of each worker")
    chosen = parser.parse_args()
    forked = multiprocessing.get_context("fork")  # started at once: sleepers need no torch of their own
    local.multiprocessing = SimpleNamespace(get_context=lambda _: forked)
    pauses = drawn(chosen.pause) if chosen.run is None else measured(chosen.run)
    rows = []
    for workers in chosen.workers:
        with tempfile.TemporaryDirectory() as folder:
            share, writing = slept(workers, chosen.shards, pauses, Path(folder))
            size = Path(folder, "0.parquet").stat().st_size / IMAGES
        paper = {f"on paper, {each} shards each": on_paper(workers, each, pauses, writing) for each in (16, 200)}
        rows.append(
            {
                "workers": workers,
                "slept, while all work": share,
                **paper,
                "writing a shard, ms": 1000 * writing,
                "bytes a row": size,
            }
        )
    report(f"Share of N times one worker's speed, {statistics.mean(pauses):.3g} s a shard", rows, chosen.out)


if __name__ == "__main__":
    main()
