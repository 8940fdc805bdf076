"""Folders with one folder of images a class."""

import itertools
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor, nn

from ..checks import InputError
from ..files import read_text
from ..models.class_names import folder_namer, head_size
from ..models.transform import transform_of
from .files import Skip, batches, find_images


def find_labelled(
    folder: Path, model: nn.Module, classes: Mapping[str, int] | None = None, skip: Skip | None = None
) -> tuple[list[Path], list[int]]:
    """The images of a folder with one folder a class, in order, and their classes.

    ``classes`` maps folders' names to the model's classes; without, a name is a class's number, its name, or its WordNet id.
    What can't be read below a class's folder is told to ``skip``; without one it is refused. Raises InputError for a folder whose class
    can't be told, and for a class that the model lacks.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder} is no folder; expected one with a folder of images for each class")
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} can't be read: {error.strerror}; expected a folder for each class") from None
    if broken := [part for part in inside if part.is_symlink() and not os.path.exists(part)]:
        raise InputError(f"{broken[0]} is a link to nothing; expected a folder of images")
    parts = [part for part in inside if os.path.isdir(part)]
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
    count = head_size(model)
    for name, index in known.items():
        if index < 0 or (count is not None and index >= count):
            last = "more" if count is None else count - 1
            raise InputError(f"classes maps {name!r} to class {index}, which the model lacks; expected 0 to {last}")
    paths, labels = [], []
    for part in parts:
        images = find_images([part], skip)[1]
        paths += images
        labels += [known[part.name]] * len(images)
    return paths, labels


def read_classes(file: Path) -> dict[str, int]:
    """A JSON object of folder names and class numbers."""
    text = read_text(file, "JSON: an object of folder names and class numbers")
    try:
        classes = json.loads(text)
    except (RecursionError, ValueError):
        raise InputError(
            f"{file} can't be read as JSON; expected an object of folder names and class numbers"
        ) from None
    if not isinstance(classes, dict) or not all(type(index) is int for index in classes.values()):
        raise InputError(f'{file} isn\'t a map of folder names to class numbers; expected such as {{"cat": 3}}')
    return classes


def read_class_names(file: Path) -> list[str] | dict[int, str]:
    """The names of a model's classes: a .txt file with a name a line, or .json with a list of names or {"class": "name"}.

    Raises InputError for a file that can't be read, or holds something else. Whether the names are as many as the model's classes is
    :func:`~neuronpath.models.class_names.class_namer`'s affair.
    """
    kind = file.suffix.lower()
    if kind not in (".txt", ".json"):
        raise InputError(f"{file} names no kind of file; expected .txt or .json")
    text = read_text(file, "names of classes")
    if kind == ".txt":
        lines = [line.strip() for line in text.rstrip().splitlines()]
        if not lines:
            raise InputError(f"{file} holds no names; expected a name a line")
        if "" in lines:
            raise InputError(f"{file}: line {lines.index('') + 1} is empty; expected a name a line")
        return lines
    try:
        names = json.loads(text)
    except (RecursionError, ValueError):
        raise InputError(
            f"{file} can't be read as JSON; expected a list of names, or class numbers and names"
        ) from None
    if not isinstance(names, list | dict):
        raise InputError(f"{file} holds a {type(names).__name__}; expected a list of names, or class numbers and names")
    if odd := [label for label in names if isinstance(names, dict) and not label.isdecimal()]:
        raise InputError(f"{file} names a class {odd[0]!r}; expected class numbers and names")
    found = {int(label): name for label, name in (names.items() if isinstance(names, dict) else enumerate(names))}
    for label, name in found.items():
        if not isinstance(name, str):
            raise InputError(f"{file} calls class {label} {name!r}; expected a text")
    return found if isinstance(names, dict) else list(found.values())


def labelled_batches(
    model: nn.Module,
    folder: Path,
    classes: Mapping[str, int] | None,
    labels_wanted: bool,
    limit: int | None,
    size: int,
    skip: Skip,
) -> tuple[Iterator[tuple[Tensor, list[str], list[int] | None]], int]:
    """Up to ``size`` images at a time with names and labels, and how many there are; labels are None where not wanted nor to be had.

    A limit takes as many of each class as it can.
    """
    try:
        paths, labels = find_labelled(folder, model, classes, skip)
    except InputError:
        if labels_wanted or classes is not None:
            raise
        paths, labels = find_images([folder], skip)[1][:limit], []
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
