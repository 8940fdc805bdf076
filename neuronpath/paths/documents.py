"""Results as JSON: a format, its version, and the rest; written whole, and refused in one line where damaged."""

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from ..checks import InputError
from ..files import write_whole

T = TypeVar("T")


def write_document(path: str | os.PathLike, document: dict[str, Any], overwrite: bool = False) -> Path:
    """Write a document whole or not at all; refuses an existing file unless ``overwrite``."""
    text = json.dumps(document, indent=1, allow_nan=False)
    return write_whole(path, lambda part: part.write_text(text + "\n", encoding="utf-8"), overwrite)


def read_document(
    path: str | os.PathLike, kind: str, versions: Collection[int], writer: str, make: Callable[[dict[str, Any]], T]
) -> T:
    """What ``make`` makes of a document of this format and of one of these versions, which ``writer`` wrote."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path} is damaged or no JSON at all; expected a file that {writer} wrote") from None
    if not isinstance(document, dict) or document.get("format") != kind:
        raise InputError(f"{path} holds no {kind}; expected a file that {writer} wrote")
    if document.get("version") not in versions:
        raise InputError(
            f"{path} is of version {document.get('version')!r}; this neuronpath reads {' and '.join(map(str, versions))}"
        )
    try:
        return make(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}); expected a whole file") from None
