"""What a comparison of smaller models has found: a table with intervals, and a figure."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from ...files import write_whole
from ...plots import plot_pruning
from ..pruning.tables import resampled

RESULTS = ("results.csv", "results.json", "figure.png")


def table_of(rows: pd.DataFrame, n_test: int) -> pd.DataFrame:
    """A line a model: its sizes as shares of the whole one's, its speed in times the whole one's, 95 % intervals of the accuracy."""
    whole = rows[rows["method"] == "as it is"].iloc[0]
    low, high = zip(*(np.quantile(resampled([w], n_test), [0.025, 0.975]) for w in rows["wrong"]), strict=True)
    return pd.DataFrame(
        {
            **{name: rows[name] for name in ("method", "share", "distilled", "accuracy")},
            "low": low,
            "high": high,
            **{name: rows[name] for name in ("agreement", "kl")},
            **{name: rows[name] / whole[name] for name in ("parameters", "bytes", "multiply_adds")},
            "speed": rows["latency_whole_s"] / rows["latency_s"],
        }
    )


def write_results(rows: pd.DataFrame, folder: str | os.PathLike, n_test: int) -> pd.DataFrame:
    """Write results.csv, results.json and figure.png, each whole, over those of an earlier time; gives the table."""
    folder = Path(folder)
    table = table_of(rows, n_test)
    small = table[table["method"] != "as it is"]
    figure = plot_pruning(
        small.rename(columns={"method": "importance", "parameters": "keep", "distilled": "recovered"})
    )
    ax = figure.axes[0]
    ax.axhline(table["accuracy"].iloc[0], color="black", linewidth=0.8, linestyle=":")
    ax.set_xlabel("parameters, as a share of the model's")
    runs = rows.drop(columns="wrong").to_json(orient="records", indent=1)
    write_whole(folder / RESULTS[0], lambda part: table.to_csv(part, index=False), overwrite=True)
    write_whole(folder / RESULTS[1], lambda part: part.write_text(runs + "\n"), overwrite=True)
    write_whole(folder / RESULTS[2], lambda part: figure.savefig(part, dpi=150), overwrite=True)
    return table
