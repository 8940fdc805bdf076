"""What nph.run costs beside find_path in a loop: images a second, in turn, with decoding too; and bytes an image.

python benchmarks/data_sets.py                                         # the embedded digits, in memory
python benchmarks/data_sets.py --model vit_tiny_patch16_224 --images 24 # photographs of 500 kB, random weights
"""

import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import options, random_model, report, seconds
from PIL import Image

import neuronpath as nph


def photographs(folder: Path, count: int) -> Path:
    """Noise that JPEG can't make small: 1,000 x 750 pixels, some 500 kB each."""
    draw = np.random.default_rng(0)
    for number in range(count):
        pixels = draw.integers(0, 255, (750, 1000, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.jpg", quality=67)
    return folder


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--model", help="a timm model, of random weights; without, the embedded digits")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--method", default="live")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if chosen.model is None:
            model, images = nph.demo.load()[0], nph.demo.load()[1][: chosen.images]
        else:
            model = random_model(chosen.model, chosen.device)
            photographs(folder, chosen.images)
            images = nph.load_images(str(folder), model)[0]

        def bare() -> None:
            for batch in images.split(chosen.batch):
                nph.find_path(model, batch, method=chosen.method)

        def run(source: object) -> None:
            shutil.rmtree(folder / "run", ignore_errors=True)
            nph.run(source, model, folder / "run", method=chosen.method, batch_size=chosen.batch, shard_size=128)

        ways = {"find_path in a loop, tensors in memory": bare, "run, tensors in memory": lambda: run(images)}
        if chosen.model is not None:
            ways["run, JPEG files"] = lambda: run(sorted(map(str, folder.glob("*.jpg"))))
        taken: dict[str, list[float]] = {name: [] for name in ways}
        bare()  # warm up
        for _ in range(chosen.repeats):
            for name, way in ways.items():
                taken[name].append(seconds(way, chosen.device))
        found = nph.open_run(folder / "run")
        size = sum(file.stat().st_size for file in found.files) / len(found)
    first = next(iter(taken.values()))
    rows = [
        {
            "way": name,
            "images a second": len(images) / statistics.median(times),
            "share of the loop": statistics.median(a / b for a, b in zip(first, times, strict=True)),
        }
        for name, times in taken.items()
    ]
    title = f"{chosen.model or 'embedded digits'}, {chosen.method}, {len(images)} images: {size:.0f} bytes an image in Parquet"
    report(title, rows, chosen.out, chosen.device, bytes=size, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
