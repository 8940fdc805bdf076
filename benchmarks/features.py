"""What units mean, checked: made images against real ones, pixel attribution by deletion, names on images not used to name.

    python benchmarks/features.py --limit 360                    the embedded digits
    python benchmarks/features.py --source mine.py               mine.py defines load() -> (model, images, labels)

The units are the 20 that are most often on the images' default paths, and 20 random ones of the same kinds and blocks
beside. "made": the share of units whose made image raises them above the best real one. "delta": the largest error of
pixel attribution, as a share of the change. "top" and "random": what deleting the fifth of pixels with the highest
attribution, or a random fifth, takes from the unit's value, in its standard deviations over all images, over its 10
favourite images, medians over units: one whose value hardly varies on real images may move by hundreds of deviations on
such as these. "lead" is the median difference with its 95 % bootstrap interval over units, "top leads" the share of units
with one above 0. "named": the share of units whose
name's score, an AUROC on the images that it wasn't found on, is above 95 % of shuffled labels'. "favourites": the share
of the commonest class among each unit's 10 favourites.
"""

import runpy
import sys
from collections import Counter

import numpy as np
import torch
from common import options, report
from torch import Tensor, nn

import neuronpath as nph
from neuronpath.paths.intervals import resampled

TOP, SHARE = 10, 0.2  # favourites; pixels deleted


def often_on_paths(model: nn.Module, images: Tensor, count: int) -> list[nph.Unit]:
    paths = nph.find_path(model, images)
    return [unit for unit, _ in Counter(u for i in range(len(paths)) for u in paths.units_of(i)).most_common(count)]


def random_like(model: nn.Module, units: list[nph.Unit]) -> list[nph.Unit]:
    draw = np.random.default_rng(0)
    width = {(place.block, place.kind): place.width for place in nph.view(model, units="both").places}
    return [nph.Unit(u.block, int(draw.integers(width[u.block, u.kind])), u.kind) for u in units]


def deletion(
    model: nn.Module, images: Tensor, unit: nph.Unit, spread: float, draw: torch.Generator
) -> tuple[float, float, float]:
    """What deleting the top pixels and random ones takes of the unit's value, in its deviations, and the largest
    relative delta."""
    found = nph.pixel_attribution(model, images, [unit])
    by_pixel = found.attribution[:, 0].sum(1).flatten(1)  # over channels
    count = round(SHARE * by_pixel.shape[1])
    sign = found.change.sign()  # of a unit that is below its value on the baseline, what lowers it counts
    taken = []
    for order in (by_pixel * sign, torch.rand(by_pixel.shape, generator=draw)):
        gone = order.argsort(1, descending=True)[:, :count]
        mask = torch.ones_like(by_pixel).scatter(1, gone, 0).view(-1, 1, *images.shape[2:])
        left = nph.pixel_attribution(model, images * mask, [unit], n_steps=1).value
        taken.append(float(((found.value - left)[:, 0] * sign[:, 0] / spread).median()))
    return *taken, float((found.delta / found.change).abs().max())


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--source", help="a Python file that defines load() -> (model, images, labels)")
    parser.add_argument("--limit", type=int, default=360)
    parser.add_argument("--path-images", type=int, default=60, help="images whose paths say which units")
    parser.add_argument("--units", type=int, default=20)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--starts", type=int, default=3, help="noises that a made image may begin from")
    chosen = parser.parse_args()
    model, images, labels = runpy.run_path(chosen.source)["load"]() if chosen.source else nph.demo.load()
    images, labels = images[: chosen.limit], labels[: chosen.limit]
    often = often_on_paths(model, images[: chosen.path_images], chosen.units)
    rows = []
    for name, units in {"most often on paths": often, "random": random_like(model, often)}.items():
        values, numbers, _ = nph.most_active(model, images, units, len(images))
        spread, values, numbers = values.std(1).tolist(), values[:, :TOP], numbers[:, :TOP]
        made = nph.visualise(model, units, steps=chosen.steps, starts=chosen.starts)
        draw = torch.Generator().manual_seed(0)
        taken = [deletion(model, images[n], *each, draw) for n, *each in zip(numbers, units, spread, strict=True)]
        top, random, delta = (np.array(each) for each in zip(*taken, strict=True))
        named = nph.name_units(model, images, units, labels)
        leads = top - random
        low, high = np.quantile(resampled(leads, statistic=np.median), (0.025, 0.975))
        commonest = [labels[n].bincount().max().item() / TOP for n in numbers]
        rows.append(
            {
                "units": name,
                "made": (made.values > values[:, 0]).float().mean().item(),
                "made / best real": (made.values / values[:, 0]).median().item(),
                "delta": delta.max(),
                "top": np.median(top),
                "random": np.median(random),
                "lead": f"{np.median(leads):.2f} [{low:.2f}, {high:.2f}]",
                "top leads": (leads > 0).mean(),
                "named": named["name"].notna().mean(),
                "AUROC": named["score"].median(),
                "control": named["control"].median(),
                "favourites": np.mean(commonest),
            }
        )
        print(rows[-1], file=sys.stderr)
    report(f"What {len(often)} units mean, on {len(images)} images", rows, chosen.out)


if __name__ == "__main__":
    main()
