""":func:`run`: a task over any number of images, shard by shard, in a folder that goes on where it stopped."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..checks import InputError, InputTypeError, check_count, checked, printable, shown
from ..compression.files import digest_of
from ..data.containers import Item
from ..data.places import is_address
from ..data.source import Source, as_source
from ..files import as_path
from ..methods.find import architecture
from ..models.class_names import check_numbered, numbered
from ..models.load import find_device, load_model
from ..models.outputs import output_name
from ..models.view import view
from ..models.vit import ViT
from ..options import EngineName, TaskName
from ..paths.columns import ABOUT, write_table
from ..paths.neuron_paths import versions
from ..paths.run import ERRORS, FORMAT, LISTING, RECORD, SHARDS, VERSION, Run
from ..runs.progress import bar_over
from .engines.registry import Resources, engine_named
from .folder import at_work, check_folder, read_record, values_that_differ
from .listing import Shards, difference, digest_of_ids, listed, write_listing
from .tasks import options_of, task_named
from .work import Done, Work, as_errors

MOST = 1_000_000  # images of a shard
SMALLEST, LARGEST, SHARDS_OF_FEW = (
    8,
    512,
    64,
)  # images a shard, and shards of less than 64 x 512 images, where nothing is said
_FREE = ("internal_batch_size",)  # options that don't change the rows


@checked
def run(
    source: Any,
    model: nn.Module | ViT | str,
    out: str | os.PathLike,
    task: TaskName = "find_path",
    engine: EngineName = "local",
    shard_size: int | None = None,
    *,
    batch_size: int = 64,
    max_errors: int | None = None,
    gpus: int | None = None,
    workers: int | None = None,
    decoders: int = 4,
    device: str | None = None,
    transform: Callable | None = None,
    classes: Mapping[str, int] | None = None,
    progress: bool | tqdm = False,
    **options: Any,
) -> Run:
    """Do a task for every image of a source, however many; what is done is kept in a folder, and the same call goes on there.

    Args:
        source: images from anywhere: whatever :class:`~neuronpath.Source` takes, or a Source.
        model: a vision transformer, or the name of one for :func:`~neuronpath.load_model`.
        out: the folder, new or of the same run. In it: ``run.json``, what was asked for; ``images.parquet``, where the images are;
            ``shards/*.parquet``, the results; ``errors/*.parquet``, the images that can't be read, each with a reason.
        task: "find_path" and "find_circuit", a row an image (see the functions of these names); "activations", every unit's or
            those of ``units``; "evaluate", a row for every image and each of ``methods``.
        engine: "local", this machine; "ray", a cluster (``pip install "neuronpath[ray]"``).
        shard_size: images that become one file, in the order of their places. A file that is there is done. None is 512, fewer where
            that would make fewer than 64 files, for what is in work when a run is stopped is done again; or what the folder's run has.
        batch_size: images that the task is given at a time.
        max_errors: the run ends behind the shard with which there are more errors; None goes on whatever.
        gpus: how many to use, each by a process with its own model; None is all there are.
        workers: processes that each hold the model where there are no GPUs; None is one, on Ray one a CPU but one.
        decoders: threads that decode images ahead for each model.
        device: of a single process: "cpu", "cuda:1", ...; None is the GPU where there is one, else where the model is.
        transform: makes what the model sees of an image of Pillow's; None is the model's own (timm's models have theirs).
        classes: which class of the model a label is; None takes it for a class's number, name or WordNet id.
        progress: True shows a bar with images a second and errors; a tqdm bar of your own is moved on.
        options: the task's, such as ``method``, ``units`` and ``top_k`` of "find_path"; ``target`` is "predicted" (None), "label", or
            a class's number or name.

    Returns:
        The run, to be read.

    Raises:
        InputError: in one line: for options that can't be used, before any work is done; for a folder of another run, saying in what it
            differs, or where another process is at work; for more than ``max_errors`` errors.

    Examples:
        >>> import neuronpath as nph, tempfile
        >>> model, images, labels = nph.demo.load()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     nph.run(images[:20], model, f"{folder}/run", shard_size=8)
        Run(20 images, 0 errors, task='find_path')
    """
    for name, value in (("batch_size", batch_size), ("decoders", decoders)):
        check_count(name, value)
    atleast = {"shard_size": (shard_size, 1), "max_errors": (max_errors, 0), "gpus": (gpus, 0), "workers": (workers, 1)}
    for name, (number, least) in atleast.items():
        if number is not None:
            check_count(name, number, least)
    if shard_size is not None and shard_size > MOST:
        raise InputError(f"shard_size is {shown(shard_size)}; expected at most {MOST}")
    work_on = engine_named(engine)
    if is_address(os.fspath(out)):
        raise InputError(f"out is {out}; expected a folder of this machine, where one process can lock it")
    if device is not None:
        find_device(device)
    folder = as_path(out, "out")
    check_folder(folder, RECORD, (SHARDS, ERRORS), "a run")
    options = options_of(task_named(task), task, options)
    skipped: list[tuple[Item | None, str]] = []
    images = as_source(source)
    images.skip = lambda reason: skipped.append((None, printable(reason)))
    classes = None if classes is None else {name: int(number) for name, number in classes.items()}  # NumPy's too
    loaded = load_model(model) if isinstance(model, str) else model
    vit = view(loaded)
    if isinstance(options.get("target"), str) and options["target"] != "predicted":
        options["target"] = numbered(options["target"], vit.model, options.get("class_names"))
    table = listed(images, images.skip)
    if classes is None:
        check_numbered(images.class_names, vit.model, "source")
    shard_size = shard_size or _shard_size(folder / RECORD, len(table))
    work = Work(images, loaded, task, options, classes, transform, batch_size, decoders)
    asked = {
        "format": FORMAT,
        "version": VERSION,
        "task": task,
        "options": {name: recorded(name, value) for name, value in options.items() if name not in _FREE},
        "classes": classes,
        "shard_size": shard_size,
        "batch_size": batch_size,
        "model": {"name": architecture(vit.model), "digest": digest_of(vit.model.state_dict())},
        "images": {"count": len(table), "digest": digest_of_ids(table) + images.digest(), "sources": sources(images)},
        "versions": versions(),
    }
    if not (folder / RECORD).exists():
        work = replace(work, nothing=work.tried(items_in_order(table)))

    def differ(there: dict[str, Any], here: dict[str, Any]) -> str:
        return _difference(there, here) or (
            difference(folder / LISTING, table) if there["images"]["digest"] != here["images"]["digest"] else ""
        )

    with at_work(folder, RECORD, (SHARDS, ERRORS), "a run", asked, differ) as (shards, errors):
        write_listing(folder / LISTING, table)
        _write_errors(errors / "listing.parquet", as_errors(skipped))
        every = Shards(table, shard_size)
        counts = {number: _done(file) for number in every.numbers if (file := _file(shards, number)).exists()}
        todo = Shards(table, shard_size, [number for number in every.numbers if number not in counts])
        failed = sum(counts.values())
        if todo and work.nothing is None:
            work = replace(work, nothing=work.tried(items_in_order(table)))
        resources = Resources(gpus, workers, device)
        before = sum(map(every.images_in, counts))
        with bar_over(progress, len(table), initial=before) as bar:
            results = work_on(work, todo, resources) if todo else iter(())
            try:
                for done in results:
                    _write_errors(errors / f"{done.number:06d}.parquet", done.errors)
                    _write_rows(_file(shards, done.number), done)
                    failed += len(done.errors)
                    bar.set_postfix(errors=failed, refresh=False)
                    bar.update(every.images_in(done.number))
                    if max_errors is not None and failed > max_errors:
                        reason = done.errors["reason"][0].as_py() if len(done.errors) else "see the errors"
                        raise InputError(
                            f"{failed} images can't be read, more than max_errors={max_errors}, such as: {reason}"
                        )
            finally:
                if isinstance(results, Iterator) and hasattr(results, "close"):
                    results.close()
    return Run(folder)


def _shard_size(record: Path, n_images: int) -> int:
    """That of the run that is there; else one that makes some dozens of files of few images, and not too many of many."""
    there = read_record(record, "choose another folder").get("shard_size") if record.exists() else None
    return there if isinstance(there, int) and there > 0 else min(LARGEST, max(SMALLEST, -(-n_images // SHARDS_OF_FEW)))


def items_in_order(table: pa.Table) -> Iterator[Any]:
    """All images, some at a time."""
    shards = Shards(table, 64)
    return (item for shard in shards for item in shard.items)


def sources(source: Source) -> list[str]:
    """What a source was made of, by name."""
    if source.memory is None:
        return source.named
    shape = getattr(source.memory, "shape", None)
    return [f"{type(source.memory).__name__}{'' if shape is None else f' {tuple(shape)}'}"]


def recorded(name: str, value: Any) -> Any:
    """An option as JSON has it: tensors by their digest, functions by their name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor | np.ndarray):
        return f"digest {digest_of({name: torch.as_tensor(value)})}"
    if isinstance(value, Mapping):
        return {str(key): recorded(name, each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [recorded(name, each) for each in value]
    if callable(value):
        return output_name(value)
    raise InputTypeError(f"{name} is a {type(value).__name__}; expected a value that run.json can hold")


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """In which of what was asked for two runs differ, images aside."""
    if there.get("format") != FORMAT or there.get("version") != VERSION or there.keys() != here.keys():
        return f"{RECORD} is no record of this version"
    if there["model"]["digest"] != here["model"]["digest"]:
        names = there["model"]["name"], here["model"]["name"]
        return (
            f"the model is {names[0]} there and {names[1]} here"
            if len(set(names)) > 1
            else "the model has other weights"
        )
    plain = ("task", "classes", "shard_size", "batch_size")
    parts = [
        values_that_differ({k: there[k] for k in plain}, {k: here[k] for k in plain}),
        values_that_differ(there["options"], here["options"]) if there["task"] == here["task"] else "",
    ]
    return ", ".join(filter(None, parts))


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.parquet"


def _write_rows(file: Path, done: Done) -> None:
    """A shard, whole; that it is there says that it is done."""
    about = {**(done.rows.schema.metadata or {}), b"errors": str(len(done.errors)).encode()}
    write_table(file, done.rows.replace_schema_metadata(about))


def _write_errors(file: Path, errors: pa.Table) -> None:
    if len(errors):
        write_table(file, errors, overwrite=True)
    elif file.exists():
        file.unlink()


def _done(file: Path) -> int:
    """The errors of a shard that is done; refuses one that is damaged."""
    try:
        about = pq.read_schema(file).metadata or {}
        assert ABOUT in about
        return int(about[b"errors"])
    except (pa.ArrowException, OSError, KeyError, ValueError, AssertionError):
        raise InputError(f"{file} is damaged; delete it and its images are run again") from None
