"""Which of a model's blocks share weights: in cycles, in runs of neighbours, or in phases that the blocks' similarity shows."""

from contextlib import ExitStack
from itertools import pairwise

import torch
from torch import Tensor

from ...checks import InputError
from ...models.hooks import at_rest, eager, in_turn
from ...models.outputs import run_model
from ...models.vit import ViT
from ...options import Layout


def shared_block(vit: ViT, unique: int, layout: Layout, images: Tensor | None) -> list[int]:
    """For every block the number of the shared block that it is a pass through, 0 to unique - 1, each at least once."""
    n = len(vit.blocks)
    if layout == "cycle":
        if n % unique:
            divisors = [k for k in range(1, n + 1) if n % k == 0]
            raise InputError(
                f"unique is {unique}, which doesn't divide the {n} blocks in cycles; expected one of {', '.join(map(str, divisors))}, "
                "or layout='sequence'"
            )
        return [block % unique for block in range(n)]
    if layout == "sequence":
        return [block * unique // n for block in range(n)]
    if images is None:
        raise InputError("layout='phases' looks at images, and images is None; expected (B, C, H, W)")
    return _phases(_likeness(vit, images), unique)


def _likeness(vit: ViT, images: Tensor) -> Tensor:
    """How alike what two blocks add to the tokens is, (L, L): the mean cosine of the residual stream behind them."""
    sums = torch.zeros(len(vit.blocks), len(vit.blocks), dtype=torch.float64)
    like = next(vit.model.parameters())
    seen: list[Tensor] = []
    with ExitStack() as stack:
        stack.enter_context(in_turn(vit.model, vit.blocks, lambda _, args, __: seen.append(args[0].detach())))
        stack.enter_context(at_rest(vit.model))
        stack.enter_context(eager())
        for part in images.split(64):
            seen.clear()
            run_model(vit.model, part.to(like))
            moves = [after - before for before, after in pairwise(seen)]
            unit = torch.nn.functional.normalize(torch.stack(moves).float().flatten(2), dim=-1)
            sums[:-1, :-1] += torch.einsum("abc,dbc->ad", unit, unit).double().cpu()
    sums[-1], sums[:, -1] = sums[-2], sums[:, -2]  # what the last adds is seen by the head alone
    return sums / len(images)


def _phases(alike: Tensor, unique: int) -> list[int]:
    """Runs of neighbours with the greatest likeness inside them, found by dynamic programming: a cut of the most dissimilar."""
    n = len(alike)

    def inside(start: int, stop: int) -> float:
        return alike[start:stop, start:stop].sum().item() / (stop - start)

    best: list[list[tuple[float, list[int]]]] = [[(inside(0, stop), [0]) for stop in range(1, n + 1)]]
    for k in range(1, unique):
        row = []
        for stop in range(1, n + 1):
            choices = [
                (best[-1][start - 1][0] + inside(start, stop), [*best[-1][start - 1][1], start])
                for start in range(k, stop)
            ]
            row.append(max(choices, default=(-float("inf"), [])))
        best.append(row)
    starts = best[-1][n - 1][1]
    return [sum(start <= block for start in starts) - 1 for block in range(n)]
