"""What nph.run costs beside find_path in a loop: images a second, in turn, with decoding too; and bytes an image.

python benchmarks/data_sets.py                                         # the embedded digits, in memory
python benchmarks/data_sets.py --model vit_tiny_patch16_224 --images 24 # photographs of 500 kB, random weights
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import options, random_model, report
from PIL import Image

import neuronpath as nph
from neuronpath.jobs import work
from neuronpath.jobs.benchmark.timing import seconds


def photographs(folder: Path, count: int) -> Path:
    """Noise that JPEG can't make small: 1,000 x 750 pixels, 500 kB each."""
    draw = np.random.default_rng(0)
    for number in range(count):
        pixels = draw.integers(0, 255, (750, 1000, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.jpg", quality=80)
    return folder


def watch_loading() -> list[float]:
    """The seconds that runs wait for the next image from here on, in a list of one, to be set to 0."""
    waited, loaded = [0.0], work.loaded

    def watched(*arguments: Any, **options: Any) -> Iterator[Any]:
        images = loaded(*arguments, **options)
        while True:
            begin = time.perf_counter()
            one = next(images, None)
            waited[0] += time.perf_counter() - begin
            if one is None:
                return
            yield one

    work.loaded = watched
    return waited


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
        waits: dict[str, list[float]] = {name: [] for name in ways}
        waited = watch_loading()
        bare()  # warm up
        for _ in range(chosen.repeats):
            for name, way in ways.items():
                waited[:] = [0.0]
                taken[name].append(seconds(way, chosen.device))
                waits[name].append(waited[0] / taken[name][-1])
        found = nph.open_run(folder / "run")
        size = sum(file.stat().st_size for file in found.files) / len(found)
    first = next(iter(taken.values()))
    rows = [
        {
            "way": name,
            "images a second": len(images) / statistics.median(times),
            "share of the loop": statistics.median(a / b for a, b in zip(first, times, strict=True)),
            "waits for images": statistics.median(waits[name]),
        }
        for name, times in taken.items()
    ]
    title = f"{chosen.model or 'embedded digits'}, {chosen.method}, {len(images)} images: {size:.0f} bytes an image in Parquet"
    report(title, rows, chosen.out, chosen.device, bytes=size, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
