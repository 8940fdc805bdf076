"""Accuracy of the embedded ViT without the heads or neurons that an importance puts last.

    python benchmarks/pruned_units.py

"heads": of every importance, by share and scope. "neurons": importances measured on all tokens and on the class token, by share of
every block. Means over draws of 256 training digits (``torch.randperm``, seeds 0, 1, ...) of the accuracy on the 360 held-out digits.
"""

import statistics
import sys

import torch
from common import options, report
from torch import Tensor

import neuronpath as nph

HEADS = ("complete", "taylor", "causal", "magnitude", "random")
NEURONS = ("path", "complete", "taylor")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--draws", type=int, default=3)
    chosen = parser.parse_args()
    model, images, labels = nph.demo.load()
    _, pool, known = nph.demo.load("train")
    draws = [
        torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))[:256] for seed in range(chosen.draws)
    ]

    def importance(by: str, seed: int, units: str, tokens: str) -> list[Tensor]:
        some, target = pool[draws[seed]], known[draws[seed]]
        if by == "path":
            token = "all" if tokens == "all" else None
            return nph.importance(nph.find_path(model, some, target, token=token, method="causal", top_k=64))
        return nph.importance(model, some, by=by, units=units, target=target, tokens=tokens, seed=seed)

    rows = []

    def measure(by: str, units: str, tokens: str, cuts: list[tuple[str, float]]) -> None:
        values = [importance(by, seed, units, tokens) for seed in range(chosen.draws)]
        for scope, keep in cuts:
            right = []
            for each in values:
                small = nph.prune(model, each, keep=keep, units=units, scope=scope)
                with torch.no_grad():
                    right.append((small(images).argmax(1) == labels).double().mean().item())
            rows.append({"units": units, "by": by, "tokens": tokens, "scope": scope, "keep": keep,
                         "accuracy": statistics.mean(right)})  # fmt: skip
            print(rows[-1], file=sys.stderr)

    for by in HEADS:
        measure(
            by, "heads", "all", [*(("block", keep) for keep in (0.75, 0.5, 0.25)), ("global", 0.75), ("global", 0.5)]
        )
    for by in NEURONS:
        for tokens in ("all", "pooled"):
            measure(by, "neurons", tokens, [("block", 0.125), ("block", 0.0625)])
    report(f"Accuracy, means of {chosen.draws} draws", rows, chosen.out, chosen.device)


if __name__ == "__main__":
    main()
