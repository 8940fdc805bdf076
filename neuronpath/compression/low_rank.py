"""Every linear layer of the blocks as a product of two thin matrices: fewer parameters and multiply-adds, nothing shared."""

import torch
from torch import nn
from tqdm import tqdm

from ..checks import InputError, check_count, check_number, checked
from ..data.given import Images, as_images
from ..models.adapters import merged
from ..models.factored import parts_of
from ..models.hooks import alone
from ..models.view import check_model, inner_of, view
from ..models.vit import ViT
from .factors import Inputs, energies, fit, mean
from .matrices import Matrix, make_of, second_moments, table_of


@checked
def low_rank(
    model: nn.Module | ViT,
    rank: int | None = None,
    keep: float | None = None,
    *,
    images: Images | None = None,
    progress: bool = False,
) -> nn.Module:
    """A copy of the model whose blocks' linear layers (out, in) are products b (out, r) a (r, in); the model itself is left as it was.

    Without images each layer is its truncated singular value decomposition. With images its outputs on them are kept as well as the
    rank allows (the error is weighted by the second moments of the layer's inputs), which is better by far before any training. A
    layer that a product wouldn't make smaller stays as it is. Of a recursive model the shared matrices become products, each once,
    and what is a block's own is fitted again.

    Args:
        model: a vision transformer of a known family, pruned, recursive or low-rank before or not.
        rank: r, the same for every layer. Give this or ``keep``.
        keep: the share in (0, 1] of these layers' weights that stays. Ranks then differ: each goes where it saves most of its layer's
            error for the parameters that it costs.
        images: calibration images (B, C, H, W), or a Dataset, DataLoader or Source of them, transformed as the model wants it; a few
            hundred do.
        progress: True shows bars.

    Raises:
        InputError: for a rank beyond the layers, or anything else that can't be used, in one line.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, _ = nph.demo.load("train")
        >>> thin = nph.low_rank(model, rank=16, images=images[:64])
        >>> sum(p.numel() for p in thin.parameters()) / sum(p.numel() for p in model.parameters()) < 0.4
        True
    """
    if (rank is None) == (keep is None):
        raise InputError(f"rank is {rank} and keep is {keep}; expected one of them, and None for the other")
    if keep is not None:
        check_number("keep", keep, 0, 1)
    vit = view(model)
    check_model(vit.model)
    table = table_of(vit)
    if rank is not None:
        check_count("rank", rank)
        check_rank(rank, table)
    images = as_images(images, model)
    with alone(vit.model):
        copied = merged(vit.model)
    moments = None if images is None else second_moments(copied, images, progress=progress)
    table = table_of(view(inner_of(copied)))
    groups = [
        [(matrices[j], None if moments is None else moments[i][j]) for i, j in places for matrices in (table[i],)]
        for places in groups_of(table)
    ]
    with torch.no_grad():
        inputs = [[Inputs.of(moment) for _, moment in group] for group in groups]
        ranks = [rank] * len(groups) if rank is not None else _ranks(groups, inputs, keep or 1)
        for group, each, r in zip(tqdm(groups, unit="layer", disable=not progress), inputs, ranks, strict=True):
            _factor([matrix for matrix, _ in group], each, r)
    return copied


def check_rank(rank: int, table: list[list[Matrix]]) -> None:
    """Refuse a rank that is beyond a layer."""
    for i, matrices in enumerate(table):
        for matrix in matrices:
            if rank > min(matrix.weight.shape):
                raise InputError(
                    f"rank is {rank}, and {matrix.where} of block {i} is {tuple(matrix.weight.shape)}; expected at most "
                    f"{min(min(m.weight.shape) for row in table for m in row)}"
                )


def groups_of(table: list[list[Matrix]]) -> list[list[tuple[int, int]]]:
    """The matrices (block, number there) that share a part, together; every other by itself."""
    groups: dict[int, list[tuple[int, int]]] = {}
    for i, matrices in enumerate(table):
        for j, (module, name, _) in enumerate(matrices):
            groups.setdefault(id(parts_of(module, name)[0]), []).append((i, j))
    return list(groups.values())


def _ranks(groups: list, inputs: list[list[Inputs]], keep: float) -> list[int]:
    """A rank for each group: of all further ranks those that take the largest share of a layer's error for their parameters."""
    budget, gains = 0.0, []
    for g, (group, each) in enumerate(zip(groups, inputs, strict=True)):
        out, wide = group[0][0].weight.shape
        budget += keep * out * wide
        centre, whole = mean([matrix.weight.detach().double().cpu() for matrix, _ in group], each)
        found = energies(centre, whole)
        shares = found / found.sum().clamp_min(1e-300)
        gains += [(-share / (out + wide), g, out + wide) for share in shares[: out * wide // (out + wide)].tolist()]
    ranks = [1] * len(groups)
    spent = sum(sum(group[0][0].weight.shape) for group in groups)
    gains.sort()
    for _, g, cost in gains:
        if spent + cost > budget:
            break
        ranks[g] += 1
        spent += cost
    return ranks


def _factor(matrices: list[Matrix], inputs: list[Inputs], rank: int) -> None:
    """One group of matrices in parts of this rank, in place; what shares nothing becomes one product."""
    out, wide = matrices[0].weight.shape
    if rank * (out + wide) >= out * wide:
        return
    weights = [matrix.weight.detach().double().cpu() for matrix in matrices]
    held = parts_of(*matrices[0][:2])
    own = held[-1].shape[0] if len(held) > 2 else 0
    make_of(matrices, *fit(weights, inputs, own, rank))
