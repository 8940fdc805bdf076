"""A table of figures: as Markdown, as JSON, and drawn."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ...files import write_whole
from ...paths.intervals import RESAMPLES, intervals, resampled
from ...plots.parts import BLUE, LINE, TEXT, plain, tidy

Value = str | float | None | tuple[float, float, float]  # a text, a number, or one with the ends of its interval
Row = dict[str, Value]


@dataclass(frozen=True)
class Table:
    """Rows of figures; ``forms`` says how a column's numbers are shown, "%" as percentages; ``drawn`` which column a picture shows."""

    title: str
    rows: list[Row]
    forms: Mapping[str, str]
    drawn: str


def mean_of(values: np.ndarray) -> tuple[float, float, float]:
    """The mean over images (n,), and the ends of its 95 % bootstrap interval."""
    low_high = intervals(values.astype(float))
    return float(low_high[0]), float(low_high[1]), float(low_high[2])


def median_of(values: np.ndarray) -> tuple[float, float, float]:
    """The same of the median."""
    low, high = np.quantile(resampled(values, statistic=np.median), [0.025, 0.975])
    return float(np.median(values)), float(low), float(high)


def cell(value: Value, form: str = "") -> str:
    """A figure as text: ``80 % [75, 84]``."""
    if value is None or isinstance(value, str):
        return value or ""
    each = value if isinstance(value, tuple) else (value,)
    if not np.isfinite(each[0]):
        return "-"
    shown = [f"{100 * number:.0f}" if form == "%" else format(number, form or ".3g") for number in each]
    unit = " %" if form == "%" else ""
    return shown[0] + unit + (f" [{shown[1]}, {shown[2]}]" if len(shown) == 3 else "")


def as_markdown(tables: Sequence[Table], about: Mapping[str, Any]) -> str:
    """All tables, and what made them."""
    parts = [f"`{about['command']}`" if about.get("command") else ""]
    for table in tables:
        columns = list(dict.fromkeys(name for row in table.rows for name in row))
        lines = [
            columns,
            ["---"] * len(columns),
            *([cell(row.get(name), table.forms.get(name, "")) for name in columns] for row in table.rows),
        ]
        parts.append(f"{table.title}\n\n" + "\n".join(f"| {' | '.join(escaped(c) for c in line)} |" for line in lines))
    made = ", ".join(f"{name} {value}" for name, value in about["machine"].items())
    parts.append(f"Intervals are 95 % bootstrap intervals over images, {RESAMPLES} resamples. Made by {made}.")
    return "\n\n".join(filter(None, parts)) + "\n"


def escaped(text: str) -> str:
    """A text that can't end its cell."""
    return plain(text).replace("|", "\\|")


def draw(tables: Sequence[Table]) -> Figure:
    """Each table's main figure as bars with their intervals, a row a bar."""
    heights = [0.34 * len(table.rows) + 0.9 for table in tables]
    figure = Figure(figsize=(7.2, sum(heights)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(tables), 1, gridspec_kw={"height_ratios": heights}))
    for ax, table in zip(axes, tables, strict=True):
        form = table.forms.get(table.drawn, "")
        scale = 100.0 if form == "%" else 1.0
        for at, row in enumerate(table.rows):
            value = row.get(table.drawn)
            if isinstance(value, str | None):
                continue
            mean, low, high = (scale * each for each in (value if isinstance(value, tuple) else (value,) * 3))
            ax.barh(at, mean, 0.7, color=BLUE, xerr=[[mean - low], [high - mean]], capsize=2.5,
                    error_kw={"ecolor": "#333333"})  # fmt: skip
            ax.annotate(
                cell(value, form), (max(high, 0), at), (5, 0), textcoords="offset points", va="center", fontsize=TEXT
            )
        ax.set_yticks(
            range(len(table.rows)), [plain(str(next(iter(row.values())))) for row in table.rows], fontsize=TEXT
        )
        ax.set_ylim(len(table.rows) - 0.4, -0.6)
        ax.margins(x=0.3)
        ax.axvline(0, color=LINE, linewidth=0.8)
        ax.set_xlabel(table.drawn + (" (%)" if form == "%" else ""), fontsize=TEXT)
        tidy(ax)
    return figure


def write(folder: Path, tables: Sequence[Table], about: Mapping[str, Any]) -> list[Path]:
    """table.md, table.json and figure.png; those of the same benchmark are replaced."""
    files = [folder / name for name in ("table.md", "table.json", "figure.png")]
    text = json.dumps({**about, "tables": [asdict(table) for table in tables]}, indent=1)
    write_whole(files[0], lambda part: part.write_text(as_markdown(tables, about), encoding="utf-8"), overwrite=True)
    write_whole(files[1], lambda part: part.write_text(text + "\n", encoding="utf-8"), overwrite=True)
    write_whole(files[2], draw(tables).savefig, overwrite=True)
    return files
