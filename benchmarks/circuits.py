"""Circuits on the embedded digits: sizes, cost, controls, for each criterion.

    python benchmarks/circuits.py --images 60

Units are ablated to the mean over the first half of ``--reference`` training digits; the other half rechecks.
"""

from common import options, report

import neuronpath as nph


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--reference", type=int, default=400)
    chosen = parser.parse_args()
    model, images, _ = nph.demo.load()
    images, reference = images[: chosen.images], nph.demo.load("train")[1][: chosen.reference]
    rows = []
    for criterion in ("keep", "break", "both"):
        found = nph.find_circuit(
            model.to(chosen.device), images, criterion=criterion, reference=reference, progress=True
        )
        wrong = found.wrong_class_size[found.wrong_class_size >= 0].float()
        rows.append(
            {
                "criterion": criterion,
                "n": len(found),
                "found": found.found.float().mean().item(),
                "units, median": found.size.float().median().item(),
                "units, mean": found.size.float().mean().item(),
                "heads, median": found.heads.float().median().item(),
                "F+B, median": found.cost.median().item(),
                "alone": (found.kept / found.probability).mean().item(),
                "random alone": (found.random_kept / found.probability).mean().item(),
                "rechecked": (found.rechecked / found.probability).mean().item(),
                "flips": found.decision_flipped.float().mean().item(),
                "wrong class, median": wrong.median().item() if len(wrong) else float("nan"),
            }
        )
    report("Circuits on held-out digits", rows, chosen.out, chosen.device)


if __name__ == "__main__":
    main()
