"""The images of a run: all of a source's, in the order of their ids, each once."""

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
from ..files import write_whole
from ..paths.columns import read_table
from .work import Shard

KINDS = pa.schema(
    [("id", pa.string()), ("place", pa.string()), ("start", pa.int64()), ("length", pa.int64()), ("label", pa.string())]
)
CHUNK = 65536  # images listed at a time


def listed(items: Iterable[Item]) -> pa.Table:
    """All images in the order of their ids. One that is named twice counts once; two with one id are refused."""
    chunks, each = [], iter(items)
    while some := list(itertools.islice(each, CHUNK)):
        chunks.append(pa.table([list(column) for column in zip(*some, strict=True)], KINDS))
    if not chunks:
        raise InputError("the source holds no images; expected at least one")
    table = pa.concat_tables(chunks).sort_by([("id", "ascending"), ("place", "ascending"), ("start", "ascending")])
    table = table.combine_chunks()
    if len(table) == 1:
        return table
    above, below = table.slice(0, len(table) - 1), table.slice(1)
    same = {name: pc.equal(above[name], below[name]) for name in ("id", "place", "start")}
    twice = pc.and_(same["id"], pc.and_(same["place"], same["start"]))
    clash = pc.and_not(same["id"], twice)
    if (at := pc.index(clash, True).as_py()) >= 0:
        one, other = (part["place"][at].as_py() for part in (above, below))
        raise InputError(f"two images have the id {above['id'][at].as_py()!r} ({one} and {other}); expected an id each")
    first = pa.chunked_array([pa.array([True]), *pc.invert(twice).chunks])
    return table.filter(first).combine_chunks()


def digest_of_ids(table: pa.Table) -> str:
    """A name for these ids and labels."""
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
    return f"other images: {' and '.join(said)}" if said else "the labels, or the pixels of an array, are others"
