"""Run: the results in a run's folder, read shard by shard, however many there are."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from ..checks import InputError, check_count, checked, shown
from ..data.containers import Item
from ..data.source import Source
from ..files import as_path
from ..models.transform import transform_of
from ..models.vit import ViT
from ..options import Column, Likeness
from ..units import Place, Unit, as_unit, place_of
from .circuit import Circuit
from .columns import CIRCUITS, PATHS, about_of, circuits_of, joined, paths_of, read_table
from .documents import read_document
from .neuron_paths import NeuronPaths
from .statistics import Counts, alike

FORMAT, VERSION = "neuronpath.run", 1
RECORD, LISTING, SHARDS, ERRORS = "run.json", "images.parquet", "shards", "errors"
SAMPLE = 200  # images that pictures and pages show, at most


class Run:
    """What :func:`~neuronpath.run` has done so far. Iterating gives shard by shard: NeuronPaths, a Circuit, or a DataFrame.

    Nothing is held but what is asked for. ``len`` counts the rows; with a run that is still at work that are those of now.

    Examples:
        >>> import neuronpath as nph, tempfile
        >>> model, images, labels = nph.demo.load()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = nph.run(images[:20], model, f"{folder}/run", target=3)
        ...     len(run), run.to_frame(["id", "probability"], [("probability", ">", 0.5)])["id"].tolist()
        (20, ['000000008', '000000018'])
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = as_path(folder, "folder")
        record = self.folder / RECORD
        if not record.is_file():
            raise InputError(f"{folder} holds no run; expected a folder that neuronpath.run wrote")
        self.about: dict[str, Any] = read_document(record, FORMAT, (VERSION,), "neuronpath.run", dict)
        """What was asked for: task, options, model, images, versions."""

    def __repr__(self) -> str:
        return f"Run({self.about['images']['count']} images, {len(self.errors)} errors, task={self.about['task']!r})"

    def __len__(self) -> int:
        return sum(_metadata(file).num_rows for file in self.files)

    def __iter__(self) -> Iterator[NeuronPaths | Circuit | pd.DataFrame]:
        return map(_as_result, self.tables())

    @property
    def files(self) -> list[Path]:
        """The shards that are done."""
        return sorted((self.folder / SHARDS).glob("[!.]*.parquet"))

    @property
    def errors(self) -> pd.DataFrame:
        """The images that couldn't be read: id, place and reason."""
        tables = [read_table(file) for file in sorted((self.folder / ERRORS).glob("[!.]*.parquet"))]
        return pa.concat_tables(tables).to_pandas() if tables else pd.DataFrame(columns=["id", "place", "reason"])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What every row says of what made it: see :class:`~neuronpath.Settings`."""
        if not self.files:
            raise InputError(f"{self.folder} has no shard that is done; expected one at least")
        return about_of(_metadata(self.files[0]).schema.to_arrow_schema()).get("settings", {})

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows as they lie in the files, shard by shard; of the columns named."""
        for file in self.files:
            if columns is not None and (
                unknown := [c for c in columns if c not in _metadata(file).schema.to_arrow_schema().names]
            ):
                raise InputError(f"columns names {unknown[0]!r}, which {file.name} lacks")
            yield read_table(file, columns)

    @checked
    def to_frame(self, columns: Sequence[str] | None = None, where: Sequence[tuple] | None = None) -> pd.DataFrame:
        """The rows as a DataFrame: all, or those for which all of ``where`` holds, such as ``[("removal", ">", 0.5)]``.

        Each is (column, operator, value) with an operator of ``==, !=, <, <=, >, >=, in, not in``.
        """
        needed = None if columns is None else list(dict.fromkeys([*columns, *(c for c, *_ in where or ())]))
        rule = _rule(where)
        try:
            parts = [table if rule is None else table.filter(rule) for table in self.tables(needed)]
        except pa.ArrowException as error:
            raise _odd_rule(where, str(error)) from None
        if not parts:
            raise InputError(f"{self.folder} has no shard that is done; expected one at least")
        whole = pa.concat_tables([part.replace_schema_metadata(None) for part in parts])
        return (whole if columns is None else whole.select(list(columns))).to_pandas()

    @checked
    def paths(self, ids: Sequence[str]) -> NeuronPaths:
        """The paths of these images, in this order."""
        self._check_task("find_path")
        wanted, found = pa.array(list(ids), pa.string()), []
        for file in self.files:
            inside = read_table(file, ["id"])["id"]
            if pc.any(pc.is_in(inside, wanted)).as_py():
                found.append(read_table(file).filter(pc.is_in(inside, wanted)))
        at = {name: row for row, name in enumerate(n for part in found for n in part["id"].to_pylist())}
        if missing := [name for name in ids if name not in at]:
            raise InputError(f"the run has no path of {missing[0]!r}; expected an id that is done and no error")
        if not found:
            raise InputError("ids is empty; expected at least one")
        return paths_of(joined(found))[[at[name] for name in ids]]

    @checked
    def sample(self, n: int = SAMPLE, seed: int = 0) -> NeuronPaths | Circuit:
        """The paths of ``n`` images, drawn at random, of fewer where there are fewer; or their circuits."""
        check_count("n", n)
        check_count("seed", seed, 0)
        self._check_task("find_path", "find_circuit")
        files = self.files  # once: a run that is at work makes more
        ends = np.cumsum([0, *(_metadata(file).num_rows for file in files)])
        chosen = np.sort(np.random.default_rng(seed).permutation(ends[-1])[:n])
        parts = []
        for file, start, end in zip(files, ends[:-1], ends[1:], strict=True):
            inside = chosen[(chosen >= start) & (chosen < end)] - start
            if len(inside):
                parts.append(read_table(file).take(inside))
        if not parts:
            raise InputError(f"{self.folder} has no row yet; expected one at least")
        return _as_result(joined(parts))  # type: ignore[return-value]

    @checked
    def labels(self, ids: Sequence[str]) -> list[int] | None:
        """The true classes of these images; None where one has none."""
        if not len(ids):
            raise InputError("ids is empty; expected at least one")
        found = self.to_frame(["id", "label"], [("id", "in", list(ids))]).set_index("id")["label"]
        if missing := [name for name in ids if name not in found.index]:
            raise InputError(f"the run has no image {missing[0]!r} that is done")
        wanted = found.loc[list(ids)]
        return None if wanted.isna().any() else wanted.astype(int).tolist()

    @checked
    def images(self, ids: Sequence[str], model: nn.Module | ViT) -> Tensor:
        """What the model sees of these images, (n, C, H, W), read anew from where they were."""
        table = read_table(self.folder / LISTING)
        table = table.filter(pc.is_in(table["id"], pa.array(list(ids), pa.string())))
        items = {row["id"]: Item(**row) for row in table.to_pylist()}
        if missing := [name for name in ids if name not in items]:
            raise InputError(f"the run has no image {missing[0]!r}")
        if not items:
            raise InputError("ids is empty; expected at least one")
        if memory := [item.id for item in items.values() if not item.place]:
            raise InputError(f"{memory[0]} was in memory and lies nowhere; expected images in files")
        transform = transform_of(model.model if isinstance(model, ViT) else model)
        source = Source(str(self.folder))
        read = (source.read(items[name])[0] for name in ids)
        return torch.stack([image if isinstance(image, Tensor) else transform(image) for image in read])

    def frequency(self) -> list[Tensor]:
        """The share of images whose path has the unit, a site (U,): as :func:`~neuronpath.frequency`, shard by shard."""
        return self._counts(None)[-1].frequency()

    def consensus(self) -> tuple[Tensor, Tensor]:
        """The most frequent units of every site (S, K), and the share of images' units that are these (S,)."""
        return self._counts(None)[-1].consensus()

    @checked
    def similarity(self, labels: Column = "target", by: Likeness = "frequency") -> pd.DataFrame:
        """How alike classes are, (C, C), as :func:`~neuronpath.similarity`; ``labels`` is a column: target, predicted or label."""
        counts = self._counts(labels)
        names = [self._names.get(str(label), str(label)) for label in counts]
        return alike(list(counts.values()), by, names)

    @checked
    def most_active(self, unit: tuple, n: int = 6) -> pd.DataFrame:
        """The ``n`` images on which a unit is most active, the most active first: id and activation.

        A unit is (block, neuron), ("head", block, index) or :class:`~neuronpath.Unit`. Of paths only images are known whose path
        has the unit.
        """
        check_count("n", n)
        named = as_unit(unit)
        places = [Place(*place) for place in self.settings.get("sites", ())]
        site = place_of(named, places)
        best = pd.DataFrame({"id": pd.Series(dtype=str), "activation": pd.Series(dtype=np.float32)})
        for names, values in self._activations(site, named, places):
            here = pd.DataFrame({"id": names, "activation": values})
            best = (pd.concat([best, here]) if len(best) else here).nlargest(n, "activation")
        return best.reset_index(drop=True)

    def _activations(self, site: int, unit: Unit, places: Sequence[Place]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Shard by shard the ids of images, and the unit's activation there."""
        if self.about["task"] == "activations":
            some = about_of(_metadata(self.files[0]).schema.to_arrow_schema())["units"]
            if some is not None and list(unit) not in some:
                raise InputError(f"the run knows nothing of {unit}; expected one of its units")
            at = sum(place.width for place in places[:site]) + unit[1] if some is None else some.index(list(unit))
            for table in self.tables(["id", "activations"]):
                lists = _lists(table["activations"], len(table))
                yield table["id"].to_numpy(), lists[:, at]
            return
        self._check_task("find_path")
        for table in self.tables(["id", "units", "activations"]):
            shape = (len(table), *about_of(table.schema, PATHS)["shape"])
            found = _lists(table["units"], len(table)).reshape(shape)[:, site] == unit[1]
            values = _lists(table["activations"], len(table)).reshape(shape)[:, site]
            yield table["id"].to_numpy()[found.any(1)], values[found]

    def _counts(self, labels: Column | None) -> dict[int, Counts]:
        """How often each unit occurs, by class; of all images under -1 where no labels are asked for."""
        self._check_task("find_path")
        if labels is not None and labels not in ("target", "predicted", "label"):
            raise InputError(f"labels is {labels!r}; expected 'target', 'predicted' or 'label', a column")
        widths = [place[2] for place in self.settings["sites"]]
        counts: dict[int, Counts] = {}
        self._names: dict[str, str] = {}
        for table in self.tables(["units", *([labels] if labels else [])]):
            about = about_of(table.schema, PATHS)
            self._names |= about["class_names"]
            units = torch.from_numpy(
                _lists(table["units"], len(table)).reshape(len(table), *about["shape"]).astype(np.int64)
            )
            classes = np.full(len(table), -1) if labels is None else table[labels].to_numpy()
            if len(table) and table.schema.names[-1] == "label" and table["label"].null_count:
                raise InputError("some images have no label; expected labels='target' or 'predicted'")
            for label in np.unique(classes).tolist():
                counts.setdefault(int(label), Counts(widths, units.shape[2])).add(units[classes == label])
        if not counts:
            raise InputError(f"{self.folder} has no row yet; expected one at least")
        return dict(sorted(counts.items()))

    def _check_task(self, *tasks: str) -> None:
        if self.about["task"] not in tasks:
            raise InputError(
                f"this run is of task {self.about['task']!r}; expected one of {' or '.join(map(repr, tasks))}"
            )


@checked
def open_run(folder: str | os.PathLike) -> Run:
    """The results in the folder of :func:`~neuronpath.run`, done or not; nothing is read yet. Raises InputError for another folder."""
    return Run(folder)


def _as_result(table: pa.Table) -> NeuronPaths | Circuit | pd.DataFrame:
    kind = about_of(table.schema)["format"]
    return paths_of(table) if kind == PATHS else circuits_of(table) if kind == CIRCUITS else table.to_pandas()


def _metadata(file: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(file)
    except (pa.ArrowException, OSError):
        raise InputError(f"{file} is damaged; delete it, and the same run makes it again") from None


def _lists(column: pa.ChunkedArray, rows: int) -> np.ndarray:
    """Lists of one length as an array (rows, n)."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(rows, -1)


def _rule(where: Sequence[tuple] | None) -> Any:
    if not where:
        return None
    try:
        return pq.filters_to_expression([tuple(each) for each in where])
    except (ValueError, TypeError, KeyError):
        raise _odd_rule(where) from None


def _odd_rule(where: Any, reason: str = "") -> InputError:
    why = f" ({' '.join(reason.split())[:100]})" if reason else ""
    return InputError(f"where is {shown(where)}{why}; expected (column, operator, value) such as ('removal', '>', 0.5)")
