"""Circuits: sizes, cost and controls, for each criterion.

    python benchmarks/circuits.py --limit 60 --reference 400                   the embedded digits
    python benchmarks/circuits.py --model NAME --checkpoint FILE --folder FOLDER --limit 60
    python benchmarks/circuits.py --source mine.py                             mine.py defines load() -> (model, images, others)

Units are ablated to the mean over the first half of ``--reference`` other images; the other half rechecks. The model and images are
chosen as in benchmarks/scoreboard.py.
"""

from common import from_options, load, options, report

import neuronpath as nph


def main() -> None:
    parser = options(__doc__)
    from_options(parser)
    parser.add_argument("--criteria", nargs="+", choices=("keep", "break", "both"), default=("keep", "break", "both"))
    chosen = parser.parse_args()
    model, images, others = load(parser, chosen)
    model.to(chosen.device)
    images, reference = images[: chosen.limit].to(chosen.device), others[: chosen.reference].to(chosen.device)
    rows = []
    for criterion in chosen.criteria:
        found = nph.find_circuit(model, images, criterion=criterion, reference=reference, progress=True)
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
                "random left": (found.random_left / found.probability).mean().item(),
                "left": (found.left / found.probability).mean().item(),
                "wrong class found": len(wrong),
                "wrong class, median": wrong.median().item() if len(wrong) else float("nan"),
            }
        )
    n_units = sum(nph.view(model, "all", "both").widths)
    report(f"Circuits of {len(images)} images, of {n_units:,} units", rows, chosen.out, chosen.device)


if __name__ == "__main__":
    main()
