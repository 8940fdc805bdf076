"""What the default path takes: of heads and neurons, and of neurons alone, by baseline and effort, beside random ones.

    python benchmarks/default_path.py --limit 200                                the embedded digits
    python benchmarks/default_path.py --model NAME --folder FOLDER --limit 200
    python benchmarks/default_path.py --source mine.py                           mine.py defines load() -> (model, images, others)

"takes": the share of the target's probability that ablating the path takes; "flips": the share of decisions that change; "random
takes": the same of one random path an image; "negative": the share of units of negative attribution; "nodes": of the quadrature. Means
over images with 95 % bootstrap intervals. The model and images are chosen as in benchmarks/scoreboard.py.
"""

import sys

from common import from_options, load, options, report

import neuronpath as nph
from neuronpath.jobs.benchmark.table import mean_of


def main() -> None:
    parser = options(__doc__)
    from_options(parser)
    parser.add_argument("--efforts", nargs="+", default=["standard", "thorough"])
    chosen = parser.parse_args()
    model, images, others = load(parser, chosen)
    model.to(chosen.device)
    images, reference = images[: chosen.limit].to(chosen.device), others[: chosen.reference].to(chosen.device)
    rows = []
    for units in ("both", "neurons"):
        for baseline, given in (("zero", None), ("mean", reference)):
            for effort in chosen.efforts if units == "both" else ["standard"]:
                paths = nph.find_path(model, images, units=units, reference=given, effort=effort)
                taken, random = (1 - left / paths.probability for left in (paths.left, paths.random_left))
                figures = {"takes": taken, "flips": paths.decision_flipped, "random takes": random}
                rows.append(
                    {"units": units, "baseline": baseline, "effort": effort, "n": len(paths)}
                    | {name: mean_of(values.double().numpy()) for name, values in figures.items()}
                    | {
                        "negative": (paths.attribution < 0).float().mean().item(),
                        "nodes": paths.n_steps.float().mean().item(),
                        "sweeps": paths.sweeps.float().mean().item(),
                        "converged": paths.converged.float().mean().item(),
                    }
                )
                print(rows[-1], file=sys.stderr)
    report(f"The default path of {len(images)} images", rows, chosen.out, chosen.device)


if __name__ == "__main__":
    main()
