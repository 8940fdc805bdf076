"""How faithful a ranking of units is: what the first k keep alone, and what removing them takes, over k."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..checks import InputError, InputTypeError
from ..methods.grow import log_odds
from ..models.hooks import at_rest
from ..models.view import view
from ..models.vit import ViT
from ..runs.baselines import ablation
from ..runs.clean import CleanRun, check_images, clean_runs
from ..runs.gates import Ablated, gated_answer
from .evaluate import RESAMPLES, interval

SHARES = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
)  # of all units, MIB's; one unit and none beside them
FIGURES = ("cpr", "cmd", "log_cpr", "k90", "k_flip")


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """The curves of B images over n numbers of units, and their figures; on the CPU.

    With f(k) = (F(first k alone) - F(none)) / (F(all) - F(none)), F being the target's log-odds.
    """

    k: Tensor
    """(n,), int64: the numbers of units, from 0 to all N."""
    alone: Tensor
    """(B, n): the target's log-odds with the first k units on and all others ablated."""
    without: Tensor
    """(B, n): with the first k units ablated."""
    probability_alone: Tensor
    """(B, n): the target's probability with the first k units on."""
    decided_without: Tensor
    """(B, n), bool: whether the decision stands with the first k units ablated."""

    @property
    def f(self) -> Tensor:
        """(B, n): f(k), 0 at none and 1 at all."""
        return (self.alone - self.alone[:, :1]) / (self.alone[:, -1:] - self.alone[:, :1])

    @property
    def cpr(self) -> Tensor:
        """(B,): the area under f over k / N; higher is better."""
        return torch.trapezoid(self.f, self.k / self.k[-1])

    @property
    def cmd(self) -> Tensor:
        """(B,): the area between f and 1 over k / N; lower is better."""
        return torch.trapezoid((1 - self.f).abs(), self.k / self.k[-1])

    @property
    def log_cpr(self) -> Tensor:
        """(B,): the area under f, cut to 0 and 1, over log k from 1 to N, as a share of that range. It tells rankings apart where
        ``cpr`` doesn't."""
        x = self.k[1:].double().log()
        return (torch.trapezoid(self.f[:, 1:].clamp(0, 1).double(), x) / (x[-1] - x[0])).float()

    @property
    def k90(self) -> Tensor:
        """(B,), int64: the fewest of the k that keep 0.9 of the probability."""
        enough = self.probability_alone >= 0.9 * self.probability_alone[:, -1:]
        return self.k[enough.int().argmax(1)]

    @property
    def k_flip(self) -> Tensor:
        """(B,), int64: the fewest of the k whose removal changes the decision; N + 1 where none does."""
        flipped = ~self.decided_without
        return torch.where(flipped.any(1), self.k[flipped.int().argmax(1)], self.k[-1] + 1)

    def to_frame(self, seed: int = 0) -> pd.DataFrame:
        """A row a figure: mean, its 95 % bootstrap interval over images, median."""
        index = np.random.default_rng(seed).integers(0, len(self.alone), (RESAMPLES, len(self.alone)))
        rows = []
        for name in FIGURES:
            values = getattr(self, name).double().numpy()
            mean, low, high = interval(values, index)
            rows.append({"figure": name, "mean": mean, "low": low, "high": high, "median": float(np.median(values))})
        return pd.DataFrame(rows)


def faithfulness(
    model: nn.Module | ViT,
    images: Tensor,
    ranking: Sequence[Tensor],
    target: int | Sequence[int] | Tensor | np.ndarray | None = None,
    *,
    units: str | None = None,
    token: str | None = None,
    baseline: str | None = None,
    reference: Tensor | None = None,
    internal_batch_size: int | None = None,
    seed: int = 0,
) -> Faithfulness:
    """The keep- and remove-curves of a ranking of units.

    Args:
        model: a vision transformer with a head, of a known family.
        images: (B, C, H, W), transformed as the model wants it.
        ranking: a site (U,) for all images, or (B, U) for each its own; more is more important, as
            :func:`~neuronpath.importance` gives it for the same ``units``. Of equals the first comes first.
        target: the class: None for the predicted one, an int, or one an image (B,).
        units: "both" (None), "heads" or "neurons"; units of the kind that isn't named stay as they are.
        token: the tokens on which units are ablated (see :func:`~neuronpath.view`); None is all.
        baseline: "zero", "mean", "resample" or "paired" (see :func:`~neuronpath.find_path`); None is "mean" where there is a reference.
        reference: the images (R, C, H, W) for that.
        internal_batch_size: rows run at once.
        seed: of "resample".

    Raises:
        InputError: in one line, for a ranking that doesn't fit the model, or anything else that can't be used.

    Source: CPR and CMD after Mueller et al., "MIB: A Mechanistic Interpretability Benchmark" (ICML 2025, arXiv 2504.13151), over units
    in place of edges; ``log_cpr``, ``k90`` and ``k_flip`` are ours.
    """
    check_images(images)
    own = isinstance(model, ViT)
    vit = view(model, token or (None if own else "all"), units or (None if own else "both"))
    if not vit.has_head:
        raise InputTypeError(f"{type(vit.model).__name__} has no classes, so no decision; expected a model with a head")
    order = _order(ranking, len(images), vit)
    ablate = ablation(vit, baseline or ("zero" if reference is None else "mean"), reference, len(images), seed)
    total = order.shape[1]
    numbers = torch.tensor(sorted({0, 1, *(max(1, round(share * total)) for share in SHARES)}))
    parts = []
    with at_rest(vit.model):
        first = 0
        for run in clean_runs(vit, images, target, "prob", internal_batch_size):
            here = order[first : first + len(run.rows)].to(run.rows.device)
            parts.append(_curves(run, here, numbers, ablate(run, first)))
            first += len(run.rows)
    return Faithfulness(numbers, *(torch.cat(curves).cpu() for curves in zip(*parts, strict=True)))


def _order(ranking: Sequence[Tensor], n_images: int, vit: ViT) -> Tensor:
    """The units of every image, the most important first, (B, N)."""
    shapes = [tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__ for values in ranking]
    expected = [((width,), (n_images, width)) for width in vit.widths]
    if len(shapes) != len(expected) or any(s not in e for s, e in zip(shapes, expected, strict=True)):
        raise InputError(
            f"ranking has {shapes}; expected {vit.widths} numbers a site, for all images or ({n_images}, ...) for each"
        )
    flat = torch.cat([values.expand(n_images, -1) for values in ranking], 1)
    if flat.isnan().any():
        raise InputError("ranking holds NaN; expected numbers")
    return flat.sort(dim=1, descending=True, stable=True).indices


def _curves(run: CleanRun, order: Tensor, numbers: Tensor, ablated: Ablated) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of a run's images (b, n): the log-odds alone and without, the probability alone, whether the decision stands without."""
    assert run.target is not None
    shape = (len(run.rows), len(numbers))
    alone, without, probability = (torch.zeros(shape, device=order.device) for _ in range(3))
    decided = torch.zeros(shape, dtype=torch.bool, device=order.device)
    place = order.argsort(1)  # of every unit in the ranking
    said = run.answer.argmax(1)

    def work(piece: slice) -> None:
        assert run.target is not None
        rows, target = run.rows[piece], run.target[piece]
        for at, number in enumerate(numbers.tolist()):
            on = (place[piece] < number).to(run.middle.dtype)
            kept = gated_answer(run, rows, on.split(run.vit.widths, 1), ablated).float()
            left = gated_answer(run, rows, (1 - on).split(run.vit.widths, 1), ablated).float()
            alone[piece, at], without[piece, at] = log_odds(kept, target), log_odds(left, target)
            probability[piece, at] = kept.softmax(1).gather(1, target[:, None])[:, 0]
            decided[piece, at] = left.argmax(1) == said[piece]

    run.pieces.each(len(run.rows), work)
    return alone, without, probability, decided
