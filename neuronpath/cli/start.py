"""The entry points' first step: from here on Ctrl-C is one line and exit code 130, also while everything else is imported."""

import _thread
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

INTERRUPTED = 130


class Stopped(BaseException):
    """Ctrl-C. No KeyboardInterrupt, which libraries catch, to print something of their own."""


stops: list[int] = []  # the signals so far: what one made a library raise instead is told by this


def main() -> None:
    """neuronpath."""
    start("main", "neuronpath")


def find_path() -> None:
    """find-path."""
    start("find_path_main", "find-path")


def prune_experiment() -> None:
    """prune-experiment."""
    start("prune_experiment_main", "prune-experiment")


def start(entry: str, name: str) -> None:
    """Import a command's entry and call it."""
    try:
        signal.signal(signal.SIGINT, _stop)
        sys.unraisablehook = _again
        from . import main

        getattr(main, entry)()
    except BaseException as error:
        if not stops or (isinstance(error, SystemExit) and error.code == INTERRUPTED):
            raise
        interrupted(name)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done but to leave


def interrupted(name: str) -> NoReturn:
    """End with the one line that says so."""
    print(f"{name}: interrupted; no file was left half-written", file=sys.stderr)
    sys.exit(INTERRUPTED)


def leave_at_once(name: str) -> NoReturn:
    """End after Ctrl-C, threads and all: one in the middle of torch's code would have Python abort as it takes everything down."""
    try:
        interrupted(name)
    finally:
        sys.stderr.flush()
        os._exit(INTERRUPTED)


def _stop(signal_number: int, _frame: FrameType | None) -> None:
    stops.append(signal_number)
    raise Stopped


def _again(unraisable: Any) -> None:
    """A signal that came where no exception is passed on, as in a destructor, comes once more, soon after."""
    if issubclass(unraisable.exc_type, Stopped):
        threading.Timer(0.02, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(unraisable)
