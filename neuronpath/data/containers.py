"""Files that hold many images: tars of WebDataset, Parquet, Hugging Face's Arrow, NumPy's arrays."""

import json
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..checks import InputError
from ..files import check_readable
from .files import ENDINGS
from .places import ending_of, is_address, opened

PACKED = frozenset((".parquet", ".arrow", ".tar"))
IMAGE = ("image", "img", "picture", "jpg", "jpeg", "png", "bytes", "path", "file_name")  # what columns are called
LABEL, ID = ("label", "labels", "cls", "class", "fine_label"), ("id", "__key__")
T = TypeVar("T")


class Item(NamedTuple):
    """One image of a source, not yet read."""

    id: str
    """A name that stays: from run to run, and wherever the images lie."""
    place: str
    """A path or an address; of an image inside a container the container's; "" of one that is in memory."""
    start: int = 0
    """Inside a tar the first byte, elsewhere the row."""
    length: int = -1
    """Inside a tar so many bytes; -1 elsewhere."""
    label: str | None = None
    """A class's number, name or WordNet id, where the source has labels."""


def items_in(place: str, name: str, skip: Callable[[str], object]) -> Iterator[Item]:
    """The images of a container, in order, without reading them. Ids are ``name`` and the key or the row, or the column ``id``."""
    if ending_of(place) == ".tar":
        return _members(place, name, skip)
    if ending_of(place) == ".npy":
        return (Item(f"{name}/{row:09d}", place, row) for row in range(len(array_of(place))))
    return _rows(place, name)


def _members(place: str, name: str, skip: Callable[[str], object]) -> Iterator[Item]:
    """The images of a tar after WebDataset: files with one name up to the first dot belong together, ``.cls`` is the class."""
    key, found, label = "", None, None
    with opened(place) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # or they pile up
                    if not member.isfile():
                        continue
                    folder, base = os.path.split(member.name)
                    stem, _, ending = base.partition(".")
                    if (here := os.path.join(folder, stem)) != key:
                        if found is not None:
                            yield found._replace(label=label)
                        key, found, label = here, None, None
                    if ending.lower() == "cls":
                        told = tar.extractfile(member)
                        label = told.read().decode(errors="replace").strip() if told is not None else None
                    elif f".{ending.lower()}" in ENDINGS and found is None:
                        found = Item(f"{name}/{key}", place, member.offset_data, member.size)
                file.seek(tar.offset)
                if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # next() takes a damaged header for the end
                    raise tarfile.ReadError("bad header")
        except tarfile.TarError as error:
            if not key:
                raise InputError(f"{place} is no tar ({error}); expected one that isn't compressed") from None
            skip(f"{place} is damaged behind {key} ({error})")
    if found is not None:
        yield found._replace(label=label)


def _rows(place: str, name: str) -> Iterator[Item]:
    schema = schema_of(place)
    image_column(schema, place)  # refuses files without
    ids, labels = (next((c for c in names if c in schema.names), None) for names in (ID, LABEL))
    wanted = [column for column in (ids, labels) if column is not None]
    row = 0
    for batch in _batches(place, wanted):
        columns = [batch.column(c).to_pylist() if c is not None else [None] * len(batch) for c in (ids, labels)]
        for own, label in zip(*columns, strict=True):
            told = None if label is None or isinstance(label, list | dict) else str(label)
            yield Item(f"{name}/{row:09d}" if own is None else str(own), place, row, -1, told)
            row += 1


def _batches(place: str, columns: list[str]) -> Iterator[Any]:
    """The rows of some columns, some at a time; of none of them their number alone."""
    with _read(place):
        if ending_of(place) != ".parquet":
            yield from _arrow(place).select(columns).to_batches() if columns else [range(len(_arrow(place)))]
            return
        with _parquet(place) as file:
            for group in range(file.num_row_groups):
                yield from (
                    file.read_row_group(group, columns=columns).to_batches()
                    if columns
                    else [range(file.metadata.row_group(group).num_rows)]
                )


@contextmanager
def _parquet(place: str) -> Iterator[pq.ParquetFile]:
    with opened(place) as source, pq.ParquetFile(source) as file:
        yield file


def schema_of(place: str) -> pa.Schema:
    with _read(place):
        if ending_of(place) != ".parquet":
            return _arrow(place).schema
        with _parquet(place) as file:
            return file.schema_arrow


def image_column(schema: pa.Schema, place: str) -> str:
    """The column with the images: bytes, paths, or Hugging Face's pairs of both."""
    fit = [field.name for field in schema if _holds_images(field.type)]
    named = [name for name in IMAGE if name in fit]
    structured = [name for name in fit if not pa.types.is_string(schema.field(name).type)]
    for found in (named, structured):
        if found:
            return found[0]
    raise InputError(f"{place} has no column of images; expected one named image (bytes) or path")


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return {"bytes", "path"} <= {field.name for field in kind}
    return any(
        is_kind(kind)
        for is_kind in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_string, pa.types.is_large_string)
    )


def class_names_in(place: str) -> dict[int, str]:
    """The names of the classes, where Hugging Face's notes tell them."""
    schema = schema_of(place)
    told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    label = next((c for c in LABEL if c in schema.names), "")
    about = told.get(label)
    return dict(enumerate(about.get("names") or [])) if isinstance(about, dict) else {}  # a list is of several labels


def in_row(place: str, row: int) -> bytes | str:
    """What the row of a Parquet or Arrow file holds: an image's bytes, or where it is."""
    with _read(place):
        if ending_of(place) == ".parquet":
            group, first = _group_of(place, row)
            value = _group(place, group)[row - first].as_py()
        else:
            table = _arrow(place)
            value = table.column(image_column(table.schema, place))[row].as_py()
    if isinstance(value, dict):
        value = value["bytes"] if value["bytes"] is not None else value["path"]
    if value is None:
        raise InputError(f"row {row} of {place} is empty; expected an image")
    return value


def _kept(most: int) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """As lru_cache, for what is read from a place: by one thread at a time, and anew where the file was written anew."""

    def keep(read: Callable[..., T]) -> Callable[..., T]:
        kept = lru_cache(most)(lambda place, _stamp, *more: read(place, *more))
        lock = Lock()  # or all threads that wait for it would read it

        @wraps(read)
        def read_once(place: str, *more: Any) -> T:
            stamp = _stamp(place)
            with lock:
                return kept(place, stamp, *more)

        return read_once

    return keep


def _stamp(place: str) -> tuple[int, ...] | None:
    """What tells a local file from the one that was there before."""
    if is_address(place):
        return None
    about = check_readable(place).stat()
    return about.st_mtime_ns, about.st_size, about.st_ino


@_kept(16)
def _firsts(place: str) -> list[int]:
    """The first row of every group of a Parquet file, and their number."""
    with _parquet(place) as file:
        about = file.metadata
    return np.cumsum([0, *(about.row_group(i).num_rows for i in range(about.num_row_groups))]).tolist()


def _group_of(place: str, row: int) -> tuple[int, int]:
    firsts = _firsts(place)
    group = int(np.searchsorted(firsts, row, "right")) - 1
    return group, firsts[group]


@_kept(2)  # a group can be hundreds of MB
def _group(place: str, group: int) -> Any:
    with _parquet(place) as file:
        column = image_column(file.schema_arrow, place)
        return file.read_row_group(group, columns=[column]).column(column)


@_kept(8)
def _arrow(place: str) -> pa.Table:
    """A table in Arrow's stream or file format; a local one stays on the disk until it is read."""
    source = opened(place) if is_address(place) else pa.memory_map(place)
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_file(source).read_all()


def in_array(place: str, row: int) -> np.ndarray:
    """What the row of a .npy file holds."""
    with _read(place):
        return array_of(place)[row]


@_kept(8)
def array_of(place: str) -> np.ndarray:
    """The array of a .npy file; a local one stays on the disk until it is read."""
    with _read(place):
        if is_address(place):
            with opened(place) as file:
                return np.load(file, allow_pickle=False)
        return np.load(place, mmap_mode="r", allow_pickle=False)


@contextmanager
def _read(place: str) -> Iterator[None]:
    """What a damaged file makes its reader raise becomes one line."""
    try:
        yield
    except (InputError, GeneratorExit):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{place} can't be read as {ending_of(place)[1:]} ({type(error).__name__}: {reason})"
        ) from None
