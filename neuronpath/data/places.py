"""Where bytes are: local files, and whatever else fsspec opens by an address (``s3://``, ``gs://``, ``memory://``, ...)."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.core import url_to_fs

from ..checks import InputError
from ..files import check_readable
from .files import below

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+(://|::)")


def is_address(place: str) -> bool:
    """Whether a place is an address, such as s3://bucket/photos, and no local path."""
    return _ADDRESS.match(place) is not None


def ending_of(place: str) -> str:
    """The ending of a place's name, in small letters, with its dot."""
    return os.path.splitext(place)[1].lower()


def file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path there. Raises InputError for one that isn't known, or wants a package."""
    try:
        return url_to_fs(address)
    except ImportError as error:
        raise InputError(f"{address} can't be opened: {str(error).rstrip('.')} (with pip)") from None
    except Exception as error:  # each file system has its own
        raise InputError(f"{address} can't be opened ({type(error).__name__}: {error})") from None


def is_folder(place: str) -> bool:
    if not is_address(place):
        return os.path.isdir(place)
    fs, path = file_system(place)
    return _asked(place, fs.isdir, path)


def files_below(folder: str, wanted: Callable[[str], bool], skip: Callable[[str], object]) -> Iterator[tuple[str, str]]:
    """The files below a folder whose names are wanted, in order: where each is, and its name from there on.

    A local folder that can't be read is told to ``skip``; what is there and can't be read, such as a link to nothing, is given.
    """
    if not is_address(folder):
        for path, _ in below(Path(folder), wanted, skip):
            yield str(path), path.relative_to(folder).as_posix()
        return
    fs, root = file_system(folder)
    for path in sorted(_asked(folder, fs.find, root)):
        if wanted(path):
            yield fs.unstrip_protocol(path), path.removeprefix(root).lstrip("/")


def opened(place: str) -> BinaryIO:
    """A file or an object, to be read. Raises InputError, in one line, where that can't be."""
    if is_address(place):
        fs, path = file_system(place)
        return _asked(place, fs.open, path, "rb")
    check_readable(place)
    return _asked(place, open, place, "rb")


def bytes_of(place: str, start: int = 0, length: int = -1) -> bytes:
    """What a file or an object holds, or ``length`` bytes of it from ``start`` on."""
    if is_address(place) and length >= 0:
        fs, path = file_system(place)
        return _asked(place, fs.cat_file, path, start, start + length)
    with opened(place) as file:
        file.seek(start)
        return _asked(place, file.read, length)


def _asked(place: str, ask: Callable[..., Any], *args: Any) -> Any:
    """What a file system answers; whatever it raises becomes one line."""
    try:
        return ask(*args)
    except FileNotFoundError:
        raise InputError(f"{place} doesn't exist") from None
    except Exception as error:  # each file system has its own
        said = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise InputError(f"{place} can't be read: {' '.join(str(said).split()).lower()}") from None
