"""What smaller models still say, by several methods, of a model that a file of your own makes.

    python benchmarks/smaller.py --source mine.py --runs low-rank:0.45 recursive:0.56:4:sequence --calibration 100 400

``mine.py`` defines load() -> (model, images, others): images to test on, and others to fit on. A run is method:share, with the
number of shared blocks and the layout behind it for recursive. Without a source: the embedded digits. (neuronpath compress does more,
with a model that timm makes by its name.)
"""

import time

import torch
from common import from_options, load, options, report

from neuronpath.compression.sized import sized
from neuronpath.models.outputs import logits_of


def main() -> None:
    parser = options(__doc__)
    from_options(parser)
    parser.add_argument("--runs", nargs="+", default=["low-rank:0.45", "recursive:0.56", "recursive+low-rank:0.45"])
    parser.add_argument("--calibration", type=int, nargs="+", default=[100, 400])
    chosen = parser.parse_args()
    chosen.reference = max(chosen.calibration)
    model, images, others = load(parser, chosen)
    wanted = logits_of(model, images).log_softmax(-1)
    rows = []
    for run in chosen.runs:
        method, share, *more = run.split(":")
        unique, layout = (int(more[0]), more[1]) if more else (None, "cycle")
        for count in chosen.calibration:
            start = time.perf_counter()
            small = sized(model, method, float(share), others[:count], unique=unique, layout=layout)
            taken = time.perf_counter() - start
            said = logits_of(small, images).log_softmax(-1)
            sizes = [sum(p.numel() for p in one.parameters()) for one in (small, model)]
            rows.append(
                {
                    "run": run,
                    "calibration": count,
                    "parameters": sizes[0] / sizes[1],
                    "agreement": (said.argmax(-1) == wanted.argmax(-1)).double().mean().item(),
                    "KL": torch.nn.functional.kl_div(said, wanted, reduction="batchmean", log_target=True).item(),
                    "s": taken,
                }
            )
    report(f"Smaller models, {len(images)} images", rows, chosen.out, chosen.device)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    main()
