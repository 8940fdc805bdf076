"""How good the paths are: every method's score, attribution, removal and enhancement, beside the published algorithm's.

    python benchmarks/quality.py                       the 360 held-out digits
    python benchmarks/quality.py --source mine.py      mine.py defines load() -> (model, images)

Ratios are of means over images, with 95 % bootstrap intervals (2,000 resamples of images). All scores are computed alike, with as
many nodes as delta needs. ``removal`` and ``enhancement`` are live: the path's neurons at 0 and at twice their value, all else
following. ``as 50 nodes``: the share of neurons that a run with 50 nodes chooses too. "live, all tokens" and "live, pooled tokens" are
the default method's path of neurons beside the published algorithm's on the same tokens; the other rows are of the pooled tokens.
"""

import runpy
import sys

import numpy as np
import torch
from common import options, report
from torch import Tensor

import neuronpath as nph
from neuronpath.models.hooks import at_rest
from neuronpath.models.view import view
from neuronpath.runs.clean import clean_runs
from neuronpath.runs.gates import gated_output

METHODS = {
    "paper": {"preset": "paper"},
    "progressive": {"preset": "progressive"},
    "joint": {"method": "joint"},
    "joint, thorough": {"method": "joint", "effort": "thorough"},
    "joint, complete": {"method": "joint", "objective": "complete"},
    "causal": {"method": "causal"},
}


def enhancement(model: torch.nn.Module, images: Tensor, paths: nph.NeuronPaths) -> Tensor:
    """What the output gains (B,) when the path's neurons are doubled."""
    parts, start = [], 0
    with at_rest(model):
        for run in clean_runs(view(model), images, paths.target, "prob"):
            parts.append(gated_output(run, paths.units[start : start + len(run.rows)], 2.0) - run.value)
            start += len(run.rows)
    return torch.cat(parts)


def ratio(mine: Tensor, other: Tensor, samples: int = 2000) -> str:
    """The ratio of means and its 95 % bootstrap interval, images resampled in pairs."""
    a, b = mine.double().numpy(), other.double().numpy()
    index = np.random.default_rng(0).integers(0, len(a), (samples, len(a)))
    low, high = np.quantile(a[index].mean(1) / b[index].mean(1), [0.025, 0.975])
    return f"{a.mean() / b.mean():.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--source", help="a Python file that defines load() -> (model, images)")
    parser.add_argument("--images", type=int, help="take only so many")
    parser.add_argument("--nodes", action="store_true", help="also compare with runs of 50 nodes")
    chosen = parser.parse_args()
    model, images = runpy.run_path(chosen.source)["load"]() if chosen.source else nph.demo.load()[:2]
    images = images[: chosen.images]
    found = {name: nph.find_path(model, images, **call) for name, call in METHODS.items()}
    exact = {name: nph.joint_influence(model, images, paths.neurons, paths.target) for name, paths in found.items()}
    gains = {name: enhancement(model, images, paths) for name, paths in found.items()}
    paper = exact["paper"]
    rows = []
    for name, paths in found.items():
        influence = exact[name]
        row = {
            "method": name,
            "score": influence.score.mean().item(),
            "score / paper's": ratio(influence.score, paper.score),
            "not lower": (influence.score >= paper.score - 1e-5 * paper.score.abs()).float().mean().item(),
            "not lower than progressive": (
                influence.score >= exact["progressive"].score - 1e-5 * exact["progressive"].score.abs()
            ).float().mean().item(),
            "attribution / paper's": ratio(influence.attribution.sum((1, 2)), paper.attribution.sum((1, 2))),
            "removal / paper's": ratio(paths.removal, found["paper"].removal),
            "enhancement / paper's": ratio(gains[name], gains["paper"]),
        }  # fmt: skip
        if chosen.nodes and name != "paper":
            rule = {} if name == "causal" else {"quadrature": "gausslegendre", "n_steps": 50}
            again = nph.find_path(model, images, **METHODS[name], **rule)
            row["as 50 nodes"] = (again.neurons == paths.neurons).float().mean().item()
        rows.append(row)
        print(row, file=sys.stderr)
    everywhere = nph.find_path(model, images, token="all", **METHODS["paper"])
    for tokens, published in (("all", everywhere), ("pooled", found["paper"])):
        live = nph.find_path(model, images, token=tokens, units="neurons")
        rows.append({"method": f"live, {tokens} tokens", "removal / paper's": ratio(live.removal, published.removal)})
    report(f"Quality over {len(images)} images", rows, chosen.out)


if __name__ == "__main__":
    main()
