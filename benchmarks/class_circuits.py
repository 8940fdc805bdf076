"""One circuit a class: what it does on images that it wasn't found on and on other classes', beside random units.

    python benchmarks/class_circuits.py            the embedded digits: all 360

Means over the classes, with 95 % bootstrap intervals over these, of the shares of p and of decisions. "says": the circuit alone has the
model say its class for images of other classes.
"""

import sys

import torch
from common import options, report

import neuronpath as nph
from neuronpath.jobs.benchmark.table import mean_of

FIGURES = {  # the images, the figure
    "keeps": ("held out", "kept"),
    "same": ("held out", "decision_kept"),
    "leaves": ("held out", "left"),
    "flips": ("held out", "decision_flipped"),
    "says": ("others", "says_class"),
}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--limit", type=int, default=360, help="images of the test")
    parser.add_argument(
        "--reference", type=int, default=400, help="images of the mean that units are ablated to: half of them"
    )
    parser.add_argument("--criteria", nargs="+", choices=("keep", "break", "both"), default=("keep", "both"))
    chosen = parser.parse_args()
    model, images, labels = nph.demo.load()
    model.to(chosen.device)
    images, labels = images[: chosen.limit], labels[: chosen.limit]
    reference = nph.demo.load("train")[1][: chosen.reference]
    images, reference = images.to(chosen.device), reference.to(chosen.device)
    rows = []
    for criterion in chosen.criteria:
        found = nph.class_circuit(model, images, labels, criterion=criterion, reference=reference, progress=True)
        tables = [circuit.figures.set_index(["circuit", "images", "figure"])["mean"] for circuit in found.values()]
        units = torch.tensor([float(len(circuit.units)) for circuit in found.values()])
        row = {"criterion": criterion, "classes": len(found), "n": len(images), "units, median": units.median().item()}
        for name, (which, figure) in FIGURES.items():
            for circuit in ("class", "random"):
                called = name if circuit == "class" else f"random {name}"
                row[called] = mean_of(torch.tensor([table[circuit, which, figure] for table in tables]).numpy())
        rows.append(row)
        print(row, file=sys.stderr)
    report(f"One circuit for each of {len(found)} classes", rows, chosen.out, chosen.device)


if __name__ == "__main__":
    main()
