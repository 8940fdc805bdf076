"""The errors that a caller can mend, the checks that raise them, and the commands' exit codes.

A message is one line that names the thing and what was expected.
"""

from collections.abc import Sequence

DONE, SOME_LEFT_OUT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class InputError(ValueError):
    """Something the caller gave can't be used. The message is one line, fit to be shown as it is."""


class InputTypeError(InputError, TypeError):
    """Something the caller gave is of the wrong kind altogether (a model that is no ViT, images that are no tensor)."""


def check_one_of(argument: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices:
        raise InputError(f"{argument} {value!r} is unknown; expected one of {', '.join(map(repr, choices))}")


def check_count(argument: str, value: object, least: int = 1) -> None:
    """Refuse what is no whole number, or a lesser one."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{argument} is {value!r}; expected a whole number of at least {least}")
