"""Tables drawn: what interventions do, by method, and what is left of accuracy as neurons are pruned."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..checks import InputError, check_one_of, checked
from .parts import LINE, MARKERS, SERIES, SMALL, TEXT, Picture, axes_for, check_frame, plain, tidy


@checked
def plot_deviation(
    frame: pd.DataFrame, ax: Axes | None = None, *, unit: str = "deviation", images: str = "all"
) -> Figure:
    """What interventions change, as bars with their confidence intervals: a group a figure, a colour a method, a panel a unit.

    Args:
        frame: the table of :func:`~neuronpath.evaluate`, or a choice of its rows; or one of your own, with a row for every method and
            figure, columns method, figure, mean, low, high; NaN where there is no interval.
        ax: where to draw, for figures of one unit.
        unit: the name of the scale, for a table without a column unit.
        images: of evaluate's table the rows that count: "all" images, those that the model gets "right", or "wrong".

    Methods and figures stand in the order of the table.
    """
    if "images" in frame:
        check_one_of("images", images, list(frame["images"].unique()))
        frame = frame[frame["images"] == images]
    frame = frame if "unit" in frame else frame.assign(unit=unit)
    check_frame(frame, ("method", "figure", "mean", "low", "high"))
    parts = [part for _, part in frame.dropna(subset="mean").groupby("unit", sort=False)]
    if not parts:
        raise InputError("frame has no mean that is a number; expected at least one")
    methods = list(frame["method"].unique())
    if ax is None:
        widths = [1 + 0.3 * len(part) + 0.5 * part["figure"].nunique() for part in parts]
        whole: Figure = Picture(figsize=(min(1.4 + sum(widths), 16), 3.8), layout="constrained")
        places = list(whole.subplots(1, len(parts), squeeze=False, width_ratios=widths)[0])
    elif len(parts) == 1:
        whole, places = axes_for(ax, (0, 0))[0], [ax]
    else:
        names = ", ".join(map(str, frame["unit"].unique()))
        raise InputError(f"ax is one scale, and the figures are of several units ({names}); expected figures of one")
    for place, part in zip(places, parts, strict=True):
        _bars(place, part, methods)
    places[-1].legend(frameon=False, fontsize=SMALL, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return whole


def _bars(ax: Axes, frame: pd.DataFrame, methods: list[str]) -> None:
    """The figures of one unit."""
    figures = list(frame["figure"].unique())
    wide = 0.8 / len(methods)
    for at, method in enumerate(methods):
        rows = frame[frame["method"] == method].set_index("figure").reindex(figures)
        place = np.arange(len(figures)) + (at - (len(methods) - 1) / 2) * wide
        ends = np.stack([rows["mean"] - rows["low"], rows["high"] - rows["mean"]])
        ax.bar(place, rows["mean"], 0.9 * wide, color=SERIES[at % len(SERIES)], label=plain(method), yerr=ends, capsize=2.5,
               hatch="//" * (at // len(SERIES)), error_kw={"ecolor": "#333333", "elinewidth": 1.1})  # fmt: skip
    tidy(ax)
    ax.axhline(0, color=LINE, linewidth=0.8)
    named = [textwrap.fill(plain(name).replace("_", " "), 12) for name in figures]
    ax.set_xticks(range(len(figures)), named, fontsize=TEXT)
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel(plain(frame["unit"].iloc[0]))


@checked
def plot_pruning(frame: pd.DataFrame, ax: Axes | None = None, *, log: bool = False) -> Figure:
    """Accuracy against the share of neurons that is kept, a curve for each way to rank them, with confidence intervals.

    Args:
        frame: a row for every importance and share, columns importance, keep (0 to 1), accuracy, low, high (0 to 1); where there is
            a column recovered (bool), the curves of recovered models are dashed.
        log: shares that halve stand at equal distances, and each is named; else the scale is linear.
    """
    frame = frame if "recovered" in frame else frame.assign(recovered=False)
    check_frame(frame, ("importance", "keep", "recovered", "accuracy", "low", "high"))
    figure, ax = axes_for(ax, (6.2, 3.8))
    names = list(frame["importance"].unique())
    for key, rows in frame.groupby(["recovered", "importance"], sort=False):
        recovered, name = bool(key[0]), key[1]
        rows, at = rows.sort_values("keep"), names.index(name)
        aside = 1 + 0.02 * log * (at + 0.5 * recovered - (len(names) - 1) / 2)  # so that intervals stand side by side
        ends = np.stack([rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]])
        ax.errorbar(rows["keep"] * aside, rows["accuracy"], yerr=ends, color=SERIES[at % len(SERIES)], linewidth=1.4,
                    elinewidth=0.9, marker=MARKERS[at % len(MARKERS)], markersize=5.5, markeredgecolor="white",
                    linestyle="--" if recovered else "-", label=plain(name) + (", recovered" if recovered else ""))  # fmt: skip
    tidy(ax)
    ax.grid(axis="y", color="#eeeeee")
    ax.set_axisbelow(True)
    if log:
        shares = sorted(frame["keep"].unique())
        ax.set_xscale("log", base=2)
        ax.set_xlim(shares[0] / 1.3, shares[-1] * 1.3)
        ax.set_xticks(shares, [f"{100 * share:.3g}%" for share in shares])
        ax.minorticks_off()
    else:
        ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="neurons kept", ylabel="accuracy")
    ax.legend(
        frameon=False,
        fontsize=SMALL,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        title="kept by",
        title_fontsize=SMALL,
    )
    return figure
