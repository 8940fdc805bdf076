"""Make tests/data/digits_paper.json again after the demo model has changed: ``python tests/make_digits_paper.py``.

It holds what textbook.paper_path finds in float64 on the first 100 held-out digits: some minutes, too long for every test run.
"""

import json
from pathlib import Path

import textbook
import torch

import neuronpath as nph

FILE = Path(__file__).parent / "data" / "digits_paper.json"


def main() -> None:
    model, images, _ = nph.demo.load()
    model, images = model.double().requires_grad_(False), images[:100].double()
    logits = model(images)
    pieces = zip(images.split(10), logits.argmax(1).split(10), strict=True)
    paths = torch.cat([textbook.paper_path(model, *piece) for piece in pieces])
    probability = logits.softmax(1).max(1).values
    document = {"probability": [round(p, 6) for p in probability.tolist()], "path": paths[..., 0].tolist()}
    FILE.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)  # tensors this small are slower on several
    main()
