"""The folder of an experiment: what was planned, and a record of every run that is done."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...checks import InputError
from ...files import write_whole


def begin(folder: Path, settings: dict[str, Any]) -> Path:
    """The folder of the runs; new, or of this very experiment."""
    record = folder / "settings.json"
    if record.exists():
        earlier = _read(record, "choose another folder", lambda _: True)
        differ = sorted(key for key in settings.keys() | earlier.keys() if settings.get(key) != earlier.get(key))
        if differ:
            raise InputError(f"{folder} holds another experiment ({', '.join(differ)} differ); choose another folder")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} isn't empty and holds no experiment; expected a new folder")
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder / 'runs'} can't be made: {error.strerror}; choose another folder") from None
    if not record.exists():
        write_whole(record, lambda part: part.write_text(json.dumps(settings, indent=1) + "\n"))
    return folder / "runs"


def run_of(file: Path, cell: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run of this cell has measured."""
    return _read(
        file, "delete it and its run is made again", lambda found: "accuracy" in found and found | cell == found
    )


def _read(file: Path, remedy: str, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except OSError as error:
        raise InputError(f"{file} can't be read: {error.strerror} ({remedy})") from None
    except ValueError:
        found = None
    if not isinstance(found, dict) or not fits(found):
        raise InputError(f"{file} is damaged; expected what an earlier run wrote ({remedy})")
    return found
