"""Tables drawn: what interventions do, by method, and what is left of accuracy as neurons are pruned."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..checks import checked
from .parts import LINE, MARKERS, SERIES, SMALL, TEXT, axes_for, check_frame, plain, tidy


@checked
def plot_deviation(frame: pd.DataFrame, ax: Axes | None = None, *, unit: str = "deviation") -> Figure:
    """What interventions change, as bars with their confidence intervals: a group a figure, a colour a method.

    Args:
        frame: a row for every method and figure, columns method, figure, mean, low, high; NaN where there is no interval.
        unit: the name of the scale.

    Methods and figures stand in the order of the table.
    """
    check_frame(frame, ("method", "figure", "mean", "low", "high"))
    methods, figures = list(frame["method"].unique()), list(frame["figure"].unique())
    wide = 0.8 / len(methods)
    figure, ax = axes_for(ax, (min(2.4 + 0.42 * len(methods) * len(figures) + 0.5 * len(figures), 15), 3.8))
    for at, method in enumerate(methods):
        rows = frame[frame["method"] == method].set_index("figure").reindex(figures)
        place = np.arange(len(figures)) + (at - (len(methods) - 1) / 2) * wide
        ends = np.stack([rows["mean"] - rows["low"], rows["high"] - rows["mean"]])
        ax.bar(place, rows["mean"], 0.9 * wide, color=SERIES[at % len(SERIES)], label=plain(method), yerr=ends, capsize=2.5,
               hatch="//" * (at // len(SERIES)), error_kw={"ecolor": "#333333", "elinewidth": 1.1})  # fmt: skip
    tidy(ax)
    ax.axhline(0, color=LINE, linewidth=0.8)
    ax.set_xticks(range(len(figures)), [textwrap.fill(plain(name), 18) for name in figures], fontsize=TEXT)
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel(plain(unit))
    ax.legend(frameon=False, fontsize=SMALL, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


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
