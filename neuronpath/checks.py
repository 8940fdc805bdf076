"""The errors that a caller can mend: one line that names the thing and what was expected. And the commands' exit codes."""

DONE, SOME_LEFT_OUT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class InputError(ValueError):
    """Something the caller gave can't be used. The message is one line, fit to be shown as it is."""


class InputTypeError(InputError, TypeError):
    """Something the caller gave is of the wrong kind altogether (a model that is no ViT, images that are no tensor)."""
