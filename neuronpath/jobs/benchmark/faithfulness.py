"""The suite faithfulness: what paths take, how small circuits are, and what rankings keep; three runs, a folder each."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ...models.view import view
from ..run import run
from .asked import Asked
from .table import Row, Table, mean_of, median_of

RUNS = ("paths", "circuits", "rankings")
BY = ("growth", "integrated", "gates")
AT_ONCE = 32  # images of a shard, so that little is lost when it is stopped


def faithfulness(asked: Asked) -> list[Table]:
    """Its tables."""
    among: dict[str, Any] = {} if asked.reference is None else {"reference": asked.reference}
    go: Any = partial(run, asked.images, asked.model, progress=asked.progress, shard_size=AT_ONCE, **among)
    paths, circuits, rankings = (asked.folder / name for name in RUNS)
    effects = go(paths, "evaluate", methods=list(asked.methods), target=asked.target).to_frame()
    found = list(go(circuits, "find_circuit", criterion="keep"))
    ranks = go(rankings, "faithfulness", by=list(BY)).to_frame()
    n_units = sum(view(asked.model, "all", "both").widths)
    figures = {
        "found": lambda part: part.found,
        "units, median": lambda part: part.size,
        "of them heads": lambda part: part.heads,
        "of all units": lambda part: part.size / n_units,
        "alone": lambda part: part.kept / part.probability,
        "random alone": lambda part: part.random_kept / part.probability,
        "F+B": lambda part: part.cost,
    }
    means = ("found", "alone", "random alone")
    circuit: Row = {"circuit": "keep", "images": str(sum(map(len, found)))}
    for name, figure in figures.items():
        values = np.concatenate([figure(part).double().numpy() for part in found])
        circuit[name] = mean_of(values) if name in means else median_of(values)
    others = "zero" if asked.reference is None else f"the mean over {len(asked.reference)} other images"
    return [
        Table(
            f"Removing a path; units are ablated to {others}",
            [_path(method, rows) for method, rows in effects.groupby("method", sort=False)],
            {"takes of p": "%", "flips": "%"},
            "takes of p",
        ),
        Table(
            f"The fewest of {n_units:,} units that keep the decision alone",
            [circuit],
            {"units, median": ",.0f", "of them heads": ",.0f", "of all units": ".2%", "F+B": ".0f"}
            | dict.fromkeys(means, "%"),
            "alone",
        ),
        Table(
            "Rankings of all units",
            [_ranking(name, ranks) for name in BY],
            {"k90, median": ",.0f", "k_flip, median": ",.0f"}
            | dict.fromkeys(("CPR", "CMD", "log-CPR", "below growth"), ".3f"),
            "log-CPR",
        ),
    ]


def _path(method: str, rows: pd.DataFrame) -> Row:
    """What removing a method's paths takes, and how many decisions change."""
    figures = {"takes of p": -rows["probability_removed_relative"], "flips": rows["flips"]}
    return {"path": method, "images": str(len(rows))} | {n: mean_of(v.to_numpy()) for n, v in figures.items()}


def _ranking(name: str, rows: pd.DataFrame) -> Row:
    """A ranking's figures, and how far its log-CPR is below that of growth, image by image."""
    own, first = (rows[rows["ranking"] == by].set_index("id") for by in (name, BY[0]))
    row: Row = {"ranking": name, "images": str(len(own))}
    for column, title in (("cpr", "CPR"), ("cmd", "CMD"), ("log_cpr", "log-CPR")):
        row[title] = mean_of(own[column].to_numpy())
    row["below growth"] = None if name == BY[0] else mean_of((first["log_cpr"] - own["log_cpr"]).to_numpy())
    return row | {f"{column}, median": median_of(own[column].to_numpy()) for column in ("k90", "k_flip")}
