"""Images a second, by method, device and precision.

python benchmarks/throughput.py --model vit_base_patch16_224 --images 64 --device cuda
"""

import torch
from common import options, random_images, random_model, report

import neuronpath as nph
from neuronpath.jobs.benchmark.timing import seconds


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--methods", nargs="+", default=["live", "joint"])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    chosen = parser.parse_args()
    model = random_model(chosen.model, chosen.device)
    images = random_images(model, chosen.images)
    exact = {m: nph.find_path(model.cpu(), images[:8].cpu(), method=m).units for m in chosen.methods}
    model.to(chosen.device)
    rows = []
    for method in chosen.methods:
        for precision in chosen.precisions:
            found = nph.find_path(model, images[:8], method=method, precision=precision).units
            taken = min(
                seconds(
                    lambda m=method, p=precision: nph.find_path(model, images, method=m, precision=p), chosen.device
                )
                for _ in range(3)
            )
            rows.append(
                {
                    "model": chosen.model,
                    "method": method,
                    "precision": precision,
                    "images a second": chosen.images / taken,
                    "same units as CPU fp32": (found == exact[method]).float().mean().item(),
                }
            )
    report("Throughput", rows, chosen.out, chosen.device)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    main()
