"""What the commands say: every line fit for any terminal, and nothing of libraries' own that isn't one line."""

import logging
import os
import shutil
import sys
import warnings
from contextlib import suppress
from pathlib import Path

from ..checks import printable

PIPE_CLOSED = 141  # as a shell has it of a process that a closed pipe has ended


def say(text: object) -> None:
    """One line on stderr; lost where that can't be written."""
    with suppress(OSError, ValueError):
        print(printable(" ".join(str(text).split())), file=sys.stderr, flush=True)


def counted(number: int, thing: str) -> str:
    """Such as "1 image" or "2 images"."""
    return f"{number} {thing}{'s' * (number != 1)}"


def wrote(*paths: Path | None) -> None:
    """A line for each file that was written, on stdout."""
    for path in paths:
        if path is not None:
            print(f"wrote {printable(path)}")


def width() -> int | None:
    """How many letters a line of the terminal holds; None where stdout is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.__stdout__ and sys.__stdout__.isatty() else None


def prepare(name: str) -> None:
    """What stdout's encoding lacks is escaped there; libraries' warnings and records are lines of the command's.

    matplotlib's backend is of no account: pictures are written to files.
    """
    os.environ.pop("MPLBACKEND", None)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.showwarning = lambda message, *_, **__: say(f"{name}: {message}")
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: say(f"{name}: {record.getMessage()}")  # type: ignore[method-assign]
    logging.basicConfig(handlers=[handler])


def put(text: str) -> OSError | None:
    """Write to stdout, all of it; the fault where that can't be, after which nothing is written there any more."""
    try:
        print(text, end="", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or leaving would fail of it once more
        return error
    return None
