"""Peak memory of find_path above the model's own, each figure in a process of its own.

python benchmarks/memory.py --model vit_base_patch16_224
"""

import resource
import subprocess
import sys

import torch
from common import options, random_images, random_model, report

import neuronpath as nph

# method, images, nodes (0: as many as are needed)
CASES = [("live", 4, 0), ("live", 64, 0), ("joint", 4, 3), ("joint", 64, 3), ("joint", 4, 50)]
CALLS = {
    "live": {},
    "joint": {"method": "joint", "quadrature": "gausslegendre"},
}


def one(name: str, method: str, images: int, nodes: int, device: str) -> None:
    """Print the peak in MiB of one run, above that of the model having run one plain forward."""
    model = random_model(name, device)
    batch = random_images(model, images)
    call = CALLS[method] | ({"n_steps": nodes} if nodes else {})
    with torch.no_grad():
        model(batch[:1])
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated() / 2**20
        torch.cuda.reset_peak_memory_stats()
        nph.find_path(model, batch, **call)
        print(torch.cuda.max_memory_allocated() / 2**20 - before)
    else:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        nph.find_path(model, batch, **call)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10 - before)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--model", default="vit_base_patch16_224")
    parser.add_argument("--case", nargs=3, help="method, images and nodes of a single run")
    chosen = parser.parse_args()
    if chosen.case:
        method, images, nodes = chosen.case
        return one(chosen.model, method, int(images), int(nodes), chosen.device)
    rows = []
    for method, images, nodes in CASES:
        command = [
            sys.executable,
            __file__,
            "--model",
            chosen.model,
            "--device",
            chosen.device,
            "--case",
            method,
            str(images),
            str(nodes),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(
            {
                "model": chosen.model,
                "method": method,
                "images": images,
                "nodes": nodes,
                "peak MiB": float(done.stdout.split()[-1]),
            }
        )
        print(rows[-1], file=sys.stderr)
    return report("Peak memory above the model's own", rows, chosen.out, chosen.device)


if __name__ == "__main__":
    main()
