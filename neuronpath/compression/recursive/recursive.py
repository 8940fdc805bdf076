"""A model whose blocks share weights: N blocks become passes through K, relaxed by low-rank products that are each block's own.

After Bae et al., "Relaxed Recursive Transformers: Effective Parameter Sharing with Layer-wise LoRA" (ICLR 2025, arXiv 2410.20672).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...checks import InputError, InputTypeError, check_count, checked
from ...data.given import Images, as_images
from ...models.adapters import merged
from ...models.factored import parts_of
from ...models.hooks import alone
from ...models.view import check_model, inner_of, view
from ...models.vit import ViT
from ...options import Init, Layout
from ..factors import ROUNDS, Inputs, fit, product
from ..low_rank import check_rank
from ..matrices import Matrix, make_of, second_moments, table_of
from .layout import shared_block


@checked
def recursive(
    model: nn.Module | ViT,
    unique: int,
    *,
    layout: Layout = "cycle",
    init: Init = "fitted",
    rank: int | Literal["full"] = 0,
    images: Images | None = None,
    progress: bool = False,
) -> nn.Module:
    """A copy of the model whose N blocks share the weights of K; the model itself is left as it was.

    A block's linear layers (out, in) become W' + b a: W' is one parameter for all blocks that share, b (out, r) and a (r, in) are its
    own, and so are its norms, biases and layer scales. The copy is an ordinary module of N blocks.

    Args:
        model: a vision transformer of a known family whose blocks are alike in shape.
        unique: K, the number of shared blocks.
        layout: "cycle": block l is a pass through shared block l mod K (the paper's). "sequence": runs of neighbours share, as equal in
            length as can be. "phases": runs cut where what the blocks add on ``images`` is least alike.
        init: where W' comes from. "fitted": W' and the products are fitted in turn so that the layers' outputs on ``images`` change
            least. "average": the mean of the blocks that share; "lower": the first K blocks; "stepwise": K blocks at equal steps from
            the first to the last (the paper's three); then b a is the truncated singular value decomposition of W - W'.
        rank: r. 0 shares everything but norms, biases and scales; "full" gives the model's logits back.
        images: calibration images (B, C, H, W), or a Dataset, DataLoader or Source of them, transformed as the model wants it; a few
            hundred do.
        progress: True shows bars.

    Raises:
        InputTypeError: for a model whose blocks aren't alike.
        InputError: for K that doesn't divide the blocks in cycles, a rank beyond a layer, images missing.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, _ = nph.demo.load("train")
        >>> looped = nph.recursive(model, unique=2, rank=8, images=images[:64])
        >>> sum(p.numel() for p in looped.parameters()) / sum(p.numel() for p in model.parameters()) < 0.5
        True
    """
    vit = view(model)
    n = len(vit.blocks)
    check_count("unique", unique)
    if unique > n:
        raise InputError(f"unique is {unique}, more than the {n} blocks; expected at most {n}")
    check_model(vit.model)
    table = table_of(vit)
    _check_alike(table, type(vit.model).__name__)
    if not isinstance(rank, str):
        check_count("rank", rank, 0)
        check_rank(rank, table)
    images = as_images(images, model)
    if images is None and init == "fitted":
        raise InputError("init='fitted' is measured on images, and images is None; expected (B, C, H, W)")
    shares = shared_block(vit, unique, layout, images)
    with alone(vit.model):
        copied = merged(vit.model)
    moments = second_moments(copied, images, progress=progress) if init == "fitted" and images is not None else None
    table = table_of(view(inner_of(copied)))
    with torch.no_grad():
        for j in tqdm(range(len(table[0])), unit="layer", disable=not progress):
            for k in range(unique):
                members = [i for i in range(n) if shares[i] == k]
                source = {"stepwise": round(k * (n - 1) / max(1, unique - 1)), "lower": k}.get(init)
                inputs = [Inputs.of(None if moments is None else moments[i][j]) for i in members]
                start = None if source is None else table[source][j].weight
                _tie([table[i][j] for i in members], inputs, rank, start, ROUNDS if init == "fitted" else 1)
    return copied


def _check_alike(table: list[list[Matrix]], name: str) -> None:
    first = {(m.where, m.name): tuple(m.weight.shape) for m in table[0]}
    for i, matrices in enumerate(table):
        here = {(m.where, m.name): tuple(m.weight.shape) for m in matrices}
        for key in [*first, *here]:
            if first.get(key) != here.get(key):
                raise InputTypeError(
                    f"blocks 0 and {i} of {name} differ in {key[0]} ({first.get(key)} and {here.get(key)}); expected blocks that are "
                    "alike in shape"
                )


def _tie(
    matrices: Sequence[Matrix], inputs: Sequence[Inputs], rank: int | str, source: Tensor | None, rounds: int
) -> None:
    """Make these matrices share one, in place: ``source``, or what is nearest to them all."""
    own = min(matrices[0].weight.shape) if isinstance(rank, str) else rank
    weights = [matrix.weight.detach().double().cpu() for matrix in matrices]
    if source is None:
        shared, pairs = fit(weights, inputs, own, _thin(matrices), rounds)
    else:
        shared = [source.detach().double().cpu()]
        pairs = [product(w - shared[0], own, each) for w, each in zip(weights, inputs, strict=True)]
    make_of(matrices, shared, pairs)


def _thin(matrices: Sequence[Matrix]) -> int | None:
    """The rank of matrices that are low-rank products already: what they come to share will be one too."""
    parts = [parts_of(matrix.module, matrix.name) for matrix in matrices]
    if any(len(each) % 2 for each in parts):
        return None
    return max(each[1].shape[0] for each in parts)
