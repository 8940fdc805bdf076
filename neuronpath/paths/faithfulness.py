"""Faithfulness, the frozen result: what the first k units of a ranking keep alone, and what removing them takes, over k."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..checks import InputError, checked
from .intervals import intervals

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

    @classmethod
    @checked
    def concat(cls, parts: Sequence["Faithfulness"]) -> "Faithfulness":
        """The curves of all parts' images as one; they must have the same k."""
        if not parts:
            raise InputError("concat got no curves; expected at least one Faithfulness")
        k = parts[0].k
        if any(not torch.equal(part.k, k) for part in parts):
            raise InputError("concat got curves over different numbers of units; expected the same k in all")
        curves = [field.name for field in fields(cls) if field.name != "k"]
        return cls(k, *(torch.cat([getattr(part, name) for part in parts]) for name in curves))

    def to_frame(self, seed: int = 0) -> pd.DataFrame:
        """A row a figure: mean, its 95 % bootstrap interval over images, median."""
        rows = []
        for name in FIGURES:
            values = getattr(self, name).double().numpy()
            mean, low, high = map(float, intervals(values, seed))
            rows.append({"figure": name, "mean": mean, "low": low, "high": high, "median": float(np.median(values))})
        return pd.DataFrame(rows)
