"""Does a looped model use the same neurons again? What the paths of two passes through one shared block have in common.

    python benchmarks/reuse.py

The embedded digits with two shared blocks: with a product of rank 8 of its own in every pass, and with none, each as it is
made and distilled on the training digits. "best N": the share of a pass's N best neurons (method="causal") that are the
other's too, the mean over images and pairs of passes; "chance N" is that of random neurons.
"""

from itertools import combinations

import torch
from common import options, report
from torch import Tensor, nn

import neuronpath as nph

COUNTS = (1, 16)


def in_common(model: nn.Module, images: Tensor, count: int) -> float:
    units = nph.find_path(model, images, units="neurons", method="causal", token="all", top_k=count).units
    pairs = [pair for passes in nph.view(model).tied for pair in combinations(passes, 2)]
    same = [(units[:, a, :, None] == units[:, b, None]).any(-1) for a, b in pairs]
    return torch.stack(same).double().mean().item()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--limit", type=int, default=60, help="test digits")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, default=1e-3)
    chosen = parser.parse_args()
    model, images, _ = nph.demo.load()
    train = nph.demo.load("train")[1]
    images, width = images[: chosen.limit], nph.view(model).widths[0]
    made = {8: nph.recursive(model, 2, rank=8, images=train[:400]), 0: nph.recursive(model, 2, init="lower", rank=0)}
    rows = []
    for distilled in (False, True):
        for rank, looped in made.items():
            if distilled:
                nph.distil(looped, model, train.split(32), chosen.epochs, chosen.lr)
            row = {"rank": rank, "distilled": distilled}
            for count in COUNTS:
                row |= {f"best {count}": in_common(looped, images, count), f"chance {count}": count / width}
            rows.append(row)
    report(f"Neurons that two passes have in common, {len(images)} images", rows, chosen.out)


if __name__ == "__main__":
    main()
