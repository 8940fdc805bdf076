"""What the best of all choices of a head a block takes, tried one by one, beside the paths that find_path gives.

    python benchmarks/every_choice.py --source mine.py         mine.py defines load() -> (model, images, others)

For models of few heads: n_heads ** n_blocks choices, each ablated on all tokens. "takes": the share of the target's probability, means
over images with 95 % bootstrap intervals. The model and images are chosen as in benchmarks/scoreboard.py.
"""

import itertools

import torch
from common import from_options, load, options, report

import neuronpath as nph
from neuronpath.jobs.benchmark.table import mean_of

MOST = 5000  # choices


def main() -> None:
    parser = options(__doc__)
    from_options(parser)
    chosen = parser.parse_args()
    model, images, others = load(parser, chosen)
    model.to(chosen.device)
    images, reference = images[: chosen.limit].to(chosen.device), others[: chosen.reference].to(chosen.device)
    heads = nph.view(model, units="heads").widths
    choices = list(itertools.product(*map(range, heads)))
    if len(choices) > MOST:
        parser.error(f"{len(choices)} choices of a head a block; expected at most {MOST}")
    rows = []
    for baseline, given in (("zero", None), ("mean", reference)):
        paths = {units: nph.find_path(model, images, units=units, reference=given) for units in ("heads", "both")}
        best, target = torch.full((len(images),), torch.inf), paths["both"].target
        for choice in choices:
            units = [torch.tensor([head]) for head in choice]
            with (
                nph.remove(model, units, units="heads", tokens="all", baseline=baseline, reference=given),
                torch.no_grad(),
            ):
                left = model(images).softmax(1).cpu().gather(1, target[:, None])[:, 0]
            best = best.minimum(left)
        takes = {f"path of {units}": found.left for units, found in paths.items()} | {"best choice of heads": best}
        rows += [
            {"baseline": baseline, "units": name, "n": len(images), "choices": len(choices)}
            | {"takes": mean_of((1 - left / paths["both"].probability).double().numpy())}
            for name, left in takes.items()
        ]
    report(f"Every choice of a head a block, {len(images)} images", rows, chosen.out, chosen.device)


if __name__ == "__main__":
    main()
