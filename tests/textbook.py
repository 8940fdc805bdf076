"""The published algorithm with no cleverness at all, to hold the library against: it shares no code with it.

Every run is a plain forward of the timm model from the pixels, with forward pre-hooks on ``blocks[l].mlp.fc2``, every gradient
is ``torch.autograd.grad``, and nothing is kept from one block to the next. All is in the model's own dtype: give it float64.

B images, L blocks, K neurons a block, M neurons to choose from, T tokens that the head pools.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn


def pooled_tokens(model: nn.Module) -> slice:
    """T: the class token (and the distillation token, where there is one), or all patch tokens."""
    if model.global_pool == "token":
        return slice(0, 2 if hasattr(model, "dist_token") else 1)
    return slice(model.num_prefix_tokens, None)


@contextmanager
def hooked(model: nn.Module, hooks: Sequence[Callable]) -> Iterator[None]:
    with ExitStack() as stack:
        for block, hook in zip(model.blocks, hooks, strict=False):
            stack.callback(block.mlp.fc2.register_forward_pre_hook(hook).remove)
        yield


def clean(model: nn.Module, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """An ordinary run: every block's neurons on the pooled tokens, L of (B, T, M), and the logits."""
    hidden: list[Tensor] = []

    def keep(_module: nn.Module, args: tuple) -> None:
        hidden.append(args[0][:, pooled_tokens(model)].clone())

    with torch.no_grad(), hooked(model, [keep] * len(model.blocks)):
        logits = model(images)
    return hidden, logits


def frozen_output(
    model: nn.Module, images: Tensor, target: Tensor, held: Sequence[Tensor], output: str = "prob"
) -> Tensor:
    """F (B,) while the first blocks' neurons are held at ``held``, one (B, T, M) a block; blocks beyond them run live."""

    def holding(values: Tensor) -> Callable:
        def hook(_module: nn.Module, args: tuple) -> tuple[Tensor]:
            x = args[0].clone()
            x[:, pooled_tokens(model)] = values
            return (x,)

        return hook

    with hooked(model, [holding(values) for values in held]):
        logits = model(images)
    values = logits.softmax(-1) if output == "prob" else logits
    return values[torch.arange(len(images)), target]


def frozen_gradients(
    model: nn.Module, images: Tensor, target: Tensor, held: Sequence[Tensor], output: str = "prob"
) -> list[Tensor]:
    """dF/dh for every held block, (B, T, M) each."""
    leaves = [values.detach().requires_grad_() for values in held]
    return list(torch.autograd.grad(frozen_output(model, images, target, leaves, output).sum(), leaves))


def pick(values: Tensor, neurons: Tensor) -> Tensor:
    """Of (B, T, M) the neurons (B, K): (B, T, K)."""
    return torch.stack([values[b][:, neurons[b]] for b in range(len(neurons))])


def scale(values: Tensor, neurons: Tensor, alpha: float) -> Tensor:
    """(B, T, M) with the neurons (B, K) multiplied by alpha."""
    values = values.clone()
    for b in range(len(neurons)):
        values[b][:, neurons[b]] *= alpha
    return values


def progressive_path(
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    nodes: Sequence[float],
    weights: Sequence[float],
    output: str = "prob",
    anchored: bool = False,
) -> Tensor:
    """Layer-progressive locating, (B, L, 1): the block in search is scaled as a whole, or ``anchored`` at its clean values."""
    hidden, _ = clean(model, images)
    path = torch.empty(len(images), 0, 1, dtype=torch.long)
    for block, values in enumerate(hidden):
        gradient = torch.zeros_like(values)  # of the candidates
        path_gradient = torch.zeros_like(values[..., :1])
        for alpha, weight in zip(nodes, weights, strict=True):
            held = [scale(hidden[b], path[:, b], alpha) for b in range(block)]
            held.append(values if anchored else alpha * values)
            *earlier, here = frozen_gradients(model, images, target, held, output)
            gradient += weight * here
            path_gradient += weight * sum(pick(g, path[:, b]) for b, g in enumerate(earlier))
        path_value = sum(pick(hidden[b], path[:, b]) for b in range(block))
        score = ((path_value + values) * (path_gradient + gradient)).sum(1)
        path = torch.cat([path, score.argmax(1)[:, None, None]], 1)
    return path


def paper_path(model: nn.Module, images: Tensor, target: Tensor, n_steps: int = 20, output: str = "prob") -> Tensor:
    """Layer-progressive locating as published, (B, L, 1): left Riemann, all of the block in search scaled by alpha."""
    nodes, weights = [step / n_steps for step in range(n_steps)], [1 / n_steps] * n_steps
    return progressive_path(model, images, target, nodes, weights, output)


def joint_score(
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    path: Tensor,
    nodes: Sequence[float],
    weights: Sequence[float],
    output: str = "prob",
) -> tuple[Tensor, Tensor, Tensor]:
    """Of a path (B, L, K): the joint attribution score (B,), every neuron's attribution (B, L, K), and F(1) - F(0) (B,)."""
    hidden, _ = clean(model, images)
    blocks = range(len(hidden))

    def at(alpha: float) -> list[Tensor]:
        return [scale(hidden[b], path[:, b], alpha) for b in blocks]

    value = torch.stack([pick(hidden[b], path[:, b]) for b in blocks], 1)  # (B, L, T, K)
    gradient = torch.zeros_like(value)
    for alpha, weight in zip(nodes, weights, strict=True):
        found = frozen_gradients(model, images, target, at(alpha), output)
        gradient += weight * torch.stack([pick(found[b], path[:, b]) for b in blocks], 1)
    score = (value.sum((1, 3)) * gradient.sum((1, 3))).sum(1)
    with torch.no_grad():
        change = frozen_output(model, images, target, at(1), output) - frozen_output(
            model, images, target, at(0), output
        )
    return score, (value * gradient).sum(2), change


def brute_force_greedy(
    model: nn.Module,
    image: Tensor,
    target: int,
    nodes: Sequence[float],
    weights: Sequence[float],
    output: str = "prob",
) -> list[int]:
    """The greedy path of one image (C, H, W), exactly: each candidate of a block is scaled by itself with the path so far.

    The others of the block in search are held at their clean values. A batch is the candidates of one block at one node.
    """
    clean_hidden, _ = clean(model, image[None])
    path: list[int] = []
    for block in range(len(clean_hidden)):
        candidates = torch.arange(clean_hidden[block].shape[2])
        hidden = [h.expand(len(candidates), -1, -1) for h in clean_hidden[: block + 1]]
        chosen = [torch.full_like(candidates, p)[:, None] for p in path] + [candidates[:, None]]
        gradient = 0
        for alpha, weight in zip(nodes, weights, strict=True):
            held = [scale(h, c, alpha) for h, c in zip(hidden, chosen, strict=True)]
            images, targets = image.expand(len(candidates), -1, -1, -1), torch.full_like(candidates, target)
            found = frozen_gradients(model, images, targets, held, output)
            gradient += weight * sum(pick(g, c) for g, c in zip(found, chosen, strict=True))  # (M, T, 1)
        value = sum(pick(h, c) for h, c in zip(hidden, chosen, strict=True))
        path.append((value * gradient).sum((1, 2)).argmax().item())
    return path
