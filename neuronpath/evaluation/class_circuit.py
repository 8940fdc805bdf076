"""One circuit that decides for all of a class's images, tested on images that it was not found on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..checks import InputError, check_count, check_number, checked
from ..data.given import Classes, Images, Target, as_images
from ..methods.circuit import in_order, prepared
from ..methods.grow import Criterion, Grower, decided, random_like
from ..models.class_names import called, class_namer
from ..models.hooks import at_rest
from ..models.outputs import check_range, logits_of
from ..models.vit import ViT
from ..options import Baseline, CriterionName, Token, Units
from ..paths.settings import Settings
from ..paths.statistics import halves_of
from ..runs.clean import CleanRun, clean_runs
from ..runs.gates import Ablated
from ..runs.joined import joined
from ..units import Unit
from .evaluate import interval

NAMED = 4  # units that are shown by name
OTHERS = 256  # held-out images, of all classes, on which a circuit is tried as one of another class: at most


@dataclass(frozen=True, eq=False)
class ClassCircuit:
    """One circuit for all of a class's images.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load()
        >>> some = (labels == 3) | (labels == 8)
        >>> found = nph.class_circuit(model, images[some], labels[some], reference=nph.demo.load("train")[1][:200])
        >>> sorted(found), found[3].found
        ([3, 8], True)
    """

    label: int
    """The class."""
    units: tuple[Unit, ...]
    """The circuit, the most important unit first: by the log-odds' mean derivative to its gate when it was chosen."""
    found: bool
    """Whether it does what was asked for, on the images that it was found on; else it is the best that was found."""
    figures: pd.DataFrame
    """What it does, with 95 % bootstrap intervals over images. Columns images: "own" (that it was found on), "held out" and "others"
    (held-out images of other classes); circuit: "class" or "random", drawn with as many heads and neurons; n, the images; figure,
    mean, low, high. Figures: kept and left, the probability of the image's class with the circuit alone and without it, as a share of
    what it was; decision_kept and decision_flipped, the share of images; says_class, the share of images that the circuit alone has
    the model take for the circuit's class; rechecked, with baseline "mean": ``kept`` with the mean over the other half of the
    references."""
    cost: float
    """What the search took, in forward + backward passes an image."""
    criterion: CriterionName
    """ "keep", "break" or "both"."""
    keep: float
    """The share that counts as kept."""
    settings: Settings
    """What made it: baseline, tokens, the model's name and sites, versions."""
    name: str | None = None
    """What the class is called, where it is known."""

    def __repr__(self) -> str:
        """A few lines: the circuit, and what it does beside a random one of the same make-up."""
        first = "; ".join(map(str, self.units[:NAMED])) + ("; ..." if len(self.units) > NAMED else "")
        heads = sum(unit.kind == "head" for unit in self.units)
        make_up = f"{heads} heads and {len(self.units) - heads} neurons{'' if self.found else ', not found'}"
        wide = self.figures.pivot(index=["images", "circuit", "n"], columns="figure", values="mean").round(3)
        text = wide.reset_index().rename_axis(None, axis=1).to_string(index=False)
        return f"ClassCircuit(class {called(self.label, self.name)}, {self.criterion}: {make_up}: {first})\n{text}\n"


@checked
def class_circuit(
    model: nn.Module | ViT,
    images: Images,
    labels: Target,
    *,
    criterion: CriterionName = "keep",
    keep: float = 0.9,
    units: Units | None = None,
    token: Token | None = None,
    baseline: Baseline | None = None,
    reference: Images | None = None,
    halves: bool = True,
    seed: int = 0,
    internal_batch_size: int | None = None,
    progress: bool = False,
) -> dict[int, ClassCircuit]:
    """For each class the fewest units found that decide for all its images: alone, or that break the decisions when they go.

    The search is that of :func:`~neuronpath.find_circuit`, with one circuit for all images: slopes are means over them. Images that the
    model takes for another class are left out, for there is no decision to keep.

    Args:
        model: a vision transformer with a head; it is left exactly as it was.
        images: (B, C, H, W), or a Dataset, DataLoader or Source of them, transformed as the model wants it.
        labels: the classes that are explained, one or (B,), or "label": those that come with the images.
        criterion: "keep": the circuit alone leaves on average ``keep`` of the class's probability (more than all of it counts as all),
            and that share of the decisions; "break": without the circuit that share of the decisions is another; "both".
        keep: that share, in (0, 1].
        units: "both" (None), "heads" or "neurons". Units of the kind that isn't named stay as they are.
        token: the tokens on which units are ablated (see :func:`~neuronpath.view`); None is all.
        baseline: what units are ablated to: "zero", "mean" or "resample" (see :func:`~neuronpath.find_path`); None is "mean" where
            there is a reference, else "zero". With "mean" the first half of the references is searched with.
        reference: the images (R, C, H, W) for that, or a Dataset, DataLoader or Source of them.
        halves: find on one half of each class's images and measure on both; False finds on all of them.
        seed: of the halves, the random circuits, the bootstrap and "resample".
        internal_batch_size: rows (an image each) run at once; None fits them to the memory.
        progress: True shows a bar, a step a class.

    Raises:
        InputError: for a class with fewer than two images that the model is right about, where halves are wanted (without, none), and
            for anything else that can't be used.
    """
    check_number("keep", keep, 0, 1)
    check_count("seed", seed, 0)
    images = as_images(images, model)
    reference = as_images(reference, model, "reference")
    truth = Classes(images, labels, model).all()
    if truth is None:
        raise InputError("labels is None; expected one class or one an image")
    if baseline == "paired":
        raise InputError(
            "baseline 'paired' is of single images; expected 'zero', 'mean' or 'resample' of a class's circuit"
        )
    vit, ablate, settings = prepared(model, units, token, baseline, reference, len(images), seed)
    logits = logits_of(vit.model, images, internal_batch_size or 64)
    check_range(truth, logits.shape[1])
    parts = {label: _parts(truth, logits.argmax(1) == truth, label, halves, seed) for label in truth.unique().tolist()}
    rule = Criterion(criterion, float(keep), float(keep))

    def run_of(chosen: np.ndarray) -> tuple[CleanRun, list[Ablated]]:
        run = joined(clean_runs(vit, images[chosen], truth[chosen], "prob", internal_batch_size))
        return run, [each(run, 0) for each in ablate]

    name_of = class_namer(vit.model)
    tested = np.concatenate([part[-1] for part in parts.values()])
    tested = np.sort(np.random.default_rng(seed).permutation(tested)[:OTHERS])
    found = {}
    with at_rest(vit.model):
        others = run_of(tested)
        for label, each in tqdm(parts.items(), unit="class", disable=not progress):
            run, ablated = run_of(each[0])
            mask, slopes, does, cost = _search(run, rule, ablated[0])
            drawn = random_like(mask, vit.widths, [place.kind for place in vit.places], seed, [label])
            tables = [_effects(run, ablated, mask, drawn, label).assign(images="own")]
            if halves:
                tables.append(_effects(*run_of(each[1]), mask, drawn, label).assign(images="held out"))
            elsewhere = _effects(*others, mask, drawn, label).assign(images="others")
            tables.append(elsewhere[np.tile(truth[tested].numpy() != label, 2)])
            figures = _figures(pd.concat(tables), seed)
            chosen = in_order(vit, mask[0], slopes[0])
            found[label] = ClassCircuit(
                label, chosen, does, figures, cost, criterion, float(keep), settings, name_of(label)
            )
    return found


def _parts(truth: Tensor, right: Tensor, label: int, halves: bool, seed: int) -> list[np.ndarray]:
    """The numbers of a class's images that the model is right about, in halves or all."""
    here = ((truth == label) & right).nonzero()[:, 0].numpy()
    if len(here) < 1 + halves:
        raise InputError(
            f"class {label} has {len(here)} of its {int((truth == label).sum())} images that the model takes for it; "
            f"expected at least {1 + halves}"
        )
    return halves_of(here, label, seed) if halves else [here]


def _search(run: CleanRun, rule: Criterion, ablated: Ablated) -> tuple[Tensor, Tensor, bool, float]:
    """The circuit of all of a run's images (1, N), its slopes (1, N), whether it does what it must, and the cost an image."""
    assert run.target is not None
    probability = run.answer.float().softmax(1).gather(1, run.target[:, None])[:, 0]
    # no levels: they make an image's circuit smaller, and a class's larger (digits, "both": 39 units on average in place of 24)
    search = Grower(run, run.target, probability, rule, ablated, torch.zeros_like(run.target), levels=(0.0,))
    mask, found, last = search.grow()
    slopes = search.prune(mask, found)
    return mask, torch.where(found[:, None], slopes, last), bool(found), float(search.cost)


def _effects(run: CleanRun, ablated: Sequence[Ablated], mask: Tensor, drawn: Tensor, label: int) -> pd.DataFrame:
    """A row for each circuit and image of a run."""
    assert run.target is not None
    probability = run.answer.float().softmax(1).gather(1, run.target[:, None])[:, 0]
    tables = []
    for name, circuit in (("class", mask), ("random", drawn)):
        on = circuit.expand(len(run.rows), -1)
        kept, same = decided(run, run.target, on, ablated[0])
        left, still = decided(run, run.target, ~on, ablated[0])
        says = decided(run, torch.full_like(run.target, label), on, ablated[0])[1]
        columns = {
            "kept": kept / probability,
            "left": left / probability,
            "decision_kept": same.float(),
            "decision_flipped": 1 - still.float(),
            "says_class": says.float(),
        }
        if len(ablated) > 1:
            columns["rechecked"] = decided(run, run.target, on, ablated[1])[0] / probability
        tables.append(pd.DataFrame({n: values.cpu().numpy() for n, values in columns.items()}).assign(circuit=name))
    return pd.concat(tables, ignore_index=True)


def _figures(effects: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Means over images with their intervals: a row for each set of images, circuit and figure."""
    rows = []
    for (which, circuit), table in effects.groupby(["images", "circuit"], sort=False):
        for figure in table.columns.drop(["images", "circuit"]):
            rows.append((which, circuit, len(table), figure, *interval(table[figure].to_numpy(dtype=float), seed)))
    return pd.DataFrame(rows, columns=["images", "circuit", "n", "figure", "mean", "low", "high"])
