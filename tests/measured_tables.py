"""The rows of the docs' tables, made from what the benchmarks wrote: ``python tests/measured_tables.py`` prints them.

docs/measured holds a JSON of every run, ``--out`` of its benchmark.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import neuronpath as nph
from neuronpath.compression.cost import multiply_adds

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


def only(rows: Iterable[dict], **wanted: object) -> dict:
    """The one row that has these values."""
    (found,) = [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]
    return found


def said(page: str) -> str:
    """A page's text, or README's, its lines joined: sentences go on in the next one."""
    return " ".join((DOCS.parent / "README.md" if page == "README" else DOCS / f"{page}.md").read_text().split())


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def multiple(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def share(figures: Iterable[float]) -> str:
    """A mean and its interval, in %."""
    return "{} % [{}, {}]".format(*(round(100 * figure) for figure in figures))


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
        takes, flips, random = (share(row[name]) for name in ("takes", "flips", "random takes"))
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


def edges(file: str, label: str) -> Iterator[str]:
    for row in rows_of(file):
        if row["of"] == "path" and row["output"] == "log-odds":
            pearson = (f"{row[f'pearson, {name}']:.3f}" for name in ("median", "10th", "lowest"))
            called = label + ", mean" * (row["baseline"] == "mean")
            yield line(called, row["n"], f"{row['units, median']:.0f}", *pearson, percent(row["straight, median"]))


def edges_of_circuits(file: str, label: str) -> Iterator[str]:
    for row in rows_of(file):
        kind, _, where = row["of"].partition(", ")
        if kind == "circuit":
            pearson = (f"{row[f'pearson, {name}']:.3f}" for name in ("median", "lowest"))
            yield line(f"{label}, {where}", row["n"], f"{row['units, median']:.0f}", *pearson, percent(row["straight, median"]),
                       f"{row['sums, median']:.2f}")  # fmt: skip


def class_circuits() -> Iterator[str]:
    for row in rows_of("class_circuits"):
        shares = (
            percent(row[random + name][0])
            for name in ("keeps", "leaves", "flips", "says")
            for random in ("", "random ")
        )
        yield line(row["criterion"], f"{row['units, median']:.0f}", *shares)


def memory() -> Iterator[str]:
    for row in rows_of("memory"):
        yield line(
            f'`method="{row["method"]}"`', row["images"], row["nodes"] or "as many as needed", f"{row['peak MiB']:,.0f}"
        )


def pruned_speed() -> Iterator[str]:
    for row in rows_of("pruned_speed"):
        name = "dense" if row["from mask"] is None else row["model"]
        yield line(name, f"{row['parameters']:,}", f"{row['multiply-adds'] / 1e9:.2f} G", f"{row['ms a batch']:.0f}",
                   f"{row['times as fast']:.2f}")  # fmt: skip


def points(value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}"


def pruning(scope: str) -> Iterator[str]:
    """The leads over Taylor stand beside the accuracies."""
    runs = [row for row in json.loads((MEASURED / "pruning.json").read_text()) if row["scope"] == scope]
    for by in ("path", "complete", "causal", "taylor", "activation", "magnitude", "random"):
        cells = []
        for row in runs:
            if row["importance"] == by:
                lead = (
                    f" ({points(row['lead'], '+')} [{points(row['lead_low'])}, {points(row['lead_high'])}])"
                    if by != "taylor"
                    else ""
                )
                cells.append(points(row["accuracy"]) + lead)
        yield line(f"`{by}`", *cells)


def pruned_sizes() -> Iterator[str]:
    model, images, _ = nph.demo.load()
    whole = sum(weights.numel() for weights in model.parameters()), multiply_adds(model, images[:1])
    for row in json.loads((MEASURED / "pruning.json").read_text()):
        if (row["importance"], row["scope"]) == ("path", "block"):
            shares = [
                percent(row[name] / all_) for name, all_ in zip(("parameters", "multiply_adds"), whole, strict=True)
            ]
            yield line(row["keep"], f"{row['parameters']:,.0f} ({shares[0]})", f"{row['multiply_adds'] / 1e6:.1f} M ({shares[1]})",
                       f"{row['bytes'] / 1e6:.2f} MB", f"{row['speed']:.2f}")  # fmt: skip


def pruned_heads() -> Iterator[str]:
    rows = [row for row in rows_of("pruned_units") if row["units"] == "heads"]
    for by in dict.fromkeys(row["by"] for row in rows):
        yield line(f"`{by}`", *(points(row["accuracy"]) for row in rows if row["by"] == by))


def explorer() -> Iterator[str]:
    (row,) = rows_of("explorer")
    times = (f"{row[name]:.2f} s" for name in ("forward, s", "toggle, s", "slowest"))
    sizes = (f"{row[name] / 1000:.2f} GB" for name in ("MB before", "after 20 sessions", "after as many more"))
    yield line(*times, f"{row['path, s']:.0f} s", *sizes)


def data_sets() -> Iterator[str]:
    digits, photos = (
        only(rows_of(file), way=way)
        for file, way in (("data_sets", "run, tensors in memory"), ("data_sets-photos", "run, JPEG files"))
    )
    small, large = rows_of("engines")
    workers, (names,) = only(rows_of("scaling"), workers=64), rows_of("listing")
    waits = percent(photos["waits for images"], 1)
    for what, program, measured in (
        ("64 embedded digits: images a second, beside a loop of `find_path`", "data_sets.py", f"{digits['share of the loop']:.2f}"),
        ("the same of JPEGs of 500 kB, beside tensors in memory", "data_sets.py --model vit_tiny_patch16_224 --images 32 --batch 8 "
         "--method causal", f"{photos['share of the loop']:.2f}; {waits} of the time it waits for images"),
        (f"{large['images']:,} JPEGs of 32 x 32 pixels, a ViT of 2 blocks", "engines.py photos/ --engines local --limits 6000 60000",
         f"{large['images a second']:,.0f} images a second"),
        (f"peak memory, {small['images']:,} and {large['images']:,} of them", "",
         " and ".join(f"{each['peak MB']:.0f} MB" for each in (small, large))),
        ("64 workers that only sleep, whose shards are written, 2 s a shard", "scaling.py",
         f"{workers['slept, while all work']:.2f} of 64 times one, while all are at work"),
        ("the same on paper from start to end, 16 and 200 shards a worker", "",
         " and ".join(f"{workers[f'on paper, {each} shards each']:.2f}" for each in (16, 200))),
        ("writing a shard of 512 images and 24 sites, of random numbers", "",
         f"{workers['writing a shard, ms']:.0f} ms, {workers['bytes a row']:.0f} bytes an image"),
        ("listing a million images named in a file", "listing.py", f"{names['seconds']:.0f} s, {names['GB']:.1f} GB"),
    ):  # fmt: skip
        yield line(what, f"`{program}`" if program else "", measured)


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
    "edges, digits": ("edges", lambda: edges("edges", "digits")),
    "edges, MNIST": ("edges", lambda: edges("edges-mnist", "MNIST")),
    "edges, ViT-S/14": ("edges", lambda: edges("edges-vits14", "ViT-S/14")),
    "edges of circuits, digits": ("edges", lambda: edges_of_circuits("edges", "digits")),
    "edges of circuits, MNIST": ("edges", lambda: edges_of_circuits("edges-mnist", "MNIST")),
    "edges of circuits, ViT-S/14": ("edges", lambda: edges_of_circuits("edges-vits14", "ViT-S/14")),
    "class circuits": ("circuits", class_circuits),
    "pruning, of every block": ("pruning", lambda: pruning("block")),
    "pruning, of all": ("pruning", lambda: pruning("global")),
    "pruning, sizes": ("pruning", pruned_sizes),
    "pruning, heads": ("pruning", pruned_heads),
    "pruning, speed": ("pruning", pruned_speed),
    "explorer": ("explorer", explorer),
    "data sets": ("data-sets", data_sets),
    "memory": ("performance", memory),
    "features, digits": ("features", lambda: features("features", "digits, 360")),
    "features, ViT-S/14": ("features", lambda: features("features-vits14", "DINOv2 ViT-S/14 on CIFAR-10, 400")),
}

if __name__ == "__main__":
    for name, (page, rows) in TABLES.items():
        print(f"\n{name}, docs/{page}.md\n")
        print("\n".join(rows()))
