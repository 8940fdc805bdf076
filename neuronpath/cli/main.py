"""The entry points: each command on its own, and all of them under ``neuronpath``."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, NoReturn

import typer

from ..checks import BAD_INPUT, DONE, INTERRUPTED, InputError
from .benchmark import benchmark
from .circuit import circuit
from .compress import compress
from .evaluate import evaluate
from .explore import explore
from .find_path import find_path
from .options import Grouped, Version
from .prune_experiment import prune_experiment
from .run import run_data_set
from .start import Stopped, interrupted, stops
from .terminal import PIPE_CLOSED, prepare, put, say

PLAIN: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}


def command(function: Callable[..., int]) -> typer.Typer:
    """A Typer application of this one function."""
    app = typer.Typer(**PLAIN)
    app.command(cls=Grouped)(function)
    return app


def application() -> typer.Typer:
    """All commands."""
    app = typer.Typer(**PLAIN)
    app.command("find-path", cls=Grouped)(find_path)
    app.command("circuit", cls=Grouped)(circuit)
    app.command("evaluate", cls=Grouped)(evaluate)
    app.command("run", cls=Grouped)(run_data_set)
    app.command("explore", cls=Grouped)(explore)
    app.command("benchmark", cls=Grouped)(benchmark)
    app.command("compress", cls=Grouped)(compress)
    app.command("prune-experiment", cls=Grouped)(prune_experiment)

    @app.callback()
    def _about(version: Version = False) -> None:
        """Which heads and neurons, block by block, a vision transformer's decision hangs on."""

    return app


def main() -> None:
    """neuronpath: its commands."""
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    run(application(), "neuronpath")


def find_path_main() -> None:
    """find-path."""
    run(command(find_path), "find-path")


def prune_experiment_main() -> None:
    """prune-experiment."""
    run(command(prune_experiment), "prune-experiment")


def run(app: typer.Typer, name: str) -> None:
    """Run a command to its exit code; what the caller can mend is one line on stderr and code 2, and so is a warning, without one."""
    prepare(name)
    if any(word == "" or (word.startswith("--") and word.endswith("=")) for word in sys.argv[1:]):
        fail(name, "an argument is empty; expected a name or a value")  # Path("") would be the present folder
    printed = StringIO()
    try:
        with redirect_stdout(printed):
            code = app(prog_name=name, standalone_mode=False)
    except (KeyboardInterrupt, Stopped):
        interrupted(name)
    except InputError as error:
        fail(name, str(error))
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's usage errors have it, whichever click they come from
            raise
        fail(name, error.format_message().replace("Value error, ", ""))
    if code == INTERRUPTED:  # typer's answer to Ctrl-C
        interrupted(name)
    fault = put(printed.getvalue())
    if isinstance(fault, BrokenPipeError):  # nobody reads on
        sys.exit(PIPE_CLOSED)
    if fault:
        fail(name, f"what was found can't be printed: {fault.strerror}")
    sys.exit(code if isinstance(code, int) else DONE)


def fail(name: str, message: str) -> NoReturn:
    """End with one line; after Ctrl-C with that which says so, for a library may have made an error of its own of it."""
    if stops:
        interrupted(name)
    say(f"{name}: {message}")
    sys.exit(BAD_INPUT)
