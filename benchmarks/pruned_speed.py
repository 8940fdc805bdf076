"""How much faster a pruned model is: ``python benchmarks/pruned_speed.py`` (vit_base_patch16_224, random weights, keep 0.25, batch 4).

Dense and pruned take turns in one process; medians. Also checked: mask and pruned model give the same logits.
"""

import argparse

import torch

import neuronpath as nph
from neuronpath.experiment import latencies, multiply_adds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_base_patch16_224")
    parser.add_argument("--keep", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    model = nph.load_model(options.model, pretrained=False)
    importance = nph.importance(model, by="random")
    small = nph.prune(model, importance, options.keep)
    images = torch.randn(options.batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), nph.mask(model, importance, options.keep):
        masked = model(images)
    with torch.no_grad():
        differ = (small(images) - masked).abs().max().item()
    dense, pruned = latencies([model, small], images, options.repeats)
    for name, one, seconds in (("dense", model, dense), ("pruned", small, pruned)):
        parameters = sum(p.numel() for p in one.parameters()) / 1e6
        adds = multiply_adds(one, images[:1]) / 1e9
        print(f"{name:7} {parameters:6.1f} M parameters  {adds:5.2f} G multiply-adds  {seconds * 1000:6.0f} ms a batch")
    print(
        f"{dense / pruned:.2f} times as fast: batch {options.batch}, {torch.get_num_threads()} threads, float32, "
        f"{options.repeats} turns each; largest difference from the mask {differ:.1e}"
    )


if __name__ == "__main__":
    main()
