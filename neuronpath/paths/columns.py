"""Results as columns: Arrow tables with a row an image, and their files, Parquet."""

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from ..checks import InputError
from ..files import check_readable, write_whole
from ..units import Unit
from .documents import check_circuit, check_units, read_document, write_document
from .settings import Settings

if TYPE_CHECKING:
    from .circuit import Circuit
    from .neuron_paths import NeuronPaths

T = TypeVar("T")
ABOUT = b"neuronpath"  # the key of what a file says of itself, JSON
PATHS, CIRCUITS, VERSION = "neuronpath.paths", "neuronpath.circuit", 1
UNITS, WORTH = "units", ("activations", "attribution")
_UNIT = pa.struct([("block", pa.int32()), ("kind", pa.string()), ("index", pa.int32())])


def paths_table(paths: "NeuronPaths") -> pa.Table:
    """A row an image: id, the figures, and the lists units, activations and attribution, S x K long, site by site."""
    check_utf8(paths.names)
    columns: dict[str, pa.Array] = {"id": pa.array(paths.names, pa.string())}
    for name in _tensors(type(paths)):
        values = getattr(paths, name)
        columns[name] = _lists(values.flatten(1)) if values.ndim == 3 else _column(values)
    return _noted(pa.table(columns), PATHS, paths, {"shape": list(paths.units.shape[1:])})


def circuits_table(circuits: "Circuit") -> pa.Table:
    """A row an image: id, the figures, and the list units, each with block, kind and index, the most important first."""
    check_utf8(circuits.names)
    columns: dict[str, pa.Array] = {"id": pa.array(circuits.names, pa.string())}
    columns[UNITS] = pa.array([[unit._asdict() for unit in units] for units in circuits.units], pa.list_(_UNIT))
    columns |= {name: _column(getattr(circuits, name)) for name in _tensors(type(circuits))}
    return _noted(pa.table(columns), CIRCUITS, circuits, {"criterion": circuits.criterion, "keep": circuits.keep})


def paths_of(table: pa.Table) -> "NeuronPaths":
    """What :func:`paths_table` was made of; raises InputError for another table."""
    from .neuron_paths import NeuronPaths

    about = about_of(table.schema, PATHS)
    shape = (len(table), *about["shape"])
    tensors = {}
    for name in _tensors(NeuronPaths):
        found = _tensor(table.column(name))
        tensors[name] = found.reshape(shape) if name == UNITS or name in WORTH else found
    settings = Settings.from_dict(about["settings"])
    check_units(tensors[UNITS], settings.sites)
    return NeuronPaths(
        **tensors,
        names=tuple(table.column("id").to_pylist()),
        settings=settings,
        class_names=_class_names(about),
    )


def circuits_of(table: pa.Table) -> "Circuit":
    """What :func:`circuits_table` was made of; raises InputError for another table."""
    from .circuit import Circuit

    about = about_of(table.schema, CIRCUITS)
    tensors = {name: _tensor(table.column(name)) for name in _tensors(Circuit)}
    units = [tuple(Unit(u["block"], u["index"], u["kind"]) for u in row) for row in table.column(UNITS).to_pylist()]
    settings = Settings.from_dict(about["settings"])
    for each in units:
        check_circuit(each, settings.sites)
    return Circuit(
        units=tuple(units),
        names=tuple(table.column("id").to_pylist()),
        criterion=about["criterion"],
        keep=about["keep"],
        settings=settings,
        class_names=_class_names(about),
        **tensors,
    )


def about_of(schema: pa.Schema, kind: str | None = None) -> dict[str, Any]:
    """What a table says of itself; of another kind than the one wanted it is refused."""
    about = json.loads((schema.metadata or {}).get(ABOUT, b"{}"))
    if not about or (kind is not None and about.get("format") != kind):
        raise InputError(f"the table holds no {kind or 'results of neuronpath'}; expected one that neuronpath wrote")
    if about["version"] != VERSION:
        raise InputError(f"the table is of version {about['version']!r}; this neuronpath reads {VERSION}")
    return about


def noted(table: pa.Table, about: Mapping[str, Any]) -> pa.Table:
    """The table, saying this of itself."""
    return table.replace_schema_metadata({ABOUT: json.dumps({"version": VERSION, **about})})


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of one kind as one; names of classes, which each has its own, are brought together."""
    abouts = [about_of(table.schema) for table in tables]
    names = {label: name for about in abouts for label, name in about.get("class_names", {}).items()}
    about = abouts[0] | ({"class_names": names} if "class_names" in abouts[0] else {})
    return noted(pa.concat_tables([table.replace_schema_metadata(None) for table in tables]), about)


def write_table(path: str | os.PathLike, table: pa.Table, overwrite: bool = False) -> Path:
    """Write Parquet, whole or not at all."""
    return write_whole(path, lambda part: pq.write_table(table, part, compression="zstd"), overwrite)


def read_table(path: str | os.PathLike, columns: Iterable[str] | None = None) -> pa.Table:
    """Read Parquet that neuronpath wrote; raises InputError, in one line, for anything else."""
    file = check_readable(path, "a Parquet file that neuronpath wrote")
    try:
        return pq.read_table(file, columns=None if columns is None else list(columns), partitioning=None)
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path} is damaged or no Parquet ({reason}); expected what neuronpath wrote") from None


def is_parquet(path: str | os.PathLike) -> bool:
    """Whether a file's name says that it is Parquet."""
    return isinstance(path, str | os.PathLike) and str(path).lower().endswith(".parquet")


def check_utf8(names: Iterable[str]) -> None:
    """Refuse names that Parquet can't hold: names of files needn't be text."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(f"{name} is no UTF-8, which .parquet wants of names; expected .json for it") from None


def check_result_name(path: str | os.PathLike, names: Iterable[str] = ()) -> None:
    """Refuse a name by which others would take the file for something that it isn't, and one of a kind that can't hold these names."""
    if os.path.splitext(path)[1].lower() not in (".json", ".parquet"):
        raise InputError(
            f"{path} names no kind of file that results are written as; expected .json or .parquet (to_frame() makes other tables)"
        )
    if is_parquet(path):
        check_utf8(names)


def write_result(
    path: str | os.PathLike,
    result: T,
    as_table: Callable[[T], pa.Table],
    as_document: Callable[[T], dict],
    overwrite: bool,
) -> Path:
    """Write a result as Parquet or as JSON, as the file's name says."""
    check_result_name(path)
    if is_parquet(path):
        return write_table(path, as_table(result), overwrite)
    return write_document(path, as_document(result), overwrite)


def read_result(
    path: str | os.PathLike, of_table: Callable[[pa.Table], T], kind: str, versions: Collection[int], writer: str,
    of_document: Callable[[dict[str, Any]], T],
) -> T:  # fmt: skip
    """What :func:`write_result` wrote; refuses another or a damaged file."""
    if not is_parquet(path):
        return read_document(path, kind, versions, writer, of_document)
    table = read_table(path)
    try:
        return of_table(table)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, pa.ArrowException) as error:
        fault = error if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(
            f"{path} can't be used ({' '.join(str(fault).split())}); expected a file that {writer} wrote"
        ) from None


def _noted(table: pa.Table, kind: str, result: "NeuronPaths | Circuit", more: dict[str, Any]) -> pa.Table:
    names = {str(label): name for label, name in result.class_names.items()}
    return noted(table, {"format": kind, "settings": result.settings.to_dict(), "class_names": names, **more})


def _class_names(about: Mapping[str, Any]) -> dict[int, str]:
    return {int(label): name for label, name in about["class_names"].items()}


def _column(values: Tensor) -> pa.Array:
    return pa.array((values.int() if values.dtype == torch.int64 else values).numpy())


def _tensor(column: pa.ChunkedArray) -> Tensor:
    """A column as a tensor, lists one after the other."""
    values = column.combine_chunks()
    values = values.flatten() if pa.types.is_list(values.type) else values
    found = torch.from_numpy(values.to_numpy(zero_copy_only=False).copy())
    return found.long() if found.dtype == torch.int32 else found


def _lists(rows: Tensor) -> pa.Array:
    """A list a row of (B, n)."""
    offsets = np.arange(0, rows.numel() + 1, max(rows.shape[1], 1), dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), _column(rows.flatten()))


def _tensors(kind: type) -> list[str]:
    return [f.name for f in fields(kind) if f.type is Tensor]
