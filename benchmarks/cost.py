"""What a path costs, in F+B: one plain forward plus one backward to the first block's input, measured in the same run.

    python benchmarks/cost.py --models vit_small_patch16_224:2 --methods joint causal

Every method is timed through ``find_path``, the final score, attribution, delta and removal included. ``textbook`` is a naive
implementation of the published algorithm (tests/textbook.py), run with 1 of its 20 steps and multiplied by 20.
"""

import statistics
import sys
from pathlib import Path

import neuronpath as nph

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from common import forward_backward, multiples, options, random_images, random_model, report

MODELS = ["vit_small_patch16_224:2", "vit_small_patch16_224:8", "vit_base_patch16_224:4", "vit_large_patch32_224:2"]
METHODS = {
    "joint": {},
    "thorough": {"effort": "thorough"},
    "causal": {"method": "causal"},
    "progressive": {"locate": "progressive"},
    "paper": {"preset": "paper"},
}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, help="timm name:number of images")
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=[*METHODS, "textbook"])
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    rows = []
    for entry in chosen.models:
        name, number = entry.split(":")
        model = random_model(name, chosen.device)
        images = random_images(model, int(number))
        for method in chosen.methods:
            if method == "textbook":
                import textbook

                target = model(images).argmax(1)
                scale, work = 20, lambda m=model, x=images, t=target: textbook.paper_path(m, x, t, n_steps=1)
            else:
                scale, work = 1, lambda m=model, x=images, k=METHODS[method]: nph.find_path(m, x, **k)
            found = [
                m * scale
                for m in multiples(
                    lambda m=model, x=images: forward_backward(m, x), work, chosen.repeats, chosen.device
                )
            ]
            rows.append({"model": name, "images": int(number), "method": method, "F+B": statistics.median(found),
                         "least": min(found), "most": max(found), "repeats": chosen.repeats})  # fmt: skip
            print(rows[-1], file=sys.stderr)
    report("Cost of a path, in F+B", rows, chosen.out, chosen.device)


if __name__ == "__main__":
    main()
