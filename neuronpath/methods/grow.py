"""The search for a circuit: grow it from nothing, bisect the last growth, prune it back. Images run together, each with its own units.

    S = {};  add = 1
    until the criterion holds:
        g = derivatives of the log-odds to all gates, only S on (keep), S off (break), or both summed
        S += the absent units with the largest g > 0, half as many as S has, at least 1
    bisect the last addition
    g = the derivatives at S;  chunk = a quarter of S
    while chunk >= 1:  drop each chunk of S, smallest g first, without which the criterion still holds;  chunk = half

The log-odds of the target don't saturate as its probability does. An image whose criterion holds leaves the growth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..runs.clean import CleanRun, gradients_of
from ..runs.gates import Ablated, gated_answer

TRIALS = 72  # of pruning, an image at most
BACKWARD = 2 / 3  # of F+B; a forward is the rest


@dataclass(frozen=True)
class Criterion:
    """What a circuit must do."""

    kind: str  # "keep", "break" or "both"
    keep: float  # the share of the target's probability that a circuit alone must leave

    @property
    def keeps(self) -> bool:
        return self.kind != "break"

    @property
    def breaks(self) -> bool:
        return self.kind != "keep"


@dataclass(eq=False)
class Grower:
    """The circuits of a run's images in the making."""

    run: CleanRun
    target: Tensor  # (B,): the class that a circuit keeps, or breaks
    wanted: Tensor  # (B,): the probability that counts as kept whole
    criterion: Criterion
    ablated: Ablated
    cost: Tensor = field(init=False)  # (B,), in F+B

    def __post_init__(self) -> None:
        self.cost = torch.zeros(len(self.run.rows), dtype=torch.float64)

    @property
    def width(self) -> int:
        """The number of all units, N."""
        return sum(self.run.vit.widths)

    def answers(self, gates: Tensor, rows: Tensor) -> Tensor:
        """The logits (R, classes) with these gates (R, N)."""
        self.cost[rows.cpu()] += 1 - BACKWARD
        return gated_answer(self.run, rows, gates.split(self.run.vit.widths, 1), self.ablated)

    def holds(self, mask: Tensor, rows: Tensor) -> Tensor:
        """Whether the circuits (R, N) do what they must, (R,)."""
        found = torch.ones(len(rows), dtype=torch.bool, device=rows.device)

        def work(piece: slice) -> None:
            here, target = rows[piece], self.target[rows[piece]]
            on = mask[piece].to(self.run.middle.dtype)
            if self.criterion.keeps:
                found[piece] &= self._keeps(self.answers(on, here), here)
            if self.criterion.breaks:
                found[piece] &= self.answers(1 - on, here).argmax(1) != target

        self.run.pieces.each(len(rows), work)
        return found

    def _keeps(self, answers: Tensor, rows: Tensor) -> Tensor:
        target = self.target[rows]
        left = answers.float().softmax(1).gather(1, target[:, None])[:, 0]
        return (answers.argmax(1) == target) & (left >= self.criterion.keep * self.wanted[rows])

    def slopes(self, mask: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives (R, N) to all gates at the circuits (R, N), and whether these do what they must, (R,)."""
        slopes = torch.zeros(mask.shape, dtype=torch.float32, device=rows.device)
        found = torch.ones(len(rows), dtype=torch.bool, device=rows.device)

        def work(piece: slice) -> None:
            here, target = rows[piece], self.target[rows[piece]]
            for wanted, alone in ((self.criterion.keeps, True), (self.criterion.breaks, False)):
                if not wanted:
                    continue
                on = mask[piece] if alone else ~mask[piece]
                gates = on.to(self.run.middle.dtype).requires_grad_()
                with torch.enable_grad():
                    answers = self.answers(gates, here)
                    (slope,) = gradients_of(log_odds(answers, target), [gates])
                self.cost[here.cpu()] += BACKWARD
                slopes[piece] += slope.float()
                done = self._keeps(answers.detach(), here) if alone else answers.argmax(1) != target
                found[piece] &= done

        self.run.pieces.each(len(rows), work)
        return slopes, found

    def grow(self) -> tuple[Tensor, Tensor, Tensor]:
        """The circuits (B, N), whether they do what they must, (B,), and the derivatives at each's last growth (B, N)."""
        rows = self.run.rows
        shape = (len(rows), self.width)
        mask = torch.zeros(shape, dtype=torch.bool, device=rows.device)
        before, last = mask.clone(), torch.zeros(shape, device=rows.device)
        found = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        active, size = rows, 0
        while len(active):
            slopes, done = self.slopes(mask[active], active)
            found[active[done]] = True
            active, slopes = active[~done], slopes[~done]
            worth = torch.where(mask[active], -torch.inf, slopes)
            helps = worth > 0  # where none promises to, all do
            worth = torch.where(helps | ~helps.any(1, keepdim=True), worth, -torch.inf)
            growing = worth.isfinite().any(1)
            active, slopes, worth = active[growing], slopes[growing], worth[growing]
            before[active], last[active] = mask[active], slopes
            more = min(max(1, (size + 1) // 2), self.width)
            best = worth.topk(more, 1)
            mask[active] |= torch.zeros_like(mask[active]).scatter(1, best.indices, best.values.isfinite())
            size += more
        self._bisect(mask, before, last, found)
        return mask, found, last

    def _bisect(self, mask: Tensor, before: Tensor, last: Tensor, found: Tensor) -> None:
        """Leave of each last addition the shortest beginning that does; what was added comes in the order of ``last``."""
        order = torch.where(mask & ~before, last, -torch.inf).argsort(1, descending=True)
        high = (mask & ~before).sum(1)
        low = torch.zeros_like(high)  # fails, or nothing was tried below it
        active = self.run.rows[found & (high > 1)]
        while len(active):
            middle = (low[active] + high[active]) // 2
            trial = before[active] | self._first(order[active], middle)
            holds = self.holds(trial, active)
            high[active], low[active] = (
                torch.where(holds, middle, high[active]),
                torch.where(holds, low[active], middle),
            )
            active = active[high[active] - low[active] > 1]
        rows = self.run.rows[found]
        mask[rows] = before[rows] | self._first(order[rows], high[rows])

    def _first(self, order: Tensor, count: Tensor) -> Tensor:
        """The first ``count`` (R,) units of an order (R, N), as a mask."""
        taken = torch.arange(order.shape[1], device=order.device) < count[:, None]
        return torch.zeros_like(taken).scatter(1, order, taken)

    def prune(self, mask: Tensor, found: Tensor) -> Tensor:
        """Drop what the circuits can do without, in place; gives the derivatives at the circuits as they were."""
        rows = self.run.rows[found]
        slopes = torch.zeros(mask.shape, device=mask.device)
        if not len(rows):
            return slopes
        slopes[rows] = self.slopes(mask[rows], rows)[0]
        sizes = {int(row): int(mask[row].sum()) for row in rows}
        chunks = {row: max(1, size // 4) if size > 1 else 0 for row, size in sizes.items()}
        todo: dict[int, list[Tensor]] = {row: [] for row in chunks}
        trials = dict.fromkeys(chunks, 0)
        while todo:
            for row in [row for row, left in todo.items() if not left]:
                if chunks[row] < 1 or trials[row] >= TRIALS:
                    del todo[row]
                    continue
                inside = mask[row].nonzero()[:, 0]
                todo[row] = list(inside[slopes[row, inside].argsort()].split(chunks[row]))
                chunks[row] //= 2
            if not todo:
                break
            here = torch.tensor(list(todo), device=mask.device)
            trial = mask[here].clone()
            for i, row in enumerate(todo):
                trial[i, todo[row].pop(0)] = False
                trials[row] += 1
            holds = self.holds(trial, here) & trial.any(1)
            mask[here[holds]] = trial[holds]
        return slopes


def log_odds(logits: Tensor, target: Tensor) -> Tensor:
    """log p - log(1 - p) of the target (R,)."""
    others = logits.scatter(1, target[:, None], -torch.inf).logsumexp(1)
    return logits.gather(1, target[:, None])[:, 0] - others


def random_like(mask: Tensor, widths: Sequence[int], kinds: Sequence[str], seed: int, images: Sequence[int]) -> Tensor:
    """Circuits (B, N) drawn at random, each of as many units of each kind; ``images`` seeds each by itself."""
    drawn = torch.zeros_like(mask)
    where = torch.tensor([kind == "head" for kind, width in zip(kinds, widths, strict=True) for _ in range(width)])
    for i, image in enumerate(images):
        draw = torch.Generator().manual_seed(seed * 2**31 + image)
        for of_kind in (where, ~where):
            among = of_kind.nonzero()[:, 0]
            count = int((mask[i].cpu() & of_kind).sum())
            drawn[i, among[torch.randperm(len(among), generator=draw)[:count]]] = True
    return drawn
