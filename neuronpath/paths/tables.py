"""Paths as a small table, one row an image: as text for a terminal, as HTML for a notebook."""

import os
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # NeuronPaths shows itself by this file
    from .neuron_paths import NeuronPaths

ROWS = 20  # in a notebook, at most


def summary(paths: "NeuronPaths") -> dict[str, list[str]]:
    """The columns by their titles, B cells each."""
    return {
        "image": without_common_folder(paths.names),
        "predicted": [
            f"{paths.name_of(c)} {p:.3f}" if c >= 0 else ""
            for c, p in zip(paths.predicted.tolist(), paths.predicted_probability.tolist(), strict=True)
        ],
        "target": [paths.name_of(c) if c >= 0 else "" for c in paths.target.tolist()],
        "path": [" ".join("+".join(map(str, block)) for block in path) for path in paths.neurons.tolist()],
        "score": [f"{score:.4g}" for score in paths.score.tolist()],
        "attribution": [f"{a:.4g}" for a in paths.attribution.sum((1, 2)).tolist()],
        "relative delta": [f"{d:.0e}" for d in paths.relative_delta.tolist()],
    }


def table(paths: "NeuronPaths") -> str:
    """One line an image, as text."""
    columns = [[title, *cells] for title, cells in summary(paths).items()]
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in zip(*columns, strict=True)
    )


def html_table(paths: "NeuronPaths") -> str:
    """One row an image, up to 20 of them, as HTML; everything escaped."""
    columns = summary(paths[:ROWS])
    head = "".join(f'<th style="text-align: left">{escape(title)}</th>' for title in columns)
    rows = (
        "".join(f'<td style="text-align: left">{escape(cell)}</td>' for cell in row)
        for row in zip(*columns.values(), strict=True)
    )
    left_out = len(paths) - ROWS
    more = f"<p>and {left_out} more images</p>" if left_out > 0 else ""
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<p>{escape(repr(paths))}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def without_common_folder(names: Sequence[str]) -> list[str]:
    """File names less the folders that they all share."""
    shared = os.path.commonpath(map(os.path.dirname, names)) if names and all(map(os.path.isabs, names)) else ""
    return [os.path.relpath(name, shared) if shared else name for name in names]
