"""A cluster, or this machine, by Ray Data: actors that load the model once, and shards that find their way to them."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray
import torch

from ...checks import InputError
from ..work import Done, Shard
from .registry import Resources, Workload, register_engine

SHARE = 0.5  # of a CPU that a task of Ray Data's own may want beside the actors: with none left, readers and actors wait for each other


@register_engine("ray")
def on_ray(work: Workload, shards: Sequence[Shard], resources: Resources) -> Iterator[Done]:
    """The cluster that ``RAY_ADDRESS`` names or that this machine belongs to, else a local one; an actor a GPU, or a CPU.

    Shards are read, decoded and run in the actors, so that a damaged image is a row there and no fault of a task's. Dead workers and
    what they had in hand are Ray's affair.
    """
    began = _joined()
    try:
        there = ray.cluster_resources()
        cpus, cards = there.get("CPU", 0.0), int(there.get("GPU", 0))
        gpus = cards if resources.gpus is None else resources.gpus
        if gpus > cards:
            raise InputError(f"gpus is {gpus}; the cluster has {cards}")
        actors = min(gpus or resources.workers or max(1, int(cpus) - 1), len(shards))
        share = min(1.0, (cpus - SHARE) / actors)
        if share <= 0:
            raise InputError(f"the cluster has {cpus:g} CPUs; expected more than {SHARE}, for Ray's own work")
        yield from _streamed(work, shards, actors, bool(gpus), share)
    except ray.exceptions.RayError as error:
        last = [line for line in str(error).splitlines() if line.strip()][-1:] or [type(error).__name__]
        raise InputError(f"Ray stopped ({last[0].strip()}); the same command goes on where this one stopped") from None
    finally:
        if began:
            ray.shutdown()


def _streamed(work: Workload, shards: Sequence[Shard], actors: int, on_gpu: bool, share: float) -> Iterator[Done]:
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [{"number": shard.number, "at": at} for at, shard in enumerate(shards)]
    everything = ray.put((work, shards))
    found = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Worker,
        fn_constructor_args=([everything], "cuda:0" if on_gpu else "cpu", max(1, int(share))),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=share,
        num_gpus=1 if on_gpu else 0,
        compute=ray.data.ActorPoolStrategy(size=actors),
    )
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # here, for making a Dataset sets it anew
    for batch in found.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
        for row in batch.to_pylist():
            yield Done(row["number"], _table(row["rows"]), _table(row["errors"]))


class Worker:
    """An actor: the model is loaded once, then shard by shard."""

    def __init__(self, everything: list[Any], device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        work, self.shards = ray.get(everything[0])
        self.work = work.on(device)

    def __call__(self, batch: pa.Table) -> pa.Table:
        shards = (self.shards[at] for at in batch["at"].to_pylist())
        done = list(self.work.run(shards))
        columns = {
            "number": pa.array([one.number for one in done], pa.int64()),
            "rows": pa.array([_bytes(one.rows) for one in done], pa.large_binary()),
            "errors": pa.array([_bytes(one.errors) for one in done], pa.large_binary()),
        }
        return pa.table(columns)


def _joined() -> bool:
    """Whether Ray was started here, rather than joined."""
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        ray.init(include_dashboard=False, **quiet)
    return True


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def _table(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
