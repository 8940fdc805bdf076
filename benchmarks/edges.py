"""Edges of paths and circuits: how well their estimates agree with real patching, and how much goes straight to the output.

    python benchmarks/edges.py --limit 60                                       the embedded digits
    python benchmarks/edges.py --model NAME --folder FOLDER --limit 20 --circuits 3
    python benchmarks/edges.py --source mine.py                                 mine.py defines load() -> (model, images, others)

Of each image's default path, by baseline, and of its circuit that keeps, in the clean run and inside. "pearson": of an image's
estimates with real patching, over the edges between units; median, 10th percentile and lowest over the images with two edges or more
(n). "straight": the share of all effect, by size, that goes straight to the output. "sums": the correlation of a unit's edges' sum with
what it takes alone, median. "estimated", "patched": forwards of an image in the time that its graph takes. Images are chosen as in
benchmarks/scoreboard.py.
"""

import sys
from functools import partial

import torch
from common import from_options, load, options, report
from torch import Tensor, nn

import neuronpath as nph
from neuronpath.jobs.benchmark.timing import seconds


def median(values: list[float]) -> float:
    return torch.tensor(values, dtype=torch.double).nanmedian().item()


def figures(graph: nph.PathGraph) -> dict[str, float]:
    """Of the graphs of some images, patched for real."""
    pearson = graph.pearson[~graph.pearson.isnan()].double()
    sums = []
    for effects, total in zip(graph.effects, graph.total, strict=True):
        both = torch.stack([effects.double().nansum(1), total.double()])
        sums.append(torch.corrcoef(both)[0, 1].item() if len(total) > 1 else torch.nan)
    return {
        "n": len(pearson),
        "units, median": median([float(len(total)) for total in graph.total]),
        "pearson, median": median(pearson.tolist()),
        "pearson, 10th": pearson.quantile(0.1).item(),
        "pearson, lowest": pearson.min().item(),
        "straight, median": median(graph.straight.tolist()),
        "sums, median": median(sums),
    }


def forwards(model: nn.Module, images: Tensor, graph: partial[nph.PathGraph]) -> dict[str, float]:
    """What graphs of the images cost, in forwards of these."""

    def forward() -> None:
        with torch.no_grad():
            model(images)

    device = str(images.device)
    return {
        name: median([seconds(lambda c=check: graph(check=c), device) / seconds(forward, device) for _ in range(3)])
        for name, check in (("estimated", False), ("patched", True))
    }


def main() -> None:
    parser = options(__doc__)
    from_options(parser)
    parser.add_argument("--circuits", type=int, default=60, help="images whose circuits are patched too")
    chosen = parser.parse_args()
    model, images, others = load(parser, chosen)
    model.to(chosen.device)
    images, reference = images[: chosen.limit].to(chosen.device), others[: chosen.reference].to(chosen.device)
    rows = []

    def add(what: str, baseline: str, output: str, found: dict[str, float]) -> None:
        rows.append({"of": what, "baseline": baseline, "output": output, **found})
        print(rows[-1], file=sys.stderr)

    for baseline, given in (("zero", None), ("mean", reference)):
        paths = nph.find_path(model, images, reference=given, n_steps=4)
        for output in (None, "prob"):
            graph = partial(nph.path_graph, model, images, paths, reference=given, output=output)
            found = figures(graph(check=True))
            found |= forwards(model, images, graph) if (baseline, output) == ("zero", None) else {}
            add("path", baseline, output or "log-odds", found)
    images = images[: chosen.circuits]
    circuits = nph.find_circuit(model, images, reference=reference)
    half = reference[: len(reference) // 2]  # what the circuits were found with; the other half rechecks them
    for what, inside in (("circuit, in the clean run", False), ("circuit, inside", True)):
        graph = nph.path_graph(model, images, circuits, reference=half, inside=inside, check=True)
        add(what, "mean", "log-odds", figures(graph))
    report(f"Edges of {len(paths)} paths and {len(circuits)} circuits", rows, chosen.out, chosen.device)


if __name__ == "__main__":
    main()
