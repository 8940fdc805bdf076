"""One path that serves all of a class's images, tested on images that it was not found on."""

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..checks import InputError, checked
from ..data.given import Classes, Images, Target, as_images, some_of
from ..methods import find_path
from ..models.class_names import called, class_namer
from ..models.hooks import at_rest
from ..models.view import view
from ..models.vit import ViT
from ..options import Units
from ..paths.statistics import consensus, frequency, halves_of
from ..runs.clean import clean_runs
from ..runs.influence import Influence, Quadrature, mean_gradients
from ..runs.joint_influence import joint_influence
from ..units import on_path, units_named
from .evaluate import effects

SWEEPS = 12
RULE = Quadrature("gaussradau", 5)  # a path that suits most images may be one to which some respond far from linearly


@dataclass(frozen=True, eq=False)
class ClassPath:
    """One path that serves all of a class's images, beside the consensus of their single paths."""

    label: int
    """The class."""
    units: Tensor
    """(S, K): the class's path, site by site: a block's neurons, or heads, or its heads and then its neurons."""
    consensus: Tensor
    """(S, K): the commonest units of the single images' paths."""
    agreement: Tensor
    """(S,): the share of a site's single-path units that are the consensus'."""
    frequency: list[Tensor]
    """A site (U,): the share of images whose single path has the unit."""
    figures: pd.DataFrame
    """What both are worth on the images that they were found on ("own") and on others ("held out"): columns images, path ("class"
    or "consensus"), n, and the means of :func:`~neuronpath.evaluate`'s figures."""
    sweeps: int
    """How often all images were run."""
    converged: bool
    """Whether no swap promised anything any more."""
    name: str | None = None
    """What the class is called, where it is known."""

    def __repr__(self) -> str:
        """A few lines: the path, and what it is worth on the images that it was found on and on others."""
        path = " ".join("+".join(map(str, site)) for site in self.units.tolist())
        how = f"{self.sweeps} sweeps{'' if self.converged else ', not converged'}"
        worth = self.figures[["images", "path", "n", "score", "probability_removed_relative", "flips"]].round(4)
        return f"ClassPath(class {called(self.label, self.name)}: {path}; {how})\n{worth.to_string(index=False)}\n"


@checked
def class_path(
    model: nn.Module | ViT,
    images: Images,
    labels: Target,
    *,
    units: Units | None = None,
    top_k: int = 1,
    halves: bool = True,
    seed: int = 0,
    internal_batch_size: int | None = None,
    progress: bool = False,
) -> dict[int, ClassPath]:
    """For each class the path that maximises the mean joint attribution score over the class's images.

    With ``units="both"`` it is the mean complete attribution that is maximised (see :func:`~neuronpath.find_path`).

    The search begins from the consensus of the single images' paths and swaps units, at all sites at once where that holds what
    it promises, until no swap promises anything. Scores are re-computed for all images, so the result is at least the consensus.

    Args:
        model: a vision transformer with a head.
        images: (B, C, H, W), or a Dataset, DataLoader or Source of them.
        labels: the classes that are explained, one or (B,), or "label": those that come with the images.
        units: what the path is made of: "neurons" (None), "heads" or "both".
        top_k: units a site.
        halves: find on one half of each class's images and measure on both; False finds on all of them.
        seed: of the halves.
        internal_batch_size: rows (an image at a node) run at once.
        progress: True shows a bar, a step a class.

    Raises:
        InputError: for a class with fewer than two images, where halves are wanted.
    """
    vit = view(model, None, units)
    images = as_images(images, model)
    truth = Classes(images, labels, vit.model).all()
    if truth is None:
        raise InputError("labels is None; expected one class or one an image")
    found, name_of = {}, class_namer(vit.model)
    for label in tqdm(truth.unique().tolist(), unit="class", disable=not progress):
        here = (truth == label).nonzero()[:, 0].numpy()
        parts = halves_of(here, label, seed) if halves else [here]
        own = some_of(images, parts[0])
        single = find_path(vit, own, label, method="joint", top_k=top_k, internal_batch_size=internal_batch_size)
        common, agreement = consensus(single)
        path, sweeps, converged = _maximise(vit, own, label, common, internal_batch_size)
        worth = {
            n: _worth(vit, joint_influence(vit, own, each, label, internal_batch_size=internal_batch_size)).mean()
            for n, each in (("class", path), ("consensus", common))
        }
        if worth["class"] < worth["consensus"]:  # the search's nodes were too few to see it
            path = common
        rows = []
        for name, part in zip(("own", "held out"), parts, strict=False):
            table = effects(vit, some_of(images, part), label, {"class": path, "consensus": common}, label)
            means = (
                table.drop(columns=["image", "label", "predicted", "target", "right"])
                .groupby("method", sort=False)
                .mean()
            )
            rows.append(means.rename_axis("path").reset_index().assign(images=name, n=len(part)))
        figures = pd.concat(rows, ignore_index=True)
        figures = figures[["images", "path", "n", *[c for c in figures if c not in ("images", "path", "n")]]]
        found[label] = ClassPath(
            label, path, common, agreement, frequency(single), figures, sweeps, converged, name_of(label)
        )
    return found


def _worth(vit: ViT, influence: Influence) -> Tensor:
    """What is maximised, (B,)."""
    return influence.attribution.sum((1, 2)) if units_named(vit.places) == "both" else influence.score


def _maximise(
    vit: ViT, images: Tensor, label: int, path: Tensor, internal_batch_size: int | None
) -> tuple[Tensor, int, bool]:
    """A better path (S, K), the sweeps it took, and whether no swap promised anything at the end."""
    value, table = _sweep(vit, images, label, path, internal_batch_size)
    allowed = path.shape[0]
    for sweep in range(1, SWEEPS):
        gains, swaps = zip(*(swapped.flatten().max(0) for swapped in table), strict=True)
        gain = torch.stack(gains) - value
        sites = gain.argsort(descending=True)[: min(allowed, int((gain > 1e-6 * abs(value)).sum()))].tolist()
        if not sites:
            return path, sweep, True
        proposed = path.clone()
        for site in sites:
            slot, unit = divmod(int(swaps[site]), table[site].shape[1])
            proposed[site, slot] = unit
        new_value, new_table = _sweep(vit, images, label, proposed, internal_batch_size)
        if new_value > value:
            path, value, table = proposed, new_value, new_table
        elif len(sites) == 1:
            return path, sweep + 1, True  # the promise was within the error of the first order
        else:
            allowed = len(sites) // 2
    return path, SWEEPS, False


def _sweep(
    vit: ViT, images: Tensor, label: int, path: Tensor, internal_batch_size: int | None
) -> tuple[float, list[Tensor]]:
    """What ``path`` (S, K) is worth on average and, a site (K, U), what with one unit put in a slot's place, to first order."""
    together = units_named(vit.places) == "both"  # sums of products are maximised, not a product of sums
    with at_rest(vit.model):
        total, tables = 0.0, [torch.zeros(path.shape[1], width, dtype=torch.float64) for width in vit.widths]
        for run in clean_runs(vit, images, label, "prob", internal_batch_size, RULE.fewest):
            shared = path.to(run.rows.device).expand(len(run.rows), -1, -1)
            gradients = mean_gradients(run, shared, RULE.method, RULE.fewest)
            clean, slope = on_path(run.hidden, shared).to(gradients[0]), on_path(gradients, shared)  # (B, S, T, K)
            all_clean, all_slope = clean.sum((1, 3)), slope.sum((1, 3))  # (B, T)
            worth = ((clean * slope).sum((1, 3)) if together else all_clean * all_slope).sum().item()
            total += worth
            for site, table in enumerate(tables):
                for slot in range(path.shape[1]):
                    mine = clean[:, site, :, slot], slope[:, site, :, slot]
                    if together:
                        table[slot] += worth - (mine[0] * mine[1]).sum().item()
                        joined = run.hidden[site] * gradients[site]
                    else:
                        others = all_clean - mine[0], all_slope - mine[1]
                        joined = (others[0][..., None] + run.hidden[site]) * (others[1][..., None] + gradients[site])
                    table[slot] += joined.sum((0, 1)).double().cpu()
    for site, table in enumerate(tables):
        table /= len(images)
        for slot in range(path.shape[1]):  # no unit twice
            table[slot, [other for k, other in enumerate(path[site].tolist()) if k != slot]] = -torch.inf
    return total / len(images), tables
