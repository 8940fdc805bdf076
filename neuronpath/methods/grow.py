"""The search for a circuit: grow it from nothing, bisect the last growth, prune it back. A circuit is of one image, or of many.

    S = {};  c = 0.3 (break: 0)
    until the criterion holds with c = 0:
        g = derivatives of the log-odds to all gates, S on and all others at c (keep), S at c and all others on (break), or both summed
        if the criterion holds with this c: go on with c = 0.1, then 0
        S += the absent units with the largest g > 0: as many as promise a third of the log-odds that are missing,
             but at least a quarter of what S has, and at most half of that and 8
    bisect the last addition
    g = the derivatives at S;  chunk = an eighth of S
    walk through S, smallest g first:  without the next chunk, does the criterion hold?  then drop it, and double the chunk;
        else try a quarter of it, or pass by what is a single unit;  stop behind 4 such in a row

The log-odds of the target don't saturate as its probability does. With c above 0 the first units are chosen where the model is still
half itself: derivatives there promise more of what units do together than where nearly all is ablated. Of a circuit of many images the
derivatives, and what is asked for, are means over them. A circuit that does what it must leaves the growth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..runs.clean import CleanRun
from ..runs.gates import Ablated, gated_answer
from ..runs.gradients import gradients_of

PROMISED = 1 / 3  # of the missing log-odds: what a growth is to bring
LEVELS = (0.3, 0.1, 0.0)  # of the gates that are off, while a circuit that keeps grows
LEAST, MOST, MORE = 1 / 4, 1 / 2, 8  # of a growth, in units: shares of what is there, and what may come on top
CHUNK = 1 / 8  # of the circuit: what pruning tries to drop first
PATIENCE, TRIALS = 4, 60  # of pruning: single units in a row that can't go, and trials in all
BACKWARD = 2 / 3  # of F+B; a forward is the rest


@dataclass(frozen=True)
class Criterion:
    """What a circuit must do."""

    kind: str  # "keep", "break" or "both"
    keep: float  # the share of the target's probability that a circuit alone must leave
    decisions: float = 1.0  # of many images' circuit: the share of their decisions that it must keep, or break

    @property
    def keeps(self) -> bool:
        return self.kind != "break"

    @property
    def breaks(self) -> bool:
        return self.kind != "keep"

    @property
    def runs(self) -> list[bool]:
        """The runs that tell: with the circuit alone (True), and without it (False)."""
        return [True] * self.keeps + [False] * self.breaks


@dataclass(eq=False)
class Grower:
    """Circuits in the making. R of all G are named by their numbers (R,), their units by a mask (R, N), their M images in turn."""

    run: CleanRun
    target: Tensor  # (B,): the class that a circuit keeps, or breaks
    wanted: Tensor  # (B,): the probability that counts as kept whole
    criterion: Criterion
    ablated: Ablated
    circuit: Tensor | None = None  # (B,): the number of the circuit that each image is of; None is one an image
    levels: tuple[float, ...] = LEVELS
    cost: Tensor = field(init=False)  # (G,): in F+B of all the circuit's images

    def __post_init__(self) -> None:
        self.of = self.run.rows if self.circuit is None else self.circuit
        self.images = torch.bincount(self.of)  # (G,)
        self.circuits = torch.arange(len(self.images), device=self.of.device)
        self.cost = torch.zeros(len(self.images), dtype=torch.float64)

    @property
    def width(self) -> int:
        """The number of all units, N."""
        return sum(self.run.vit.widths)

    def _images_of(self, circuits: Tensor) -> tuple[Tensor, Tensor]:
        """The images (M,) of circuits (R,), and the place of each one's circuit among these, (M,)."""
        places = torch.full_like(self.images, -1)
        places[circuits] = torch.arange(len(circuits), device=places.device)
        images = (places[self.of] >= 0).nonzero()[:, 0]
        return images, places[self.of[images]]

    def _spend(self, images: Tensor, cost: float) -> None:
        """Note what runs of images (M,) have cost; ``cost`` is of one image."""
        circuits = self.of[images]
        self.cost.index_add_(0, circuits.cpu(), (cost / self.images[circuits]).double().cpu())

    def _answers(self, gates: Tensor, images: Tensor) -> Tensor:
        """The logits (M, classes) with these gates (M, N), each image's own."""
        return gated_answer(self.run, images, gates.split(self.run.vit.widths, 1), self.ablated)

    def holds(self, mask: Tensor, circuits: Tensor) -> Tensor:
        """Whether circuits (R,) of these units (R, N) do what they must, (R,)."""
        images, places = self._images_of(circuits)
        said = torch.ones(3, len(images), device=mask.device)

        def work(piece: slice) -> None:
            on = mask[places[piece]].to(self.run.middle.dtype)
            for alone in self.criterion.runs:
                answers = self._answers(on if alone else 1 - on, images[piece])
                self._note(said[:, piece], answers, images[piece], alone)
            self._spend(images[piece], len(self.criterion.runs) * (1 - BACKWARD))

        self.run.pieces.each(len(images), work)
        return self._met(said, places, len(circuits))

    def slopes(self, mask: Tensor, circuits: Tensor, off: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The derivatives (R, N) to all gates at circuits (R,) of these units (R, N), gates that are off being at ``off`` (R,), whether
        these do what they must, (R,), and the log-odds that they lack, (R,)."""
        images, places = self._images_of(circuits)
        slopes = torch.zeros(mask.shape, device=mask.device)
        lacking = torch.zeros(len(images), device=mask.device)
        said = torch.ones(3, len(images), device=mask.device)

        def work(piece: slice) -> None:
            here, place = images[piece], places[piece]
            found, missing = [], torch.zeros(len(here), device=mask.device)
            for alone in self.criterion.runs:
                gates = (
                    torch.where(mask[place] == alone, 1.0, off[place, None]).to(self.run.middle.dtype).requires_grad_()
                )
                with torch.enable_grad():
                    answers = self._answers(gates, here)
                    odds = log_odds(answers, self.target[here])
                    (slope,) = gradients_of(odds, [gates])
                found.append(slope.float() / self.images[self.of[here], None])
                goal = (self.criterion.keep * self.wanted[here]).logit(1e-6) if alone else torch.zeros_like(odds)
                missing += (goal - odds.detach().float() if alone else odds.detach().float()).clamp(min=0)
                self._note(said[:, piece], answers.detach(), here, alone)
            for slope in found:  # at the end, for a piece that memory didn't hold is run again
                slopes.index_add_(0, place, slope)
            lacking[piece] = missing
            self._spend(here, len(self.criterion.runs))

        self.run.pieces.each(len(images), work)
        return slopes, self._met(said, places, len(circuits)), self._means(lacking, places, len(circuits))

    def _note(self, said: Tensor, answers: Tensor, images: Tensor, alone: bool) -> None:
        """Write what a run says of images (M,) into (3, M): the share of the probability that is kept, whether the decision is kept,
        and whether it is broken."""
        same = answers.argmax(1) == self.target[images]
        if alone:
            left = answers.float().softmax(1).gather(1, self.target[images, None])[:, 0]
            said[0], said[1] = (left / self.wanted[images]).clamp(max=1), same
        else:
            said[2] = ~same

    def _met(self, said: Tensor, places: Tensor, count: int) -> Tensor:
        """Whether circuits do what they must (R,), by what was noted of their images; of what wasn't asked it is 1."""
        kept, same, broken = (self._means(values, places, count) for values in said)
        share = self.criterion.decisions
        return (kept >= self.criterion.keep) & (same >= share) & (broken >= share)

    def _means(self, values: Tensor, places: Tensor, count: int) -> Tensor:
        """The means (R,) over each circuit's images of values (M,)."""
        return torch.zeros(count, device=values.device).index_add_(0, places, values) / places.bincount(minlength=count)

    def grow(self) -> tuple[Tensor, Tensor, Tensor]:
        """The circuits (G, N), whether they do what they must, (G,), and the derivatives at each's last growth (G, N)."""
        active = self.circuits
        mask = torch.zeros(len(active), self.width, dtype=torch.bool, device=active.device)
        before, last = mask.clone(), torch.zeros(mask.shape, device=mask.device)
        found = torch.zeros_like(active, dtype=torch.bool)
        levels = torch.tensor(self.levels if self.criterion.keeps else self.levels[-1:], device=mask.device)
        step = torch.zeros_like(active)
        while len(active):
            slopes, done, lacking = self.slopes(mask[active], active, levels[step[active]])
            eased = done & (step[active] < len(levels) - 1)
            step[active[eased]] += 1
            found[active[done & ~eased]] = True
            worth = torch.where(mask[active], -torch.inf, slopes)
            helps = worth > 0  # where none promises to, all do
            worth = torch.where(helps | ~helps.any(1, keepdim=True), worth, -torch.inf)
            grows = ~done & worth.isfinite().any(1)
            growing, slopes, worth, lacking = active[grows], slopes[grows], worth[grows], lacking[grows]
            active = active[eased | grows]
            before[growing], last[growing] = mask[growing], slopes
            best = worth.sort(dim=1, descending=True, stable=True)
            wanted = (best.values.clamp(min=0).cumsum(1) < PROMISED * lacking[:, None]).sum(1) + 1
            size = mask[growing].sum(1)
            more = wanted.clamp(max=(MOST * size).ceil().long() + MORE).maximum((LEAST * size).ceil().long())
            mask[growing] |= self._first(best.indices, more.minimum(worth.isfinite().sum(1)))
        self._bisect(mask, before, last, found)
        return mask, found, last

    def _bisect(self, mask: Tensor, before: Tensor, last: Tensor, found: Tensor) -> None:
        """Leave of each last addition the shortest beginning that does; what was added comes in the order of ``last``."""
        order = torch.where(mask & ~before, last, -torch.inf).argsort(1, descending=True)
        high = (mask & ~before).sum(1)
        low = torch.zeros_like(high)  # fails, or nothing was tried below it
        active = self.circuits[found & (high > 1)]
        while len(active):
            middle = (low[active] + high[active]) // 2
            holds = self.holds(before[active] | self._first(order[active], middle), active)
            high[active] = torch.where(holds, middle, high[active])
            low[active] = torch.where(holds, low[active], middle)
            active = active[high[active] - low[active] > 1]
        mask[found] = (before | self._first(order, high))[found]

    def _first(self, order: Tensor, count: Tensor) -> Tensor:
        """The first ``count`` (R,) units of an order (R, N), as a mask."""
        taken = torch.arange(order.shape[1], device=order.device) < count[:, None]
        return torch.zeros_like(taken).scatter(1, order, taken)

    def prune(self, mask: Tensor, found: Tensor) -> Tensor:
        """Drop what the circuits can do without, in place; gives the derivatives at the circuits as they were."""
        active = self.circuits[found]
        slopes = torch.zeros(mask.shape, device=mask.device)
        if not len(active):
            return slopes
        slopes[active] = self.slopes(mask[active], active, torch.zeros_like(slopes[active, 0]))[0]
        order = torch.where(mask, slopes, torch.inf).argsort(dim=1, stable=True)
        size = mask.sum(1)
        chunk = (CHUNK * size).long().clamp(min=1)
        passed, failed, tried = (torch.zeros_like(size) for _ in range(3))
        while len(active):
            begin, end = passed[active], passed[active] + chunk[active]
            trial = mask[active] & ~(self._first(order[active], end) & ~self._first(order[active], begin))
            holds = self.holds(trial, active) & trial.any(1)
            single = chunk[active] == 1
            mask[active] = torch.where(holds[:, None], trial, mask[active])
            passed[active] = torch.where(holds, end, begin + single)
            failed[active] = torch.where(holds, 0, failed[active] + single)
            chunk[active] = torch.where(holds, 2 * chunk[active], (chunk[active] // 4).clamp(min=1))
            tried[active] += 1
            active = active[((passed < size) & (failed < PATIENCE) & (tried < TRIALS))[active]]
        return slopes


def decided(run: CleanRun, target: Tensor, on: Tensor, ablated: Ablated) -> tuple[Tensor, Tensor]:
    """The target's probability (B,) with only these units on (B, N), and whether the model still decides for it."""
    probability = torch.zeros(len(run.rows), device=on.device)
    same = torch.zeros(len(run.rows), dtype=torch.bool, device=on.device)

    def work(piece: slice) -> None:
        gates = on[piece].to(run.middle.dtype).split(run.vit.widths, 1)
        answers = gated_answer(run, run.rows[piece], gates, ablated).float()
        probability[piece] = answers.softmax(1).gather(1, target[piece, None])[:, 0]
        same[piece] = answers.argmax(1) == target[piece]

    run.pieces.each(len(run.rows), work)
    return probability, same


def log_odds(logits: Tensor, target: Tensor) -> Tensor:
    """log p - log(1 - p) of the target (R,)."""
    others = logits.scatter(1, target[:, None], -torch.inf).logsumexp(1)
    return logits.gather(1, target[:, None])[:, 0] - others


def random_like(mask: Tensor, widths: Sequence[int], kinds: Sequence[str], seed: int, images: Sequence[int]) -> Tensor:
    """Circuits (B, N) drawn at random, each of as many units of each kind; ``images`` seeds each by itself."""
    drawn = torch.zeros_like(mask)
    where = torch.tensor([kind == "head" for kind, width in zip(kinds, widths, strict=True) for _ in range(width)])
    for i, image in enumerate(images):
        draw = torch.Generator().manual_seed((seed * 2**31 + image) % 2**64)  # what torch takes
        for of_kind in (where, ~where):
            among = of_kind.nonzero()[:, 0]
            count = int((mask[i].cpu() & of_kind).sum())
            drawn[i, among[torch.randperm(len(among), generator=draw)[:count]]] = True
    return drawn
