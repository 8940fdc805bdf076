"""Layer-progressive locating: the path that maximises the joint attribution score, chosen block by block.

"Discovering Influential Neuron Path in Vision Transformers" (ICLR 2025), algorithm 1. Block by block, from input to output: let the
neurons chosen so far scale with alpha, let later blocks run live, and choose the neuron that, joined to them, scores highest.

    for block = 1 .. L:
        for every alpha:  run to block, the path scaled;  hold block's own neurons;  run the rest live;  gradients of F
        choose argmax_i  sum_t (W_t + w[t, i]) * (G_t + g[t, i])        W, G: sums over the path so far

Nothing is run twice: the residual stream behind every block is kept for every alpha and the next block starts from it.
"""

import warnings
from functools import cache

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..influence import Grid, at_neurons, path_hidden, scaled, widest
from ..runs import CleanRun
from .registry import Search, register_method

SEARCH_STEPS = 3  # anchored choices with 3 Gauss-Legendre nodes are those with 20


@register_method("joint")
def locate_progressive(run: CleanRun, search: Search) -> Tensor:
    """The path (B, L, K) of every image.

    ``search.anchor`` holds the block in search at its clean values; without it the block's whole hidden vector scales with alpha, as
    published. A candidate's own scaling moves the gradient little; scaling all the others with it moves it a lot.
    """
    load_forward_rules()
    top_k, at_once = search.top_k, search.at_once
    grid = Grid.of(run.images, search.quadrature.method, search.quadrature.n_steps or SEARCH_STEPS)
    images, alpha = grid.image, grid.alpha
    stream = run.vit.join(run.middle, run.others)[
        images
    ]  # (R, N, D): behind attention on the pooled tokens, behind the block on others
    tangent = torch.zeros_like(stream)  # what a unit change of every path neuron does to it
    chosen = torch.empty(len(run.images), 0, top_k, dtype=torch.long, device=images.device)
    path_value = torch.zeros_like(run.hidden[0][..., 0], dtype=widest(stream))  # W (B, T)

    for block, clean in enumerate(run.hidden):
        candidate = torch.zeros_like(clean, dtype=path_value.dtype)  # g (B, T, M)
        path_gradient = torch.zeros_like(path_value)  # G (B, T)
        for piece in grid.pieces(at_once):
            rows, weight = images[piece], grid.weight[piece, None].to(path_value)
            if block:
                stream[piece], tangent[piece] = into_block(run, block, stream[piece], tangent[piece])
            hidden = clean[rows] if search.anchor else clean[rows] * alpha[piece, None, None].to(clean)
            to_block, to_hidden = gradients(run, block, stream[piece], hidden, rows)
            candidate.index_add_(0, rows, to_hidden.to(candidate) * weight[:, None])
            if block:
                along = path_gradients(run, chosen, grid, piece, hidden, to_block, tangent[piece])
                path_gradient.index_add_(0, rows, along.to(path_gradient) * weight)
        best = choose(clean, candidate, path_value, path_gradient, top_k)
        chosen = torch.cat([chosen, best[:, None]], 1)
        path_value += at_neurons(clean, best).sum(2)
        for piece in grid.pieces(at_once):
            hidden = scaled(clean[images[piece]], best[images[piece]], alpha[piece])
            stream[piece], tangent[piece] = out_of_block(
                run, block, stream[piece], tangent[piece], hidden, best[images[piece]]
            )
    return chosen


def choose(clean: Tensor, gradient: Tensor, path_value: Tensor, path_gradient: Tensor, top_k: int) -> Tensor:
    """The ``top_k`` neurons (B, K) that one after the other raise the score most, each counting from then on."""
    value, slope = path_value.clone(), path_gradient.clone()
    free = torch.zeros_like(gradient[:, 0])
    best: list[Tensor] = []
    for _ in range(top_k):
        score = ((value[..., None] + clean) * (slope[..., None] + gradient)).sum(1) + free
        best.append(score.argmax(1))
        free.scatter_(1, best[-1][:, None], -torch.inf)
        value += at_neurons(clean, best[-1][:, None])[..., 0]
        slope += at_neurons(gradient, best[-1][:, None])[..., 0]
    return torch.stack(best, 1)


def gradients(run: CleanRun, block: int, stream: Tensor, hidden: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """F's gradient to the block's output (R, N, D) and to its neurons (R, T, M), its neurons held, later blocks live."""
    pooled, others = run.vit.split(stream)
    hidden = hidden.detach().requires_grad_()
    with torch.enable_grad():
        out = run.vit.mlp(block, pooled, hidden)
        x = run.vit.join(out.detach(), others).requires_grad_()
        (to_x,) = torch.autograd.grad(run.finish(x, block + 1, images).sum(), x)
        (to_hidden,) = torch.autograd.grad(out, hidden, run.vit.split(to_x)[0])
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
        x = run.enter(rows, held[0])
        for earlier in range(1, block):
            x = run.vit.block(earlier, x, held[earlier])
        x = run.vit.block(block, x, hidden)
        found = torch.autograd.grad(x, held, to_block)
    return sum(at_neurons(g, path[rows, b]).sum(2) for b, g in enumerate(found))  # type: ignore[return-value]


def into_block(run: CleanRun, block: int, stream: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """A block's input to the stream behind attention on the pooled tokens, behind the block on the others; and its tangent."""
    if run.hidden[0].shape[1] > 1:
        pooled, others = run.vit.split(run.vit.attend(block, stream))
        return run.vit.join(pooled, run.vit.mlp(block, others)), tangent
    with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no forward-mode rule
        pooled, others = run.vit.split(run.vit.attend(block, forward_ad.make_dual(stream, tangent)))
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
    with forward_ad.dual_level():
        out, along = unpack(run.vit.mlp(block, forward_ad.make_dual(pooled, along), forward_ad.make_dual(hidden, unit)))
    return run.vit.join(out, others), run.vit.join(along, along_others)


@cache
def load_forward_rules() -> None:
    """Have torch load its forward-mode rules now: they are deprecated torch.jit scripts, of which the user needn't be warned."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore")
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


def unpack(dual: Tensor) -> tuple[Tensor, Tensor]:
    value, tangent = forward_ad.unpack_dual(dual)
    return value, torch.zeros_like(value) if tangent is None else tangent
