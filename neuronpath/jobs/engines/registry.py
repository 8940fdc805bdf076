"""The engines by their names."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from ...checks import InputError, check_one_of
from ..work import Done, Shard


class Workload(Protocol):
    """What engines are given: something that makes shards of images to what becomes of them, and can be sent to other processes."""

    def on(self, device: str) -> "Workload": ...

    def run(self, shards: Iterable[Shard]) -> Iterator[Done]: ...


class Resources(NamedTuple):
    """What a run may use: None is what there is."""

    gpus: int | None = None
    workers: int | None = None
    """Processes that each hold the model, where there are no GPUs."""
    device: str | None = None
    """Of one process: None is where the model is."""


Engine = Callable[[Workload, Sequence[Shard], Resources], Iterator[Done]]
ENGINES: dict[str, Engine] = {}


def register_engine(name: str) -> Callable[[Engine], Engine]:
    """Decorate a function of (work, shards, resources) that gives what becomes of each shard, in any order, once.

    ``work.on(device).run(shards)`` does it for shards that come one after the other; ``work`` can be sent to another process.
    """

    def register(engine: Engine) -> Engine:
        ENGINES[name] = engine
        return engine

    return register


def list_engines() -> list[str]:
    """The names of all engines."""
    files = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])} - {"registry"}
    return sorted(files | ENGINES.keys())


def engine_named(name: str) -> Engine:
    """An engine by its name; raises InputError for one that isn't there, or whose package isn't installed."""
    check_one_of("engine", name, list_engines())
    if name not in ENGINES:
        try:
            importlib.import_module(f".{name}", __package__)
        except ModuleNotFoundError as error:
            raise InputError(f'engine {name!r} wants {error.name}: pip install "neuronpath[{name}]"') from None
    return ENGINES[name]
