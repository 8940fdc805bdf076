"""What making a model recursive takes, and how fast it is merged: time, peak memory, latency in turns with the model's.

python benchmarks/conversion.py          vit_base_patch16_224, random weights, K = 3, rank 64, 32 images to fit on
"""

import resource
import time

import torch
from common import options, random_images, random_model, report

import neuronpath as nph
from neuronpath.compression.cost import latencies
from neuronpath.jobs.benchmark.timing import seconds


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--model", default="vit_base_patch16_224")
    parser.add_argument("--unique", type=int, default=3)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=9)
    chosen = parser.parse_args()
    model = random_model(chosen.model, chosen.device)
    images = random_images(model, chosen.images)
    made: list[torch.nn.Module] = []
    begun = time.process_time()
    taken = seconds(
        lambda: made.append(nph.recursive(model, chosen.unique, rank=chosen.rank, images=images)), chosen.device
    )
    worked = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sizes = [sum(p.numel() for p in one.parameters()) for one in (*made, model)]
    nph.merge_(made[0])
    times = latencies([model, made[0], model], images[: chosen.batch], chosen.repeats)
    row = {
        "model": chosen.model,
        "parameters": sizes[0] / sizes[1],
        "s to convert": taken,
        "of them s of a CPU": worked,
        "peak GiB": peak,
        "merged / model": times[1] / times[0],
        "model / itself": times[2] / times[0],
    }
    report(f"K = {chosen.unique}, rank {chosen.rank}", [row], chosen.out, chosen.device)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    main()
