"""How much faster a pruned model is: dense and pruned take turns in one process; medians.

    python benchmarks/pruned_speed.py          vit_base_patch16_224, random weights, keep 0.25, batch 4

``from mask`` is the largest difference between the pruned model's logits and those of the dense one under the same mask.
"""

import torch
from common import options, random_images, random_model, report

import neuronpath as nph
from neuronpath.compression.cost import latencies, multiply_adds


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--model", default="vit_base_patch16_224")
    parser.add_argument("--keep", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=9)
    chosen = parser.parse_args()
    model = random_model(chosen.model, chosen.device)
    images = random_images(model, chosen.batch)
    importance = nph.importance(model, by="random")
    small = nph.prune(model, importance, chosen.keep)
    with torch.no_grad():
        logits = small(images)
        with nph.mask(model, importance, chosen.keep):
            differ = (logits - model(images)).abs().max().item()
    dense, pruned = latencies([model, small], images, chosen.repeats)
    rows = [
        {
            "model": name,
            "parameters": sum(p.numel() for p in one.parameters()),
            "multiply-adds": multiply_adds(one, images[:1]),
            "ms a batch": 1000 * seconds,
            "times as fast": dense / seconds,
            "from mask": differ if one is small else None,
        }
        for name, one, seconds in ((chosen.model, model, dense), (f"keep {chosen.keep}", small, pruned))
    ]
    report(f"Speed of a pruned model, batch {chosen.batch}", rows, chosen.out, chosen.device)


if __name__ == "__main__":
    main()
