"""The folder of an experiment: what was planned, and a record of every run that is done."""

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...checks import InputError
from ...files import PART, read_text, write_whole

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

SETTINGS, RUNS = "settings.json", "runs"


def check_folder(folder: Path) -> None:
    """Refuse a folder that is there and holds something else than an experiment, or the beginning of one that was killed."""
    try:
        inside = [path for path in folder.iterdir() if not path.name.startswith(PART)]
        begun = [path for path in inside if path.name == RUNS and path.is_dir() and not any(path.iterdir())]
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(
            f"{folder} can't be used: {error.strerror}; expected a folder, new or of an experiment"
        ) from None
    if inside != begun and not (folder / SETTINGS).exists():
        raise InputError(f"{folder} isn't empty and holds no experiment; expected a new folder")


@contextmanager
def at_work(folder: Path, settings: dict[str, Any]) -> Iterator[Path]:
    """The folder of the runs, new or of this very experiment; inside no other process is at work there.

    The lock is the system's and goes with the process, however that ends.
    """
    check_folder(folder)
    runs = folder / RUNS
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{runs} can't be made: {error.strerror}; choose another folder") from None
    with _locked(folder):
        for part in (*folder.glob(f"{PART}*"), *runs.glob(f"{PART}*")):  # of a process that was killed
            part.unlink(missing_ok=True)
        record = folder / SETTINGS
        if record.exists():
            earlier = _read(record, "choose another folder", lambda _: True)
            differ = sorted(key for key in settings.keys() | earlier.keys() if settings.get(key) != earlier.get(key))
            if differ:
                raise InputError(
                    f"{folder} holds another experiment ({', '.join(differ)} differ); choose another folder"
                )
        else:
            write_whole(record, lambda part: part.write_text(json.dumps(settings, indent=1) + "\n"))
        yield runs


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


def write_run(file: Path, cell: dict[str, Any], measured: dict[str, Any]) -> None:
    """Keep what a run has measured."""
    text = json.dumps({**cell, **measured})
    write_whole(file, lambda part: part.write_text(text + "\n"), overwrite=True)


def run_of(file: Path, cell: dict[str, Any], n_test: int) -> dict[str, Any]:
    """What an earlier run of this cell has measured; refuses what no run can have written."""
    return _read(
        file, "delete it and its run is made again", lambda found: found | cell == found and _is_run(found, n_test)
    )


MEASURED = ("parameters", "multiply_adds", "bytes", "latency_dense_s", "latency_s", "time_s")  # of a pruned model


def _is_run(found: dict[str, Any], n_test: int) -> bool:
    """Whether all figures are there, finite numbers, and wrong answers those of test images."""
    shares = [found.get("accuracy"), found.get("others_taken_for_it", 0)]
    if "keep" not in found:  # the paper's protocol: a class may be the only one
        return "others_taken_for_it" in found and all(isinstance(share, float | int) for share in shares)
    wrong, widths = found.get("wrong"), found.get("widths")
    return (
        all(_is_number(share) and 0 <= share <= 1 for share in shares)
        and all(_is_number(found.get(name)) and found[name] > 0 for name in MEASURED)
        and isinstance(widths, list)
        and isinstance(wrong, list)
        and all(type(image) is int and 0 <= image < n_test for image in wrong)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)


def _read(file: Path, remedy: str, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    text = read_text(file, f"what an earlier run wrote ({remedy})")
    try:
        found = json.loads(text)
    except (RecursionError, ValueError):
        found = None
    if not isinstance(found, dict) or not fits(found):
        raise InputError(f"{file} is damaged; expected what an earlier run wrote ({remedy})")
    return found
