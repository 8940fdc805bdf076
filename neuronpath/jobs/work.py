"""The work of a run: shards of images to tables, on whatever machine. What engines hand to their workers."""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import nn

from ..checks import InputError
from ..data.containers import Item
from ..data.loading import Loaded, loaded
from ..data.source import Source
from ..models.class_names import folder_namer
from ..models.transform import Transform, transform_of
from ..models.view import view
from ..models.vit import ViT
from ..options import TaskName
from ..paths.columns import joined
from .tasks import task_named

ERRORS = pa.schema([("id", pa.string()), ("place", pa.string()), ("reason", pa.string())])
TRIED = 4  # images that a task may refuse before its options are to blame


class Shard(NamedTuple):
    """Images that become one file."""

    number: int
    items: list[Item]


class Done(NamedTuple):
    """What became of a shard."""

    number: int
    rows: pa.Table
    errors: pa.Table


@dataclass(frozen=True, eq=False)
class Work:
    """Everything a worker needs but the shards themselves."""

    source: Source
    model: nn.Module | ViT
    task: TaskName
    options: Mapping[str, Any]
    classes: Mapping[str, int] | None
    transform: Transform | None
    batch_size: int
    threads: int
    nothing: pa.Table | None = None
    """The table of no images, for a shard of which none can be read."""

    def on(self, device: str) -> "Work":
        """The same work by a model on this device."""
        return replace(self, model=_on(self.model, torch.device(device)))

    def run(self, shards: Iterable[Shard]) -> Iterator[Done]:
        """Shard after shard; the images of the next are decoded while the model runs."""
        begun: deque[Shard] = deque()

        def items() -> Iterator[Item]:
            for shard in shards:
                begun.append(shard)
                yield from shard.items

        tables: list[pa.Table] = []
        failed: list[tuple[Item, str]] = []
        batch: list[Loaded] = []
        seen = 0
        for one in loaded(self.source, items(), self.to_pixels, self.threads, self.batch_size):
            batch.append(one)
            seen += 1
            ends = seen == len(begun[0].items)
            if ends or seen % self.batch_size == 0:
                tables += self.measured(batch, failed)
                batch = []
            if ends:
                yield Done(begun.popleft().number, self._whole(tables), as_errors(failed))
                tables, failed, seen = [], [], 0

    def to_pixels(self) -> Transform:
        return self._transform

    @cached_property
    def _transform(self) -> Transform:
        return self.transform or transform_of(view(self.model).model)

    @cached_property
    def _class_of(self) -> Callable[[str], int | None]:
        return folder_namer(view(self.model).model) if self.classes is None else self.classes.get

    def measured(self, batch: Sequence[Loaded], failed: list[tuple[Item, str]]) -> list[pa.Table]:
        """The tables of a batch; images that can't be read, or that the task refuses, are added to ``failed``."""
        failed += [(one.item, one.reason or "") for one in batch if one.pixels is None]
        good = [one for one in batch if one.pixels is not None]
        if not good:
            return []
        sizes = {one.pixels.shape for one in good if one.pixels is not None}
        try:
            if len(sizes) > 1:
                raise InputError(f"images differ in size: {sizes}")
            return [self._table(good)]
        except InputError as error:
            if len(good) > 1:  # which of them is it?
                return [table for one in good for table in self.measured([one], failed)]
            failed.append((good[0].item, str(error)))
            return []

    def _table(self, batch: Sequence[Loaded]) -> pa.Table:
        labels = [None if one.label is None else self._class_of(one.label) for one in batch]
        task = task_named(self.task)
        if task.needs_labels(self.options) and None in labels:
            told = batch[labels.index(None)].label
            raise InputError(
                f"{'there is no label' if told is None else f'the label {told!r} names no class'}; expected a class's number or name, "
                "or target='predicted'"
            )
        pixels = torch.stack([one.pixels for one in batch if one.pixels is not None])
        ids = [one.item.id for one in batch]
        table = task.measure(self.model, pixels, ids, labels, **self.options)
        if "label" not in table.schema.names:
            table = table.append_column("label", pa.array(labels, pa.int32()))
        return table

    def _whole(self, tables: Sequence[pa.Table]) -> pa.Table:
        if tables:
            return joined(tables)
        assert self.nothing is not None
        return self.nothing

    def tried(self, items: Iterable[Item]) -> pa.Table:
        """The table of no images, from trying one; raises InputError where the options can't be used, or no image can be read."""
        failed, refusals = list[tuple[Item, str]](), list[str]()
        for one in loaded(self.source, items, self.to_pixels, self.threads, self.threads):
            if tables := self.measured([one], failed):
                return tables[0].slice(0, 0)
            refusals += [failed[-1][1]] if one.read or one.pixels is not None else []
            if len(refusals) == TRIED:
                break
        if refusals:
            raise InputError(refusals[-1])
        raise InputError(f"none of the {len(failed)} images can be read, such as {failed[0][1]}")

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to other processes: not what each makes for itself."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def as_errors(failed: Sequence[tuple[Item | None, str]]) -> pa.Table:
    """What couldn't be read, a row an image: id, place and reason; without an id what couldn't be listed."""
    columns = [[i and i.id for i, _ in failed], [i and i.place for i, _ in failed], [why for _, why in failed]]
    return pa.table(columns, ERRORS)


def _on(model: nn.Module | ViT, device: torch.device) -> nn.Module | ViT:
    """The model on a device: itself where it is there, else a copy."""
    there = next((model.model if isinstance(model, ViT) else model).parameters()).device
    if there == device or (there.type == device.type and device.index is None):
        return model
    if isinstance(model, ViT):
        raise InputError(f"a view on {there} can't be moved to {device}; expected the model itself")
    return copy.deepcopy(model).to(device)
