"""Files: read only where they are ordinary ones, written whole or not at all, and never over an existing one unless asked."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from .checks import InputError, InputTypeError

KINDS = {
    stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a named pipe", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}  # fmt: skip
PART = ".neuronpath-"  # what the names of files begin with that aren't whole yet
ENDING = 32  # bytes of a name's ending that a temporary file shares: enough to tell a writer the format


def as_path(path: object, what: str = "path") -> Path:
    """What a caller named as a path; refuses what names none."""
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise InputTypeError(f"{what} is {path!r}; expected the name of a file, a str or a Path")
    if not os.fspath(path):
        raise InputError(f"{what} is empty; expected the name of a file")
    if "\0" in os.fspath(path):
        raise InputError(f"{what} is {path!r}; expected a name without a null character")
    return Path(path)


def is_there(path: Path) -> bool:
    """Whether a path names something, even a link to nothing; refuses a name that the system can't look up."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"{path} can't be used: {error.strerror}") from None
    return True


def not_readable(path: str | os.PathLike, expected: str) -> str | None:
    """Why a path can't be read as an ordinary file, in one line; None where it may be. It isn't opened: a pipe would wait."""
    path = as_path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        fault = "is a link to nothing" if path.is_symlink() else "doesn't exist"
        return f"{path} {fault}; expected {expected}"
    except OSError as error:
        return f"{path} can't be read: {(error.strerror or str(error)).lower()}; expected {expected}"
    if stat.S_ISREG(mode):
        return None
    return (
        f"{path} is {next((name for is_kind, name in KINDS.items() if is_kind(mode)), 'no file')}; expected {expected}"
    )


def check_readable(path: str | os.PathLike, expected: str = "an ordinary file") -> Path:
    """The path, if an ordinary file is there; refuses folders, pipes and devices without opening them."""
    if reason := not_readable(path, expected):
        raise InputError(reason)
    return Path(path)


def read_text(path: str | os.PathLike, expected: str = "a file of text") -> str:
    """What an ordinary file holds, as UTF-8; a byte order mark is left out."""
    path = check_readable(path, expected)
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}; expected {expected}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} isn't UTF-8; expected {expected}") from None


def check_writable(path: str | os.PathLike, overwrite: bool = False) -> Path:
    """The path, if a file can be written there, which is tried; raises :class:`InputError` before any work is spent on it."""
    path = as_path(path)
    exists = is_there(path) and os.path.exists(path)  # a link to nothing is written through
    if exists and path.is_dir():
        raise InputError(f"{path} is a folder; expected the name of a file to write")
    if exists and not path.is_file():
        raise InputError(f"{path} is no ordinary file; expected the name of a file to write")
    if exists and not overwrite:
        raise InputError(
            f"{path} exists already; choose another name or allow overwriting (--overwrite, overwrite=True)"
        )
    place = Path(os.path.realpath(path))
    if not place.parent.is_dir():
        raise InputError(f"{path} can't be written: there is no folder {path.parent}")
    if not os.access(place.parent, os.W_OK):
        raise InputError(f"{path} can't be written: no permission to write in {path.parent}")
    _part(path, place).unlink()
    return path


def write_whole(path: str | os.PathLike, write: Callable[[Path], object], overwrite: bool = False) -> Path:
    """Have ``write`` fill a temporary file beside ``path``, then move it there in one step.

    Whatever interrupts ``write`` (an error, Ctrl-C), ``path`` stays as it was and nothing is left behind. A file that is overwritten
    keeps its mode, and a link keeps pointing to where it did.
    """
    path = check_writable(path, overwrite)
    place = Path(os.path.realpath(path))
    part = _part(path, place)
    try:
        write(part)
        with suppress(OSError):  # some file systems have no modes
            part.chmod(_mode(place))
        if overwrite:
            os.replace(part, place)
        else:
            _move_to_new(part, place)
    except FileExistsError:
        raise InputError(f"{path} appeared while it was being written; it was left as it is") from None
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    return path


def check_folder_writable(
    path: str | os.PathLike, ours: Callable[[Path], bool], what: str, overwrite: bool = False
) -> Path:
    """The path, if a folder can be written there, which is tried; one that is there must be empty, or ``ours`` and be overwritten."""
    path = as_path(path)
    place = Path(os.path.realpath(path))
    if is_there(path) and not path.is_dir():
        raise InputError(f"{path} is no folder; expected the name of a folder to write")
    if path.is_dir() and any(path.iterdir()):
        if not ours(path):
            raise InputError(f"{path} holds something else than {what}; expected a new or empty folder")
        if not overwrite:
            raise InputError(f"{path} exists already; choose another name or allow overwriting (overwrite=True)")
    if not place.parent.is_dir():
        raise InputError(f"{path} can't be written: there is no folder {path.parent}")
    _new_folder(path, place).rmdir()
    return path


def write_folder_whole(
    path: str | os.PathLike,
    write: Callable[[Path], object],
    ours: Callable[[Path], bool],
    what: str,
    overwrite: bool = False,
) -> Path:
    """Have ``write`` fill a temporary folder beside ``path``, then move it there; whatever interrupts it, ``path`` stays as it was."""
    path = check_folder_writable(path, ours, what, overwrite)
    place = Path(os.path.realpath(path))
    part, old = _new_folder(path, place), None
    try:
        write(part)
        umask = os.umask(0)
        os.umask(umask)
        with suppress(OSError):  # some file systems have no modes
            part.chmod(0o777 & ~umask)
        if place.is_dir():
            old = _new_folder(path, place)
            os.replace(place, old)
        os.replace(part, place)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}") from None
    finally:
        if old is not None and not place.exists():
            os.replace(old, place)
        shutil.rmtree(part, ignore_errors=True)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
    return path


def _new_folder(path: Path, place: Path) -> Path:
    """A new empty folder beside ``place``."""
    try:
        return Path(tempfile.mkdtemp(prefix=PART, dir=place.parent))
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from None


def _part(path: Path, place: Path) -> Path:
    """A new empty file beside ``place``, with a short name that ends as ``place``'s does."""
    ending = place.suffix if len(os.fsencode(place.suffix)) <= ENDING else ""
    try:
        handle, name = tempfile.mkstemp(prefix=PART, suffix=ending, dir=place.parent)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from None
    os.close(handle)
    return Path(name)


def _mode(place: Path) -> int:
    """The mode of the file that is replaced; of a new one as open as any other, for temporary files are private."""
    try:
        return stat.S_IMODE(place.stat().st_mode)
    except OSError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask


def _move_to_new(part: Path, place: Path) -> None:
    """Move ``part`` to a name that isn't taken; raises FileExistsError where it is, and leaves what is there as it is."""
    try:
        os.link(part, place)  # unlike replace, refuses to clobber a file that appeared meanwhile
    except FileExistsError:
        raise
    except OSError:  # no hard links here: the name is taken first, then replaced
        place.open("xb").close()
        try:
            os.replace(part, place)
        except BaseException:
            place.unlink(missing_ok=True)
            raise


def check_distinct(paths: Iterable[str | os.PathLike | None]) -> None:
    """Refuse two outputs that name one file."""
    seen: set[Path] = set()
    for path in (Path(os.path.realpath(as_path(p))) for p in paths if p is not None):
        if path in seen:
            raise InputError(f"{path} is named for two outputs; give each its own file")
        seen.add(path)


def check_spared(outputs: Iterable[str | os.PathLike | None], inputs: Iterable[str | os.PathLike | None]) -> None:
    """Refuse an output that is one of the inputs: overwriting it would destroy what is read."""
    there = {_identity(path): path for path in outputs if path is not None and os.path.exists(path)}
    for path in inputs if there else ():
        if path is not None and (same := there.get(_identity(path))) is not None:
            raise InputError(f"{same} is an input; expected another name for the output")


def _identity(path: str | os.PathLike) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
