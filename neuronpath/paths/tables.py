"""Small tables of text, a row an image: for a terminal, and as HTML for a notebook."""

import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd

from ..checks import printable
from ..units import Passes, Place, loop_ends

Columns = Mapping[str, Sequence[str]]  # the cells by the column's title


def as_text(columns: Columns, width: int | None = None, below: str = "path") -> str:
    """One line a row, under the titles; cells are escaped.

    Where a line would be wider than ``width``, the cells of the column ``below`` stand on lines of their own, each under its row.
    """
    titled = {title: [printable(cell) for cell in (title, *cells)] for title, cells in columns.items()}
    lines = _aligned(titled.values())
    if width is None or below not in titled or max(map(len, lines)) <= width:
        return "\n".join(lines)
    under = [
        textwrap.wrap(cell, max(width, 20), initial_indent="  ", subsequent_indent="  ") for cell in titled.pop(below)
    ]
    return "\n".join(line for row in zip(_aligned(titled.values()), under, strict=True) for line in (row[0], *row[1]))


def _aligned(titled: Iterable[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in titled]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in zip(*titled, strict=True)
    ]


def as_html(columns: Columns, heading: str, footing: str = "") -> str:
    """The table between two lines of text; everything escaped."""
    head = "".join(f'<th style="text-align: left">{escape(printable(title))}</th>' for title in columns)
    rows = (
        "".join(f'<td style="text-align: left">{escape(printable(cell))}</td>' for cell in row)
        for row in zip(*columns.values(), strict=True)
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    more = f"<p>{escape(footing)}</p>" if footing else ""
    return (
        f"<p>{escape(printable(heading))}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
    )


def names_of(images: Sequence[int] | np.ndarray | pd.Series, names: Sequence[str]) -> pd.Series:
    """A table's column of names, for rows of these images: of dtype object, for names of files needn't be UTF-8."""
    return pd.Series(np.array(names, dtype=object)[np.asarray(images, dtype=int)], dtype=object)


def path_text(
    places: Sequence[Place], units: Sequence[Sequence[int]], attribution: Sequence[Sequence[float]], passes: Passes = ()
) -> str:
    """One path, block by block: neurons as numbers, heads as h0, h1, ..., joined by "+"; those of negative attribution in brackets.

    Between two loops of a model whose blocks share weights stands "|".
    """
    ends = set(loop_ends(passes)[:-1])
    cells: dict[int, list[str]] = {}
    for place, row, worth in zip(places, units, attribution, strict=True):
        names = [f"h{unit}" if place.kind == "head" else str(unit) for unit in row]
        cells.setdefault(place.block, []).extend(f"({n})" if w < 0 else n for n, w in zip(names, worth, strict=True))
    return " ".join("+".join(cell) + " |" * (block in ends) for block, cell in cells.items())


def of_passes(passes: Passes, blocks: Sequence[int] | np.ndarray | pd.Series) -> dict[str, np.ndarray]:
    """A table's columns of loops and shared blocks for rows of these blocks; none for a model without loops."""
    if not passes:
        return {}
    loop, shared = np.array(passes)[np.asarray(blocks, dtype=int)].reshape(-1, 2).T
    return {"loop": loop, "shared_block": shared}


def without_common_folder(names: Sequence[str]) -> list[str]:
    """File names less the folders that they all share."""
    shared = os.path.commonpath(map(os.path.dirname, names)) if names and all(map(os.path.isabs, names)) else ""
    return [os.path.relpath(name, shared) if shared else name for name in names]


def names_apart(parts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The names of all parts, no two alike that come from different ones."""
    names = [name for part in parts for name in part]
    if len(parts) > 1 and all(list(part) == [str(i) for i in range(len(part))] for part in parts):
        return tuple(str(i) for i in range(len(names)))
    used, found = set[str](), list[str]()
    numbers: dict[str, int] = {}  # the last given to every name that came again
    for part in parts:
        own, called = set(part), dict[str, str]()
        for name in own & used:
            called[name] = name
            while called[name] in used or called[name] in own:
                numbers[name] = numbers.get(name, 1) + 1
                called[name] = f"{name} ({numbers[name]})"
        found += [called.get(name, name) for name in part]
        used.update(found[-len(part) :])
    return tuple(found)
