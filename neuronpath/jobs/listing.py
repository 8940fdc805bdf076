"""The images of a run: all of a source's, in the order of their places, each once."""

import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..checks import InputError
from ..data.containers import Item
from ..data.source import Skip
from ..files import write_whole
from ..paths.columns import read_table
from .work import Shard

KINDS = pa.schema(
    [("id", pa.string()), ("place", pa.string()), ("start", pa.int64()), ("length", pa.int64()), ("label", pa.string())]
)
CHUNK = 65536  # images listed at a time


def listed(items: Iterable[Item], skip: Skip) -> pa.Table:
    """All images in the order of their places, so that what holds many is read once from end to end.

    One that is named twice counts once; two with one id are refused. One that no table can hold is told to ``skip``.
    """
    chunks, each = [], (item for item in items if _fits(item, skip))
    while some := list(itertools.islice(each, CHUNK)):
        chunks.append(pa.table([list(column) for column in zip(*some, strict=True)], KINDS))
    if not chunks:
        raise InputError("the source holds no images that can be listed; expected at least one")
    order = ["place", "start", "id"]
    table = pa.concat_tables(chunks).sort_by([(name, "ascending") for name in order]).combine_chunks()
    twice = functools.reduce(pc.and_, (_as_before(table[name]) for name in order))
    table = table.filter(pc.invert(twice)).combine_chunks()
    by_id = pc.sort_indices(table["id"])
    if (at := pc.index(_as_before(table["id"].take(by_id)), True).as_py()) >= 0:
        one, other = table.take(by_id[at - 1 : at + 1]).to_pylist()
        raise InputError(
            f"two images have the id {one['id']!r} ({one['place']} and {other['place']}); expected an id each"
        )
    return table


def _fits(item: Item, skip: Skip) -> bool:
    """Whether a table can hold an image's names."""
    try:
        f"{item.id}{item.place}{item.label}".encode()
    except UnicodeEncodeError:
        skip(f"the name of {item.id} isn't UTF-8; expected one that is")
        return False
    return True


def _as_before(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether each value is the one before it."""
    return pa.chunked_array([pa.array([False]), *pc.equal(column[:-1], column[1:]).chunks])


def digest_of_ids(table: pa.Table) -> str:
    """A name for these ids and labels, in this order."""
    found = hashlib.sha256()
    for batch in table.select(["id", "label"]).to_batches(CHUNK):
        for own, label in zip(batch["id"].to_pylist(), batch["label"].to_pylist(), strict=True):
            found.update(f"{own}\0{label}\n".encode(errors="surrogatepass"))
    return found.hexdigest()[:16]


class Shards(Sequence[Shard]):
    """The shards of these numbers, made when they are asked for."""

    def __init__(self, table: pa.Table, size: int, numbers: Sequence[int] | None = None) -> None:
        self.table, self.size = table, size
        self.numbers = range(-(-len(table) // size)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Shards(self.table, self.size, self.numbers[index])
        number = self.numbers[index]
        return Shard(number, list(items_of(self.table.slice(number * self.size, self.size))))

    def images_in(self, number: int) -> int:
        """The images of the shard of this number."""
        return min(self.size, len(self.table) - number * self.size)


def items_of(table: pa.Table) -> Iterator[Item]:
    """The images of a table of :func:`listed`."""
    return (Item(*row) for row in zip(*(table[name].to_pylist() for name in KINDS.names), strict=True))


def write_listing(file: Path, table: pa.Table) -> None:
    """Keep where the images are, once."""
    if not file.exists():
        write_whole(file, lambda part: pq.write_table(table, part, compression="zstd"))


def difference(file: Path, table: pa.Table) -> str:
    """In which images a listing differs from that of an earlier run, for a message."""
    if not file.exists():
        return "the images are others"
    earlier = read_table(file, ["id", "label"])
    said = []
    for one, other, words in ((table, earlier, "new"), (earlier, table, "gone")):
        only = one["id"].filter(pc.invert(pc.is_in(one["id"], other["id"].combine_chunks())))
        said += [f"{len(only)} are {words}, such as {only[0].as_py()}"] if len(only) else []
    return (
        f"other images: {' and '.join(said)}"
        if said
        else "the labels, the order, or the pixels of an array, are others"
    )
