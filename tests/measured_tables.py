"""The rows of the docs' tables, made from what the benchmarks wrote: ``python tests/measured_tables.py`` prints them.

docs/measured holds a JSON of every run, ``--out`` of its benchmark.
"""

import json
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
MEASURED = DOCS / "measured"
METHODS = {
    "live": '`method="live"`, the default',
    "joint": '`method="joint"`',
    "thorough": '`method="joint"`, `effort="thorough"`',
    "causal": '`method="causal"`, all figures',
    "causal, path and check": '`method="causal"`, path and check alone',
    "progressive": '`preset="progressive"`',
    "paper": '`preset="paper"`',
    "live, recursive": "the default path of the same model with 4 blocks in a loop",
    "textbook": "a naive implementation of the paper (`tests/textbook.py`)",
    "captum LayerConductance": "captum's `LayerConductance`, 10 steps, all blocks",
    "captum LayerIntegratedGradients": "captum's `LayerIntegratedGradients`, 10 steps, all blocks",
}
RANKINGS = {
    "growth": "`rank_units` by growth",
    "integrated": '`by="integrated"` (EAP-IG\'s manner)',
    "gates": '`by="gates"` (attribution patching)',
}


def rows_of(file: str) -> list[dict]:
    return json.loads((MEASURED / f"{file}.json").read_text())["rows"]


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def multiple(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(value: float, digits: int = 0) -> str:
    return f"{100 * value:.{digits}f} %"


def cost() -> Iterator[str]:
    cells = {
        (row["method"], row["model"], row["images"]): "{} ({} to {})".format(
            *(multiple(row[figure]) for figure in ("F+B", "least", "most"))
        )
        for row in rows_of("cost")
    }
    models = list(dict.fromkeys(key[1:] for key in cells))
    yield line("", *(f"{model}, {images} images" for model, images in models))
    for method in dict.fromkeys(key[0] for key in cells):
        yield line(METHODS[method], *(cells.get((method, *model), "") for model in models))


def quality(file: str, label: str) -> Iterator[str]:
    for row in rows_of(file):
        if row["method"] in ("joint", "joint, thorough", "joint, complete", "causal"):
            yield line(
                f"{label}: {row['method']}", row["score / paper's"], percent(row["not lower"]), row["removal / paper's"]
            )


def circuits(file: str, label: str) -> Iterator[str]:
    for row in rows_of(file):
        heads = f"{row['heads, median']:.0f}"
        shares = (f"{row[name]:.2f}" for name in ("alone", "random alone", "rechecked", "left", "random left"))
        yield line(f"{label}, {row['n']}", row["criterion"], percent(row["found"]), f"{row['units, median']:,.0f}", heads,
                   f"{row['F+B, median']:.0f}", *shares, percent(row["flips"]))  # fmt: skip


def default_path(file: str, label: str) -> Iterator[str]:
    for row in rows_of(file):
        takes, flips, random = (
            "{} % [{}, {}]".format(*(round(100 * figure) for figure in row[name]))
            for name in ("takes", "flips", "random takes")
        )
        what = row["baseline"] + ", neurons alone" * (row["units"] == "neurons")
        what += ', `effort="thorough"`' * (row["effort"] == "thorough")
        yield line(
            f"{label}, {row['n']}", what, takes, flips, random, percent(row["negative"], 1), f"{row['nodes']:.0f}"
        )


def scoreboard(file: str) -> Iterator[str]:
    def shown(figures: tuple[float, float, float], form: str, unit: str = "") -> str:
        value, low, high = (format(round(100 * figure) if unit else figure, form) for figure in figures)
        return f"{value}{unit} [{low}, {high}]"

    for row in json.loads((MEASURED / f"{file}.json").read_text())["figures"]:
        method, kind = row["method"], row["kind"]
        called = RANKINGS.get(method, method) if kind == "ranking" else f"{kind}: {method}"
        yield line(called, shown(row["cpr"], ".2f"), shown(row["cmd"], ".3f"), shown(row["log_cpr"], ".2f"), shown(row["k90"], ",.0f"),
                   shown(row["k_flip"], ",.0f"), shown(row["takes"], ".0f", " %"), percent(row["flips"][0]))  # fmt: skip


def planted() -> Iterator[str]:
    for row in rows_of("planted"):
        kind, _, name = row["method"].partition(" ")
        called = {"path:": f"path: {name}", "ranking:": f'`rank_units(by="{name}")`'}
        cells = []
        for plant in ("chain", "carrier", "redundant"):
            whole = row.get(f"{plant}: whole")
            cells += [
                row[f"{plant}: recall at size"],
                "" if whole is None else f"{whole:.2f} / {row[f'{plant}: precision']:.2f}",
            ]
        yield line(called.get(kind, f'`find_circuit(criterion="{name}")`'), *cells)


def features(file: str, label: str) -> Iterator[str]:
    for called, row in zip((f"{label}: on paths", "random units"), rows_of(file), strict=True):
        above, top, random, score = (f"{row[name]:.2f}" for name in ("made / best real", "top", "random", "AUROC"))
        named, favourites = (percent(row[name]) for name in ("named", "favourites"))
        yield line(called, percent(row["made"]), above, top, random, row["lead"], named, score, favourites)


def cost_of_suite(file: str) -> Iterator[str]:
    (table,) = json.loads((MEASURED / f"{file}.json").read_text())["tables"]
    for row in table["rows"]:
        yield line(row["name"], row["images"], "{} ({} to {})".format(*map(multiple, row["F+B"])))


TABLES = {  # name -> the page, and the table's rows in it
    "cost": ("performance", cost),
    "cost, ViT-S/14": ("performance", lambda: cost_of_suite("cost-vits14")),
    "quality, digits": ("performance", lambda: quality("quality", "digits, 360")),
    "quality, MNIST": ("performance", lambda: quality("quality-mnist", "MNIST")),
    "quality, ViT-S/14": ("performance", lambda: quality("quality-vits14", "ViT-S/14")),
    "circuits, digits": ("circuits", lambda: circuits("circuits", "digits")),
    "circuits, MNIST": ("circuits", lambda: circuits("circuits-mnist", "MNIST")),
    "circuits, ViT-S/14": ("circuits", lambda: circuits("circuits-vits14", "ViT-S/14")),
    "scoreboard, digits": ("faithfulness", lambda: scoreboard("scoreboard")),
    "scoreboard, MNIST": ("faithfulness", lambda: scoreboard("scoreboard-mnist")),
    "scoreboard, ViT-S/14": ("faithfulness", lambda: scoreboard("scoreboard-vits14")),
    "default path, digits": ("faithfulness", lambda: default_path("default_path", "digits")),
    "default path, MNIST": ("faithfulness", lambda: default_path("default_path-mnist", "ViT of MNIST")),
    "default path, ViT-S/14": ("faithfulness", lambda: default_path("default_path-vits14", "ViT-S/14 of CIFAR-10")),
    "planted": ("faithfulness", planted),
    "features, digits": ("features", lambda: features("features", "digits, 360")),
    "features, ViT-S/14": ("features", lambda: features("features-vits14", "DINOv2 ViT-S/14 on CIFAR-10, 400")),
}

if __name__ == "__main__":
    for name, (page, rows) in TABLES.items():
        print(f"\n{name}, docs/{page}.md\n")
        print("\n".join(rows()))
