"""The folder of a job that can be stopped and goes on: what it was asked for, and one process at a time."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..checks import InputError, shown
from ..files import PART, read_text, write_whole

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


def check_folder(folder: Path, record: str, inside: tuple[str, ...], what: str) -> None:
    """Refuse a folder that is there and holds something else than such a job, or the beginning of one that was killed."""
    try:
        found = [path for path in folder.iterdir() if not path.name.startswith(PART)]
        begun = [path for path in found if path.name in inside and path.is_dir() and not any(path.iterdir())]
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{folder} can't be used: {error.strerror}; expected a folder, new or of {what}") from None
    if found != begun and not (folder / record).exists():
        raise InputError(f"{folder} isn't empty and holds no {what.split()[-1]}; expected a new folder")


@contextmanager
def at_work(
    folder: Path,
    record: str,
    inside: tuple[str, ...],
    what: str,
    settings: dict[str, Any],
    differ: Callable[[dict, dict], str],
) -> Iterator[list[Path]]:
    """The folder of this very job, new or gone on with; gives the folders ``inside`` it. No other process is at work there.

    ``settings`` are kept in the file ``record``; ``differ`` says in what an earlier job's are others, "" for nothing. The lock is the
    system's and goes with the process, however that ends.
    """
    check_folder(folder, record, inside, what)
    places = [folder / name for name in inside]
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{place} can't be made: {error.strerror}; choose another folder") from None
    with _locked(folder):
        for part in (
            part for place in (folder, *places) for part in place.glob(f"{PART}*")
        ):  # of a process that was killed
            part.unlink(missing_ok=True)
        file = folder / record
        if file.exists():
            if difference := differ(read_record(file, "choose another folder"), settings):
                raise InputError(f"{folder} holds another {what.split()[-1]} ({difference}); choose another folder")
        else:
            write_whole(file, lambda part: part.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8"))
        yield places


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder is this process's, as far as its file system has locks."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process is at work in {folder}; wait for its end, or choose another folder"
            ) from None
        except OSError:  # no locks here
            pass
        yield
    finally:
        os.close(handle)


def read_record(file: Path, remedy: str, fits: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
    """The object in a JSON file that an earlier process wrote; refuses what none can have written."""
    text = read_text(file, f"what an earlier run wrote ({remedy})")
    try:
        found = json.loads(text)
    except (RecursionError, ValueError):
        found = None
    if not isinstance(found, dict) or not fits(found):
        raise InputError(f"{file} is damaged; expected what an earlier run wrote ({remedy})")
    return found


def names_that_differ(there: dict[str, Any], here: dict[str, Any]) -> str:
    """The keys whose values are others, for a message; "" where none is."""
    found = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
    return f"{', '.join(found)} differ" if found else ""


def values_that_differ(there: dict[str, Any], here: dict[str, Any]) -> str:
    """The same, with the values."""
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    return ", ".join(f"{key} is {shown(there.get(key))} there and {shown(here.get(key))} here" for key in keys)
