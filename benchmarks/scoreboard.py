"""Which units a decision rests on: every method's ranking by what it keeps and takes, and its path by what removing it takes.

    python benchmarks/scoreboard.py --limit 60                                   the embedded digits
    python benchmarks/scoreboard.py --model NAME --checkpoint FILE --folder FOLDER --limit 60
    python benchmarks/scoreboard.py --source mine.py                             mine.py defines load() -> (model, images, others)

FOLDER holds one folder of images a class; images are taken from its folders in turn, the first ``--limit`` for the test, the next
``--reference`` to make the mean that units are ablated to, the next ``--calibration`` for the importances: no image serves twice. (Of
the digits the test's are held out, the others training images; of a file of your own ``others`` are these.) The decision explained is
the model's own.

Methods are of three kinds. A *ranking* puts all units of each image in an order. A *path* ranks its own units, a head and a neuron a
block, by their attribution; all others come at random behind these. An *importance* is one ranking for all images, of the calibration
images. All read units on all tokens. Figures are those of ``neuronpath.faithfulness``; "takes" is what the target's probability
loses, as a share, when a head and a neuron a block are ablated: a path's own, a ranking's best of every block. They are means, k90
and k_flip medians, with 95 % bootstrap intervals over images.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from common import from_options, load, options, report
from torch import Tensor
from tqdm import tqdm

import neuronpath as nph
from neuronpath.files import write_whole
from neuronpath.jobs.benchmark.table import mean_of, median_of
from neuronpath.methods.conductance import conductance
from neuronpath.methods.knowledge import knowledge
from neuronpath.models.hooks import at_rest
from neuronpath.models.outputs import logits_of
from neuronpath.models.view import view
from neuronpath.models.vit import ViT
from neuronpath.runs.clean import CleanRun, clean_runs

Ranking = list[Tensor] | nph.NeuronPaths
PATHS = ("live", "joint", "causal", "influence_pattern", "random")
WORTHS: dict[str, Callable[[CleanRun], Sequence[Tensor]]] = {  # what the rivals that score every unit say of all
    "knowledge": lambda run: [site.sum(1) for site in knowledge(run, "gausslegendre", 8)],
    "conductance": lambda run: conductance(run, "gausslegendre", 10),
    "activation": lambda run: [site.mean(1) for site in run.hidden],
}
IMPORTANCES = ("causal", "taylor", "complete", "magnitude", "activation", "random")


def per_image(vit: ViT, images: Tensor, worth: Callable[[CleanRun], Sequence[Tensor]]) -> list[Tensor]:
    """A ranking, a site (B, U), of what each image's units are worth in its clean run."""
    with at_rest(vit.model):
        parts = [worth(run) for run in clean_runs(vit, images, None, "prob")]
    return [torch.cat(site).float().cpu() for site in zip(*parts, strict=True)]


def methods(
    vit: ViT, images: Tensor, reference: Tensor, calibration: Tensor
) -> dict[tuple[str, str], Callable[[], Ranking]]:
    """What gives each ranking or paths, by (kind, name)."""

    def path(name: str) -> nph.NeuronPaths:
        ablates = {"reference": reference} if name == "live" else {}
        return nph.find_path(vit, images, method=name, **ablates)

    found: dict[tuple[str, str], Callable[[], Ranking]] = {}
    for by in ("growth", "integrated", "gates"):
        found["ranking", by] = lambda by=by: nph.rank_units(vit, images, by=by, reference=reference)
    for name, worth in WORTHS.items():
        found["ranking", name] = lambda worth=worth: per_image(vit, images, worth)
    for name in PATHS:
        found["path", name] = lambda name=name: path(name)
    for by in IMPORTANCES:
        found["importance", by] = lambda by=by: nph.importance(vit, calibration, by=by, units="both")
    return found


def best_of_sites(ranking: Ranking, n_images: int) -> Tensor:
    """A head and a neuron a block, (B, S, 1)."""
    if isinstance(ranking, nph.NeuronPaths):
        return ranking.units
    return torch.stack([site.expand(n_images, -1).argmax(1) for site in ranking], 1)[..., None]


def score(vit: ViT, images: Tensor, reference: Tensor, ranking: Ranking) -> dict[str, tuple[float, float, float]]:
    """Every figure and the ends of its interval."""
    curves = nph.faithfulness(vit, images, ranking, baseline="mean", reference=reference)
    found = {name: mean_of(getattr(curves, name).double().numpy()) for name in ("cpr", "cmd", "log_cpr")}
    found |= {name: median_of(getattr(curves, name).double().numpy()) for name in ("k90", "k_flip")}
    clean = logits_of(vit.model, images, 64)
    said = clean.argmax(1)
    with nph.remove(vit, best_of_sites(ranking, len(images)), units="both", baseline="mean", reference=reference):
        left = logits_of(vit.model, images, len(images))
    before, after = (logits.softmax(1).gather(1, said[:, None])[:, 0].double() for logits in (clean, left))
    found["takes"] = mean_of((1 - after / before).numpy())
    found["flips"] = mean_of((left.argmax(1) != said).double().numpy())
    return found


def cell(name: str, values: tuple[float, float, float]) -> str:
    form = {"k90": "{:,.0f}", "k_flip": "{:,.0f}", "takes": "{:.1%}", "flips": "{:.0%}"}.get(name, "{:.3f}")
    value, low, high = (form.format(each) for each in values)
    return f"{value} [{low}, {high}]"


def as_markdown(title: str, rows: list[dict[str, Any]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return f"# {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    parser = options(__doc__)
    from_options(parser)
    parser.add_argument("--calibration", type=int, default=200, help="images that importances are measured on")
    parser.add_argument("--markdown", type=Path, help="write the table here, as Markdown")
    chosen = parser.parse_args()
    model, images, others = load(parser, chosen, chosen.calibration)
    reference, calibration = others[: chosen.reference], others[chosen.reference :][: chosen.calibration]
    if len(reference) < 2 or not len(calibration):
        parser.error(f"there are {len(images) + len(others)} images; expected more than --limit and --reference")
    images, reference, calibration = (
        each.to(chosen.device) for each in (images[: chosen.limit], reference, calibration)
    )
    vit = view(model.to(chosen.device), "all", "both")
    rows, figures = [], []
    for (kind, name), rank in tqdm(methods(vit, images, reference, calibration).items(), unit="method"):
        found = score(vit, images, reference, rank())
        figures.append({"kind": kind, "method": name, **found})
        rows.append({"kind": kind, "method": name} | {figure: cell(figure, values) for figure, values in found.items()})
    title = f"{len(images)} images, {sum(vit.widths):,} units, ablated to the mean over {len(reference)} others"
    report(title, rows, chosen.out, chosen.device, figures=figures)
    if chosen.markdown is not None:
        write_whole(chosen.markdown, lambda part: part.write_text(as_markdown(title, rows)), overwrite=True)


if __name__ == "__main__":
    main()
