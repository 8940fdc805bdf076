"""What an experiment has found, summed up: mean accuracies, their intervals, their lead over Taylor, and a figure."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...files import write_whole
from ...plots import plot_pruning
from ...plots.parts import BLUE, LINE, TEXT, tidy

GROUP = ["importance", "scope", "keep", "recovered"]
LEAD = ("lead", "lead_low", "lead_high")
RESULTS = ("runs.csv", "summary.csv", "summary.json", "figure.png")  # the files of an experiment's results
TIMES = ("latency_dense_s", "latency_s", "time_s", "speed")  # what differs from one run of the same plan to the next


def summary(rows: pd.DataFrame, n_test: int) -> pd.DataFrame:
    """A line for each importance, scope, share kept and recovery, over all seeds.

    ``low`` and ``high`` bound 95 % of the bootstrap over seeds and test images; ``lead`` is the accuracy less that of "taylor" (in
    the same samples: a paired difference), with its bounds. ``speed`` is the median of dense over pruned latency.
    """
    if "k" in rows:
        return rows.groupby(["k", "masked", "kept"], as_index=False)[["accuracy", "others_taken_for_it"]].mean()
    draws = {key: resampled(list(part["wrong"]), n_test) for key, part in rows.groupby(GROUP)}
    lines = []
    for key, part in rows.groupby(GROUP, sort=False):
        by, *rest = key
        taylor = ("taylor", *rest)
        line = dict(zip(GROUP, key, strict=True)) | {
            "accuracy": part["accuracy"].mean(),
            "low": np.quantile(draws[key], 0.025),
            "high": np.quantile(draws[key], 0.975),
        }
        if taylor in draws:
            reference = rows[(rows[GROUP] == list(taylor)).all(axis=1)]
            lead = draws[key] - draws[taylor]
            found = (part["accuracy"].mean() - reference["accuracy"].mean(), *np.quantile(lead, [0.025, 0.975]))
            line |= dict(zip(LEAD, found if by != "taylor" else [np.nan] * 3, strict=True))
        figures = {name: part[name].mean() for name in ("parameters", "multiply_adds", "bytes")}
        lines.append(line | figures | {"speed": (part["latency_dense_s"] / part["latency_s"]).median()})
    return pd.DataFrame(lines)


def plot_summary(table: pd.DataFrame, dense: float) -> Figure:
    """Accuracy over the share kept, a panel for each scope; bars are the intervals."""
    scopes = list(dict.fromkeys(table["scope"]))
    figure = Figure(figsize=(2.2 + 4 * len(scopes), 4.2), layout="constrained")
    for ax, scope in zip(np.atleast_1d(figure.subplots(1, len(scopes), sharey=True)), scopes, strict=True):
        ax.axhline(dense, color="black", linewidth=0.8, linestyle=":", label="not pruned")
        plot_pruning(table[table["scope"] == scope], ax, log=True)
        ax.set_title("the same share of every block" if scope == "block" else "of all neurons", fontsize=TEXT)
        if ax is not figure.axes[-1]:
            ax.get_legend().remove()
        if ax is not figure.axes[0]:
            ax.set_ylabel("")
    return figure


def plot_paper(table: pd.DataFrame) -> Figure:
    """Accuracy on the class's own images over the neurons kept, a panel for each share masked."""
    shares = sorted(set(table["masked"]))
    figure = Figure(figsize=(1 + 2.6 * len(shares), 3.2), layout="constrained")
    for ax, share in zip(np.atleast_1d(figure.subplots(1, len(shares), sharey=True)), shares, strict=True):
        for kept, colour, marker in (("path", BLUE, "o"), ("random", LINE, "X")):
            part = table[(table["masked"] == share) & (table["kept"] == kept)].sort_values("k")
            ax.plot(part["k"], part["accuracy"], color=colour, marker=marker, label=f"{kept} neurons kept")
        ax.set_xscale("log")
        ax.set_xticks(part["k"], [str(k) for k in part["k"]])
        ax.minorticks_off()
        ax.set_title(f"{share:.0%} of the others masked", fontsize=9)
        ax.set_xlabel("neurons kept a block")
        tidy(ax)
    figure.axes[0].set_ylabel("accuracy on the class's images")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def write_results(rows: pd.DataFrame, folder: str | os.PathLike, n_test: int, dense: float) -> pd.DataFrame:
    """Write runs.csv, summary.csv, summary.json and figure.png, each whole, over those of an earlier time; gives the summary."""
    folder = Path(folder)
    table = summary(rows, n_test)
    runs = rows.drop(columns=["wrong"], errors="ignore")
    figure = plot_paper(table) if "k" in rows else plot_summary(table, dense)
    write_whole(folder / "runs.csv", lambda part: runs.to_csv(part, index=False), overwrite=True)
    write_whole(folder / "summary.csv", lambda part: table.to_csv(part, index=False), overwrite=True)
    write_whole(folder / "summary.json", lambda part: table.to_json(part, orient="records", indent=1), overwrite=True)
    write_whole(folder / "figure.png", lambda part: figure.savefig(part, dpi=150), overwrite=True)
    return table


def resampled(wrong: Sequence[Sequence[int]], n_test: int, draws: int = 1000) -> np.ndarray:
    """Accuracies (draws,) of bootstrap samples over seeds and test images, the same samples for every call of these sizes."""
    right = np.ones((len(wrong), n_test))
    for row, indices in zip(right, wrong, strict=True):
        row[list(indices)] = 0
    draw = np.random.default_rng(0)
    seeds = draw.integers(0, len(right), (draws, len(right)))
    images = draw.integers(0, n_test, (draws, n_test))
    return np.array([right[s].mean(0)[i].mean() for s, i in zip(seeds, images, strict=True)])
