"""This machine: one process that holds the model, or one a GPU."""

import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from torch import multiprocessing

from ...checks import InputError
from ..work import Done, Shard
from .registry import Resources, Workload, register_engine

IN_HAND = 2  # shards that a worker has: one that the model is at, and one whose images are decoded meanwhile


@register_engine("local")
def local(work: Workload, shards: Sequence[Shard], resources: Resources) -> Iterator[Done]:
    """One process where there is one GPU or none, else one a GPU; a worker that dies leaves its shards to the others."""
    there = torch.cuda.device_count()
    gpus = there if resources.gpus is None else resources.gpus
    if gpus > there:
        raise InputError(f"gpus is {gpus}; this machine has {there}")
    workers = gpus or resources.workers or 1
    if workers == 1:
        device = resources.device or ("cuda:0" if gpus else None)
        return (work if device is None else work.on(device)).run(shards)
    devices = [f"cuda:{i}" for i in range(gpus)] or ["cpu"] * workers
    return _dealt(work, shards, devices)


def _dealt(work: Workload, shards: Sequence[Shard], devices: Sequence[str]) -> Iterator[Done]:
    """Shards dealt to processes, two at a time each, through a pipe each: one that is killed can't hold up the others."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // len(devices))
    waiting, hands = deque(shards), dict[Connection, dict[int, Shard]]()
    processes: list[Any] = []
    left = len(shards)

    def deal(to: Connection) -> None:
        """As many shards as it may have; of one that is dead the end of its pipe tells, and gives them back."""
        while len(hands[to]) < IN_HAND and waiting:
            shard = waiting.popleft()
            hands[to][shard.number] = shard
            try:
                to.send(shard)
            except OSError:
                return

    try:
        for device in devices[: len(shards)]:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, work, device, threads), daemon=True)
            try:
                process.start()
            except Exception as error:  # whatever pickle stumbles on
                raise InputError(
                    f"the model or the images can't be sent to other processes ({error}); use one"
                ) from None
            theirs.close()
            processes.append(process)
            hands[ours] = {}
            deal(ours)
        while left:
            for pipe in wait(list(hands)):
                assert isinstance(pipe, Connection)
                try:
                    done = pipe.recv()
                except (EOFError, OSError):  # it is dead
                    waiting.extendleft(reversed(hands.pop(pipe).values()))
                    pipe.close()
                    if not hands:
                        raise InputError(
                            "all workers have died (killed, or out of memory); the same command goes on where this one stopped"
                        ) from None
                    for other in hands:
                        deal(other)
                    continue
                if isinstance(done, BaseException):
                    raise done
                left -= 1
                del hands[pipe][done.number]
                deal(pipe)
                yield done
    finally:
        for process in processes:
            process.terminate()
        for pipe in hands:
            pipe.close()
        for process in processes:
            process.join()


def _serve(pipe: Connection, work: Workload, device: str, threads: int) -> None:
    """A worker: results for shards, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    torch.set_num_threads(threads)

    try:
        work = work.on(device)
        while True:
            first = pipe.recv()
            for done in work.run(_at_hand(first, pipe)):
                pipe.send(done)
    except (EOFError, OSError):  # the parent is gone, or done
        pass
    except InputError as error:
        pipe.send(error)
    except Exception as error:
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


def _at_hand(first: Shard, pipe: Connection) -> Iterator[Shard]:
    """The shards that are there already: waiting for more would keep the last ones from being done."""
    yield first
    while pipe.poll():
        yield pipe.recv()
