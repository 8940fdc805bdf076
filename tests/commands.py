"""What a command left behind, and what it must say when it refuses."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

import neuronpath as nph


def for_digits(arguments: Sequence[object]) -> list[str]:
    """A command's arguments as text; where files are named that are digits, and no model, the model that knows digits."""
    named = any(isinstance(argument, Path) for argument in arguments[:1]) and "--model" not in arguments
    return [*map(str, arguments), *(["--model", "demo"] if named else [])]


class Result(NamedTuple):
    code: int
    out: str
    err: str


def refused(result: Result, *words: str) -> None:
    """Exit code 2, nothing printed but one line on stderr that holds these words."""
    assert result.code == 2
    assert result.out == ""
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err


def draw_digits(folder: Path, first: int, count: int) -> None:
    """A new folder of held-out digits as pictures, 0.png and on."""
    folder.mkdir()
    for i, pixels in enumerate(nph.demo.load_pixels()[0][first : first + count]):
        Image.fromarray((pixels * 15).astype(np.uint8), "L").resize((32, 32)).save(folder / f"{i}.png")
