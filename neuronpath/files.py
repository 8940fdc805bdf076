"""Files written whole or not at all, and never over an existing one unless asked."""

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from .checks import InputError


def check_writable(path: str | os.PathLike, overwrite: bool = False) -> Path:
    """The path, if a file can be written there; raises :class:`InputError` before any work is spent on it."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the name of a file to write")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no ordinary file; expected the name of a file to write")
    if path.exists() and not overwrite:
        raise InputError(
            f"{path} exists already; choose another name or allow overwriting (--overwrite, overwrite=True)"
        )
    if not path.parent.is_dir():
        raise InputError(f"{path} can't be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path} can't be written: no permission to write in {path.parent}")
    return path


def write_whole(path: str | os.PathLike, write: Callable[[Path], object], overwrite: bool = False) -> Path:
    """Have ``write`` fill a temporary file beside ``path``, then move it there in one step.

    Whatever interrupts ``write`` (an error, Ctrl-C), ``path`` stays as it was and nothing is left behind.
    """
    path = check_writable(path, overwrite)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from None
    os.close(handle)
    part = Path(name)
    try:
        write(part)
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)  # mkstemp makes private files; the result should be as open as any other
        if overwrite:
            os.replace(part, path)
        else:
            try:
                os.link(part, path)  # unlike replace, refuses to clobber a file that appeared meanwhile
            except FileExistsError:
                raise InputError(f"{path} appeared while it was being written; it was left as it is") from None
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    return path


def check_distinct(paths: Iterable[str | os.PathLike | None]) -> None:
    """Refuse two outputs that name one file."""
    seen: set[Path] = set()
    for path in (Path(p).resolve() for p in paths if p is not None):
        if path in seen:
            raise InputError(f"{path} is named for two outputs; give each its own file")
        seen.add(path)
