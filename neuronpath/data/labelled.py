"""Folders with one folder of images a class."""

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from torch import Tensor, nn

from ..checks import InputError
from ..models.class_names import folder_namer
from ..models.transform import transform_of
from .files import batches, find_images


def find_labelled(
    folder: Path, model: nn.Module, classes: Mapping[str, int] | None = None
) -> tuple[list[Path], list[int]]:
    """The images of a folder with one folder a class, in order, and their classes.

    ``classes`` maps folders' names to the model's classes; without, a name is a class's number, its name, or its WordNet id.
    Raises InputError for a folder whose class can't be told.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected one with a folder of images for each class")
    parts = sorted(part for part in folder.iterdir() if part.is_dir())
    if not parts:
        raise InputError(f"{folder} holds no folders; expected one folder of images for each class")
    class_of = folder_namer(model) if classes is None else classes.get
    known = {part.name: index for part in parts if (index := class_of(part.name)) is not None}
    unknown = [part.name for part in parts if part.name not in known]
    if unknown:
        raise InputError(
            f"{folder} holds {unknown[0]!r}, which names no class of {type(model).__name__}; expected class numbers or names, "
            "or pass --classes FILE (JSON: folder name to class number), or --target predicted"
        )
    paths, labels = [], []
    for part in parts:
        images = find_images([part])[1]
        paths += images
        labels += [known[part.name]] * len(images)
    return paths, labels


def read_classes(file: Path) -> dict[str, int]:
    """A JSON object of folder names and class numbers."""
    try:
        classes = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(
            f"{file} can't be read as JSON; expected an object of folder names and class numbers"
        ) from None
    if not isinstance(classes, dict) or not all(type(index) is int for index in classes.values()):
        raise InputError(f'{file} isn\'t a map of folder names to class numbers; expected such as {{"cat": 3}}')
    return classes


def labelled_batches(
    model: nn.Module,
    folder: Path,
    classes: Mapping[str, int] | None,
    labels_wanted: bool,
    limit: int | None,
    size: int,
    skip: Callable[[str], object],
) -> tuple[Iterator[tuple[Tensor, list[str], list[int] | None]], int]:
    """Up to ``size`` images at a time with names and labels, and how many there are; labels are None where not wanted nor to be had.

    A limit takes as many of each class as it can.
    """
    try:
        paths, labels = find_labelled(folder, model, classes)
    except InputError:
        if labels_wanted or classes is not None:
            raise
        paths, labels = find_images([folder])[1][:limit], []
    if labels and limit is not None:
        counts: defaultdict[int, Iterator[int]] = defaultdict(itertools.count)
        turn = [next(counts[label]) for label in labels]  # the image's place in its class
        chosen = sorted(sorted(range(len(paths)), key=lambda i: (turn[i], labels[i]))[:limit])
        paths, labels = [paths[i] for i in chosen], [labels[i] for i in chosen]
    label_of = dict(zip(map(str, paths), labels, strict=True)) if labels else {}
    source = batches([], paths, transform_of(model), size, skip)
    return ((pixels, names, [label_of[name] for name in names] if label_of else None) for pixels, names in source), len(
        paths
    )
