"""What neurons do on images: over the patches, on the tokens where they are read, and on which images they do most."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from ..checks import InputError
from ..models.hooks import at_rest, inputs_seen
from ..models.outputs import run_model
from ..models.vit import ViT, view
from ..paths.neuron_paths import NeuronPaths, check_made_for
from ..runs.clean import check_images
from ..runs.influence import as_neurons, at_neurons

Pairs = Sequence[tuple[int, int]]  # neurons as (block, index)
WORST_ASPECT = 1.5  # how far a grid of patches may be from the image's own aspect


@contextmanager
def neurons_seen(vit: ViT, see: Callable[[int, Tensor], object]) -> Iterator[None]:
    """Call ``see(block, values)`` with every block's neurons (B, N, M) on all tokens whenever the model runs."""
    with at_rest(vit.model), ExitStack() as stack:
        for block, fc2 in enumerate(vit.neurons):
            stack.enter_context(inputs_seen(fc2, partial(_first, see, block)))
        yield


def _first(see: Callable[[int, Tensor], object], block: int, args: tuple, _kwargs: dict) -> None:
    see(block, args[0])


def activation_maps(
    model: nn.Module, images: Tensor, neurons: NeuronPaths | Tensor | Sequence, *, batch_size: int = 64
) -> Tensor:
    """Where neurons look: their activation on every patch of their image, (B, L, K, h, w), float32 on the CPU.

    It is shown on the patches also where a path reads its neurons on the class token.

    Args:
        model: a vision transformer of a known family.
        images: (B, C, H, W), transformed as the model wants it.
        neurons: NeuronPaths, or neurons (L,), (L, K) or (B, L, K).
        batch_size: images run at a time.

    Raises:
        InputError: for neurons that the model lacks, or patches that form no grid of the image's aspect.
    """
    vit = view(model)
    check_images(images)
    if isinstance(neurons, NeuronPaths):
        check_made_for(neurons, vit)
        neurons = neurons.neurons
    index = as_neurons(neurons, len(images), vit.widths)
    like = next(vit.model.parameters())
    parts: list[Tensor] = []
    for batch, here in zip(images.split(batch_size), index.split(batch_size), strict=True):
        values: list[Tensor] = []  # a block: (b, patches, K)

        def see(block: int, all_values: Tensor) -> None:
            values.append(at_neurons(all_values[:, vit.num_prefix_tokens :], here[:, block].to(all_values.device)))

        with neurons_seen(vit, see):
            run_model(vit.model, batch.to(like))
        grid = grid_of(values[0].shape[1], *images.shape[2:])
        parts.append(torch.stack(values, 1).transpose(2, 3).unflatten(3, grid).float().cpu())
    return torch.cat(parts)


def grid_of(patches: int, height: int, width: int) -> tuple[int, int]:
    """The rows and columns of so many patches on an image of this size: those whose aspect is nearest."""

    def off(rows: int) -> float:
        ratio = (rows / (patches // rows)) / (height / width)
        return max(ratio, 1 / ratio)

    rows = min((r for r in range(1, patches + 1) if patches % r == 0), key=off, default=1)
    if not patches or off(rows) > WORST_ASPECT:
        raise InputError(f"{patches} patch tokens form no grid on images of {height} x {width} pixels; expected one")
    return rows, patches // rows


def activations_of(model: nn.Module, images: Tensor, neurons: Pairs, *, token: str = "auto") -> Tensor:
    """The activations (B, P) of P neurons, each (block, index), on B images: means over the tokens named (see :func:`view`)."""
    vit = view(model, token)
    check_images(images)
    check_pairs(neurons, vit)
    blocks, index = torch.tensor(list(neurons)).T
    found = torch.empty(len(images), len(index))

    def see(block: int, values: Tensor) -> None:
        wanted = blocks == block
        found[:, wanted] = vit.split(values)[0][..., index[wanted].to(values.device)].float().mean(1).cpu()

    with neurons_seen(vit, see):
        run_model(vit.model, images.to(next(vit.model.parameters())))
    return found


def most_active(
    model: nn.Module,
    images: Tensor | Iterable,
    neurons: Pairs,
    n: int = 6,
    *,
    token: str = "auto",
    batch_size: int = 64,
) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
    """The ``n`` images on which each of P neurons is most active, the most active first.

    Args:
        model: a vision transformer of a known family.
        images: (N, C, H, W), or batches of them such as a DataLoader gives (of tuples the first is taken); only the best are kept.
        neurons: P pairs (block, index).
        n: images a neuron; fewer where there are fewer.
        token: the tokens whose mean is taken (see :func:`~neuronpath.view`).
        batch_size: images run at a time, where ``images`` is a tensor.

    Returns:
        Activations (P, n), the images' numbers (P, n), and {number: image (C, H, W)}.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"n is {n!r}; expected a whole number of at least 1")
    best, numbers = torch.empty(len(neurons), 0), torch.empty(len(neurons), 0, dtype=torch.int64)
    kept: dict[int, Tensor] = {}
    seen = 0
    for batch in images.split(batch_size) if isinstance(images, Tensor) else images:
        batch = batch if isinstance(batch, Tensor) else batch[0]
        here = torch.arange(seen, seen + len(batch))
        best = torch.cat([best, activations_of(model, batch, neurons, token=token).T], 1)
        numbers = torch.cat([numbers, here.expand(len(neurons), -1)], 1)
        best, order = best.topk(min(n, best.shape[1]))
        numbers = numbers.gather(1, order)
        kept |= dict(zip(here.tolist(), batch, strict=True))
        kept = {number: kept[number] for number in numbers.unique().tolist()}
        seen += len(batch)
    if not seen:
        raise InputError("images holds no images; expected at least one")
    return best, numbers, kept


def check_pairs(neurons: Pairs, vit: ViT) -> None:
    if not len(neurons) or any(len(pair) != 2 for pair in neurons):
        raise InputError(f"neurons is {neurons!r}; expected at least one pair (block, neuron)")
    for block, neuron in neurons:
        if not 0 <= block < len(vit.widths):
            raise InputError(f"block {block} is out of range; expected 0 to {len(vit.widths) - 1}")
        if not 0 <= neuron < vit.widths[block]:
            raise InputError(f"neuron {neuron} of block {block} is out of range; expected 0 to {vit.widths[block] - 1}")
