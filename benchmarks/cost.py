"""What a path costs, in F+B: one plain forward plus one backward to the first block's input, measured in the same run.

    python benchmarks/cost.py --models vit_small_patch16_224:2 --methods joint causal

Every method is timed through ``find_path``, the final score, attribution, delta and removal included. ``textbook`` is a naive
implementation of the published algorithm (tests/textbook.py), run with 1 of its 20 steps and multiplied by 20. captum's are
attributions to the same neurons, block by block, 10 steps each, without a choice of a path. ``live, recursive`` is the default path
of the same model with 4 blocks in a loop, in F+B of that.
"""

import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from captum.attr import LayerConductance, LayerIntegratedGradients
from common import options, random_images, random_model, report
from torch import Tensor, nn

import neuronpath as nph
from neuronpath.jobs.benchmark.timing import forward_backward, multiples
from neuronpath.methods import Search
from neuronpath.methods.causal import locate_causal
from neuronpath.models.hooks import at_rest
from neuronpath.models.view import view
from neuronpath.runs.clean import clean_runs
from neuronpath.runs.gates import gated_output

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import textbook

METHODS = {
    "live": {},
    "joint": {"method": "joint"},
    "thorough": {"method": "joint", "effort": "thorough"},
    "causal": {"method": "causal"},
    "progressive": {"preset": "progressive"},
    "paper": {"preset": "paper"},
}
CAPTUM = {"captum LayerConductance": LayerConductance, "captum LayerIntegratedGradients": LayerIntegratedGradients}
CAPTUM_STEPS = 10
EVERY = [*METHODS, "live, recursive", "causal, path and check", "textbook", *CAPTUM]
FEW = ["live", "joint", "thorough", "causal", "causal, path and check"]
MODELS = {  # what is timed where nothing is named: the dear ones on the small model only
    "vit_small_patch16_224:2": EVERY,
    "vit_small_patch16_224:8": ["live", "joint", "causal", "causal, path and check"],
    "vit_base_patch16_224:4": FEW,
    "vit_large_patch32_224:2": FEW,
}


def causal_path_and_check(model: nn.Module, images: Tensor) -> None:
    """The causal path and what its removal really takes, without score, attribution and delta."""
    with at_rest(model):
        for run in clean_runs(view(model), images, None, "prob", live=True):
            gated_output(run, locate_causal(run, Search()).units)


def captum_attributions(attribution: type, model: nn.Module, images: Tensor) -> None:
    """Of every block's neurons, by one of captum's layer attributions."""
    target = model(images).argmax(1)
    for block in model.blocks:
        of_layer = attribution(lambda x: model(x).softmax(-1), block.mlp.fc2)
        of_layer.attribute(images, target=target, n_steps=CAPTUM_STEPS, attribute_to_layer_input=True)


def work_of(method: str, model: nn.Module, images: Tensor) -> tuple[Callable[[], object], int]:
    """What to time, and by how much to multiply its time."""
    if method == "textbook":
        target = model(images).argmax(1)
        return lambda: textbook.paper_path(model, images, target, n_steps=1), 20
    if method == "causal, path and check":
        return lambda: causal_path_and_check(model, images), 1
    if method in CAPTUM:
        return lambda: captum_attributions(CAPTUM[method], model, images), 1
    return lambda: nph.find_path(model, images, **METHODS[method.partition(",")[0]]), 1


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, help="timm name:number of images")
    parser.add_argument("--methods", nargs="+", choices=EVERY)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    rows = []
    for entry in chosen.models:
        name, number = entry.split(":")
        model = random_model(name, chosen.device)
        images = random_images(model, int(number))
        for method in chosen.methods or MODELS.get(entry, EVERY):
            explained = nph.recursive(model, unique=4, images=images) if method == "live, recursive" else model
            work, times = work_of(method, explained, images)
            unit = partial(forward_backward, explained, images)
            found = [times * multiple for multiple in multiples(unit, work, chosen.repeats, chosen.device)]
            rows.append({"model": name, "images": int(number), "method": method, "F+B": statistics.median(found),
                         "least": min(found), "most": max(found), "repeats": chosen.repeats})  # fmt: skip
            print(rows[-1], file=sys.stderr)
    report("Cost of a path, in F+B", rows, chosen.out, chosen.device)


if __name__ == "__main__":
    main()
