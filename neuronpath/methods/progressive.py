"""Layer-progressive locating: the path that maximises the joint attribution score, chosen block by block.

"Discovering Influential Neuron Path in Vision Transformers" (ICLR 2025), algorithm 1. Block by block, from input to output: let the
neurons chosen so far scale with alpha, let later blocks run live, and choose the neuron that, joined to them, scores highest.

    for block = 1 .. L:
        for every alpha:  run to block, the path scaled;  hold block's own neurons;  run the rest live;  gradients of F
        choose argmax_i  sum_t (W_t + w[t, i]) * (G_t + g[t, i])        W, G: sums over the path so far

Nothing is run twice: the residual stream behind every block is kept for every alpha and the next block starts from it.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from ..models.outputs import widest
from ..options import Units
from ..runs.clean import CleanRun
from ..runs.gradients import gradients_of
from ..runs.influence import Grid, Quadrature, path_hidden
from ..runs.quadrature import nodes_and_weights
from ..units import at_units, scaled
from .registry import Found, Search, best_units

UNITS: tuple[Units, ...] = ("neurons",)  # a head's values can't be scaled without running its block's attention


def locate_progressive(run: CleanRun, search: Search) -> Found:
    """Anchored: the block in search is held at its clean values while a candidate is judged.

    A candidate's own scaling moves the gradient little; scaling all the block's others with it moves it a lot.
    """
    return Found(progress(run, search, search.quadrature, anchor=True))


def locate_as_published(run: CleanRun, search: Search) -> Found:
    """To the letter: the whole hidden vector of the block in search scales with alpha."""
    return Found(progress(run, search, search.quadrature, anchor=False))


def progress(run: CleanRun, search: Search, quadrature: Quadrature, anchor: bool) -> Tensor:
    """The path (B, L, K) of every image."""
    load_forward_rules()
    nodes = nodes_and_weights(quadrature.method, quadrature.fewest)
    grid = Grid.of(run.rows, *nodes)
    images, alpha = grid.image, grid.alpha
    # (R, N, D): behind attention on the pooled tokens, behind the whole block on the others
    stream = run.vit.join(run.middle, run.others)[images]
    tangent = torch.zeros_like(stream)  # what a unit change of every path neuron does to it
    path = torch.empty(len(run.rows), 0, search.top_k, dtype=torch.long, device=images.device)
    path_value = torch.zeros_like(run.hidden[0][..., 0], dtype=widest(stream))  # W (B, T)

    for block, clean in enumerate(run.hidden):
        candidate = torch.zeros_like(clean, dtype=path_value.dtype)  # g (B, T, M)
        path_gradient = torch.zeros_like(path_value)  # G (B, T)

        def judge(piece: slice) -> None:
            rows, weight = images[piece], grid.weight[piece, None].to(path_value)
            here, along = stream[piece], tangent[piece]
            if block:
                here, along = into_block(run, block, here, along, rows)
            hidden = clean[rows] if anchor else clean[rows] * alpha[piece, None, None].to(clean)
            to_block, to_hidden = gradients(run, block, here, hidden, rows)
            if block:
                to_path = path_gradients(run, path, grid, piece, hidden, to_block, along)
                path_gradient.index_add_(0, rows, to_path.to(path_gradient) * weight)
            candidate.index_add_(0, rows, to_hidden.to(candidate) * weight[:, None])
            stream[piece], tangent[piece] = here, along

        run.pieces.each(len(images), judge)
        best = best_units(clean, candidate, path_value, path_gradient, search.top_k)
        path = torch.cat([path, best[:, None]], 1)
        path_value += at_units(clean, best).sum(2)

        def pass_on(piece: slice) -> None:
            rows = images[piece]
            hidden = scaled(clean[rows], best[rows], alpha[piece])
            passed = out_of_block(run, block, stream[piece], tangent[piece], hidden, best[rows])
            stream[piece], tangent[piece] = passed

        run.pieces.each(len(images), pass_on)
    return path


def gradients(run: CleanRun, block: int, stream: Tensor, hidden: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """F's gradient to the block's output (R, N, D) and to its neurons (R, T, M), its neurons held, later blocks live."""
    pooled, others = run.vit.split(stream)
    hidden = hidden.detach().requires_grad_()
    with torch.enable_grad():
        out = run.vit.mlp(block, pooled, hidden)
        x = run.vit.join(out.detach(), others).requires_grad_()
        (to_x,) = gradients_of(run.finish(x, block + 1, images), [x])
        (to_hidden,) = torch.autograd.grad(out, hidden, run.vit.split(to_x)[0].to(out.dtype))
    return to_x, to_hidden


def path_gradients(
    run: CleanRun, path: Tensor, grid: Grid, piece: slice, hidden: Tensor, to_block: Tensor, tangent: Tensor
) -> Tensor:
    """The gradients of the path's earlier neurons, summed over them: (R, T).

    For one pooled token that is the gradient to the block's output along the tangent of all those neurons; for several tokens,
    which the score keeps apart, a backward through the blocks that they have passed, whose MLPs are held on most tokens.
    """
    if hidden.shape[1] == 1:
        return (to_block * tangent).sum((1, 2))[:, None]
    rows, block = grid.image[piece], path.shape[1]
    held = [values.requires_grad_() for values in path_hidden(run, path, rows, grid.alpha[piece])]
    with torch.enable_grad():
        hold = dict(enumerate([*held, hidden]))
        x = run.enter(rows, hold)
        for later in range(1, block + 1):
            x = run.block(later, x, rows, hold)
        found = torch.autograd.grad(x, held, to_block)
    return sum(at_units(g, path[rows, b]).sum(2) for b, g in enumerate(found))  # type: ignore[return-value]


def into_block(run: CleanRun, block: int, stream: Tensor, tangent: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """A block's input to the stream behind attention on the pooled tokens, behind the block on the others; and its tangent."""
    if run.hidden[0].shape[1] > 1:
        pooled, others = run.vit.split(run.attend(block, stream, images))
        return run.vit.join(pooled, run.vit.mlp(block, others)), tangent
    # fused attention has no forward-mode rule
    with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), fast_attention_off(), ConstantWeights():
        pooled, others = run.vit.split(run.attend(block, forward_ad.make_dual(stream, tangent), images))
        return unpack(run.vit.join(pooled, run.vit.mlp(block, others)))


def out_of_block(
    run: CleanRun, block: int, stream: Tensor, tangent: Tensor, hidden: Tensor, best: Tensor
) -> tuple[Tensor, Tensor]:
    """The pooled tokens through the block's MLP, its neurons held at ``hidden``; the tangent gains that of the neurons ``best``."""
    pooled, others = run.vit.split(stream)
    if hidden.shape[1] > 1:
        return run.vit.join(run.vit.mlp(block, pooled, hidden), others), tangent
    along, along_others = run.vit.split(tangent)
    unit = torch.zeros_like(hidden).scatter_(2, best[:, None], 1.0)
    with forward_ad.dual_level(), ConstantWeights():
        out, along = unpack(run.vit.mlp(block, forward_ad.make_dual(pooled, along), forward_ad.make_dual(hidden, unit)))
    return run.vit.join(out, others), run.vit.join(along, along_others)


class ConstantWeights(TorchFunctionMode):
    """Push tangents through linear layers as the layers are: torch's own rule also multiplies by their weights' tangents, zeros."""

    def __torch_function__(self, func: Callable, _types: Sequence, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is F.linear and len(args) > 1:
            primal, tangent = forward_ad.unpack_dual(args[0])
            if tangent is not None:
                return forward_ad.make_dual(F.linear(primal, *args[1:], **kwargs), F.linear(tangent, args[1]))
        return func(*args, **kwargs)


@contextmanager
def fast_attention_off() -> Iterator[None]:
    """Have ``nn.MultiheadAttention`` compute by its parts, also where no gradient is recorded."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@cache
def load_forward_rules() -> None:
    """Have torch load its forward-mode rules now: they are deprecated torch.jit scripts, of which the user needn't be warned."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore")
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


def unpack(dual: Tensor) -> tuple[Tensor, Tensor]:
    value, tangent = forward_ad.unpack_dual(dual)
    return value, torch.zeros_like(value) if tangent is None else tangent
