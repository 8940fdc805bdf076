"""Lists of images: a path a line, or tables with ids and labels."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..checks import InputError
from .containers import PACKED, Item
from .places import ending_of, is_address, opened

LISTS = (".txt", ".csv", ".jsonl")


def beside(place: str, path: str) -> str:
    """A path as a list or a table says it: from its own folder on, unless it is whole."""
    if is_address(path) or os.path.isabs(path):
        return path
    return f"{place.rpartition('/')[0]}/{path}" if is_address(place) else str(Path(place).parent / path)


def items_listed(place: str) -> Iterator[Item]:
    """The images of a list."""
    with io.TextIOWrapper(opened(place), encoding="utf-8-sig", newline="") as text:
        try:
            for number, row in enumerate(_ROWS[ending_of(place)](text), 1):
                path = row.get("path") or row.get("file_name")
                if not isinstance(path, str) or not path:
                    raise InputError(f"{place}: image {number} has no path; expected id, path and label, or path alone")
                if ending_of(path) in (*PACKED, ".npy"):
                    raise InputError(
                        f"{place}: image {number} is {path}, which holds many; expected images, or the file itself"
                    )
                own, label = row.get("id"), row.get("label")
                told = None if label in (None, "") else str(label)
                yield Item(path if own in (None, "") else str(own), beside(place, path), label=told)
        except (csv.Error, json.JSONDecodeError, UnicodeDecodeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{place} can't be read as {ending_of(place)[1:]} ({type(error).__name__}: {error})"
            ) from None


_ROWS: dict[str, Callable[[Iterable[str]], Iterable[dict[str, Any]]]] = {
    ".txt": lambda text: ({"path": line.strip()} for line in text if line.strip()),
    ".csv": csv.DictReader,
    ".jsonl": lambda text: (json.loads(line) for line in text if line.strip()),
}
