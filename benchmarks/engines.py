"""How many images a second a run does by each engine, the peak memory of the process that writes, and whether the rows are the same.

    python benchmarks/engines.py photos/                              local and, with pip install "neuronpath[ray]", Ray
    python benchmarks/engines.py photos/ --limits 6000 60000          two sizes: whether memory grows

A ViT of 2 blocks for images of 32 x 32 pixels, random weights, ``method="causal"``: reading and writing count for much, the model
for little. Each run is in a process of its own; its start is included.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from common import options, report
from timm.models import VisionTransformer

import neuronpath as nph
from neuronpath.data.files import find_images


def one(folder: Path, limit: int, engine: str, out: str) -> None:
    """Print the seconds of one run, and its peak in MB."""
    torch.manual_seed(0)
    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2, num_classes=10).eval()
    images = find_images([folder])[1][:limit]
    begun = time.perf_counter()
    nph.run([str(file) for file in images], model, out, method="causal", engine=engine)
    print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engines", nargs="+", default=["local", "ray"])
    parser.add_argument("--limits", type=int, nargs="+", default=[60000])
    parser.add_argument("--one", nargs=3, metavar=("LIMIT", "ENGINE", "OUT"), help="a single run")
    chosen = parser.parse_args()
    if chosen.one:
        return one(chosen.folder, int(chosen.one[0]), *chosen.one[1:])
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for limit in chosen.limits:
            first = None
            for engine in chosen.engines:
                out = Path(place, f"{engine}-{limit}")
                command = [sys.executable, __file__, str(chosen.folder), "--one", str(limit), engine, str(out)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                seconds, peak = map(float, done.stdout.splitlines()[-1].split())
                found = pd.concat(map(pd.read_parquet, nph.open_run(out).files), ignore_index=True)
                text = found.to_json(orient="records", double_precision=15)
                first = text if first is None else first
                rows.append({"engine": engine, "images": len(found), "images a second": len(found) / seconds, "peak MB": peak,
                             "same rows": text == first})  # fmt: skip
                print(rows[-1], file=sys.stderr)
    return report("Runs by engine", rows, chosen.out, chosen.device)


if __name__ == "__main__":
    main()
