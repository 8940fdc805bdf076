""":func:`rank_units`: every unit of every image in an order of importance, of which the first k should decide for every k.

    S = {}
    until all units are in S:
        g = derivatives of the log-odds to all gates, the units of S on, all others partly: the mean over SHARES
        while the log-odds are below the clean run's, the absent units with the largest g come next; from then on those with
        the largest |g|: as many as S has, at least 1

With all others wholly off, what only works together shows no derivative; a chain of units that pass on what is large enough shows one
only where nearly all of it is on. And once the units that help are there, the rest is to give
the model back, not to surpass it: what speaks for the target and what speaks against it come by how much they matter.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..checks import InputTypeError, checked
from ..data.given import Images, Target, as_images
from ..models.hooks import at_rest
from ..models.view import view
from ..models.vit import ViT
from ..options import Baseline, Ranking, Token, Units
from ..runs.baselines import ablation, baseline_named
from ..runs.clean import CleanRun, clean_runs
from ..runs.gates import Ablated, gated, mean_gates
from ..runs.gradients import gradients_of
from .grow import log_odds

SHARES = (0.1, 0.4, 0.9)  # how far absent units are on where derivatives are taken
NODES = 5  # of "integrated"


@checked
def rank_units(
    model: nn.Module | ViT,
    images: Images,
    target: Target = None,
    *,
    by: Ranking = "growth",
    units: Units | None = None,
    token: Token | None = None,
    baseline: Baseline | None = None,
    reference: Images | None = None,
    internal_batch_size: int | None = None,
    seed: int = 0,
) -> list[Tensor]:
    """How important each unit is to each image's decision: a ranking, as :func:`~neuronpath.faithfulness` takes it.

    Args:
        model: a vision transformer with a head, of a known family; it is left exactly as it was.
        images: (B, C, H, W), or a Dataset, DataLoader or Source of them, transformed as the model wants it.
        target: the class whose log-odds are explained: None for the predicted one, an int, or one an image (B,).
        by: what ranks, of N units:

            - "growth": all units are ablated, and come back one after the other: those first that raise the target's log-odds most
              beside those that are there already, until it is what it was; then those that change it most, either way. The numbers
              are the order, N for the first and 1 for the last. About 3 log2 N + 5 forward + backward passes.
            - "integrated": the log-odds' derivative to the unit's gate, averaged while all units go from what they are to ablated, as
              EAP-IG does for edges. 5 passes.
            - "gates": the derivative in the clean run: attribution patching. 1 pass.

        units: "both" (None), "heads" or "neurons"; units of the kind that isn't named stay as they are.
        token: the tokens on which units are ablated (see :func:`~neuronpath.view`); None is all.
        baseline: what units are ablated to: "zero", "mean", "resample" or "paired" (see :func:`~neuronpath.find_path`); None is "mean"
            where there is a reference, else "zero".
        reference: the images (R, C, H, W) for that, or a Dataset, DataLoader or Source of them.
        internal_batch_size: rows run at once; None fits them to the memory.
        seed: of "resample".

    Returns:
        A tensor (B, U) a site, float32 on the CPU; more is more important. With units="both" each block's heads come before its
        neurons. Of the derivatives (in log-odds) those below 0 are of units that speak against the target.

    Raises:
        InputError: in one line, for anything that can't be used.

    Source: "growth" is ours; "integrated" after Hanna et al., "Have Faith in Faithfulness" (COLM 2024, arXiv 2403.17806), units in
    place of edges; "gates" after Syed et al., "Attribution Patching Outperforms Automated Circuit Discovery" (arXiv 2310.10348).

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load()
        >>> ranking = nph.rank_units(model, images[:4])
        >>> [tuple(site.shape) for site in ranking][:2]  # block 0's heads and neurons
        [(4, 4), (4, 256)]
    """
    images = as_images(images, model)
    reference = as_images(reference, model, "reference")
    own = isinstance(model, ViT)
    vit = view(model, token or (None if own else "all"), units or (None if own else "both"))
    if not vit.has_head:
        raise InputTypeError(f"{type(vit.model).__name__} has no classes, so no decision; expected a model with a head")
    ablate = ablation(vit, baseline_named(baseline, reference), reference, len(images), seed)
    parts: list[Tensor] = []
    with at_rest(vit.model):
        for run in clean_runs(vit, images, target, "prob", internal_batch_size):
            ablated = ablate(run, sum(map(len, parts)))
            parts.append(WAYS[by](replace(run, output=log_odds), ablated).float().cpu())  # type: ignore[arg-type]  # there is a target
    return list(torch.cat(parts).split(vit.widths, 1))


def grown(run: CleanRun, ablated: Ablated) -> Tensor:
    """The order in which the units (B, N) come back, the first N and the last 1."""
    order = torch.zeros(len(run.rows), sum(run.vit.widths), device=run.rows.device)
    total = order.shape[1]
    size = 0
    while size < total:
        absent = order == 0
        found = [_slopes(run, torch.where(absent, share, 1.0), ablated) for share in SHARES]
        slopes = torch.stack([slope for slope, _ in found]).mean(0)
        enough = found[0][1] >= run.value
        worth = torch.where(enough[:, None], slopes.abs(), slopes).masked_fill(~absent, -torch.inf)
        more = min(max(1, size), total - size)
        numbers = torch.arange(total - size, total - size - more, -1, device=order.device, dtype=order.dtype)
        order.scatter_(1, worth.topk(more, 1).indices, numbers.expand(len(order), -1))
        size += more
    return order


def _slopes(run: CleanRun, gates: Tensor, ablated: Ablated) -> tuple[Tensor, Tensor]:
    """F's derivatives to all gates (B, N) where they are what they are, and F (B,)."""
    slopes, value = torch.empty_like(gates), torch.empty_like(run.value)

    def work(piece: slice) -> None:
        here = gates[piece].to(run.middle.dtype).requires_grad_()
        with torch.enable_grad():
            output = gated(run, run.rows[piece], here.split(run.vit.widths, 1), ablated)
            (slope,) = gradients_of(output, [here])
        slopes[piece], value[piece] = slope.float(), output.detach()

    run.pieces.each(len(gates), work)
    return slopes, value


def integrated(run: CleanRun, ablated: Ablated) -> Tensor:
    """The derivatives (B, N) averaged while all units go."""
    return torch.cat(mean_gates(run, None, "gausslegendre", NODES, ablated), 1)


def clean(run: CleanRun, ablated: Ablated) -> Tensor:
    """The derivatives (B, N) in the clean run."""
    return torch.cat(mean_gates(run, None, "riemann_right", 1, ablated), 1)


WAYS: dict[str, Callable[[CleanRun, Ablated], Tensor]] = {"growth": grown, "integrated": integrated, "gates": clean}
