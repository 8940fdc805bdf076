"""The errors that a caller can mend: one line that names the thing and what was expected."""


class InputError(ValueError):
    """Something the caller gave can't be used. The message is one line, fit to be shown as it is."""


class InputTypeError(InputError, TypeError):
    """Something the caller gave is of the wrong kind altogether (a model that is no ViT, images that are no tensor)."""
