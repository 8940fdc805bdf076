"""Interventions: the model runs as ever, but for some neurons that are removed, enhanced, kept alone or set, inside a ``with``.

    with nph.remove(model, paths):
        logits = model(images)

Everything behind the neurons follows, live. A :class:`NeuronPaths` acts on the tokens that its neurons were read on, image by image,
so it wants a batch of as many images, in the same order; a plain list of neurons, one (or K) a block, acts on every image alike.
``with`` blocks nest: the outer one acts first. Behind them the model is as it was, also after an exception.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from ..checks import InputError
from ..features.activations import neurons_seen
from ..models.hooks import eager, input_replaced
from ..models.outputs import run_model
from ..models.vit import ViT, view
from ..paths.neuron_paths import NeuronPaths, check_made_for
from ..runs.clean import check_images
from ..runs.influence import as_neurons

TOKENS = ("path", "all")
Neurons = NeuronPaths | Tensor | Sequence
Edit = Callable[[int, Tensor, Tensor], Tensor]  # block, values (B, T, M), chosen (B, 1, M) -> values


@contextmanager
def edited(model: nn.Module, neurons: Neurons, edit: Edit, tokens: str = "path") -> Iterator[None]:
    """Have every block's neurons pass through ``edit`` while the model runs.

    Args:
        model: a vision transformer of a known family.
        neurons: NeuronPaths, or neurons (L,), (L, K) or (B, L, K).
        edit: gets the block, its neurons' values (B, T, M) and which of them are chosen (B or 1, 1, M); gives new values.
        tokens: "path": the tokens that the neurons are read on; "all": every token, registers too.

    Raises:
        InputError: (a ValueError) for neurons that the model lacks, or, while it runs, for a batch of another length.
    """
    if tokens not in TOKENS:
        raise InputError(f"tokens {tokens!r} is unknown; expected one of {', '.join(map(repr, TOKENS))}")
    vit = view(model)
    if isinstance(neurons, NeuronPaths):
        check_made_for(neurons, vit)
        vit = view(model, neurons.settings.get("token", "auto"))
        neurons = neurons.neurons
    index = torch.as_tensor(neurons)
    index = as_neurons(index, len(index) if index.ndim == 3 else 1, vit.widths)
    with ExitStack() as stack:
        stack.enter_context(eager())
        for block, fc2 in enumerate(vit.neurons):
            chosen = torch.zeros(len(index), 1, vit.widths[block], dtype=torch.bool)
            chosen.scatter_(2, index[:, block, None], True)
            stack.enter_context(input_replaced(fc2, partial(_apply, vit, tokens, edit, block, chosen)))
        yield


def _apply(vit: ViT, tokens: str, edit: Edit, block: int, chosen: Tensor, values: Tensor) -> Tensor:
    if len(chosen) not in (1, len(values)):
        raise InputError(f"the batch has {len(values)} images, but there are {len(chosen)} paths; expected as many")
    chosen = chosen.to(values.device)
    if tokens == "all":
        return edit(block, values, chosen)
    here, others = vit.split(values)
    return vit.join(edit(block, here, chosen), others)


def remove(model: nn.Module, neurons: Neurons, *, tokens: str = "path") -> AbstractContextManager[None]:
    """The neurons at 0. See :func:`~neuronpath.evaluation.interventions.edited` for the arguments."""
    return enhance(model, neurons, 0.0, tokens=tokens)


def enhance(
    model: nn.Module, neurons: Neurons, factor: float = 2.0, *, tokens: str = "path"
) -> AbstractContextManager[None]:
    """The neurons multiplied by ``factor``. See :func:`~neuronpath.evaluation.interventions.edited` for the other arguments."""
    return edited(model, neurons, lambda _, values, chosen: torch.where(chosen, values * factor, values), tokens)


def keep(model: nn.Module, neurons: Neurons, *, tokens: str = "path") -> AbstractContextManager[None]:
    """All but the neurons at 0. See :func:`~neuronpath.evaluation.interventions.edited` for the arguments."""
    return edited(model, neurons, lambda _, values, chosen: torch.where(chosen, values, 0.0), tokens)


def set_to(
    model: nn.Module, neurons: Neurons, value: float | Sequence[Tensor], *, tokens: str = "path"
) -> AbstractContextManager[None]:
    """The neurons at ``value``: a number, or a tensor (M,) a block, such as :func:`mean_activations`.

    See :func:`~neuronpath.evaluation.interventions.edited` for the other arguments.
    """
    if not isinstance(value, int | float):
        widths = view(model).widths
        shapes = [tuple(part.shape) for part in value]
        if shapes != [(width,) for width in widths]:
            raise InputError(
                f"value holds tensors of shapes {shapes}; expected a number, or ({widths[0]},) a block for {len(widths)}"
            )

    def edit(block: int, values: Tensor, chosen: Tensor) -> Tensor:
        return torch.where(chosen, value if isinstance(value, int | float) else value[block].to(values), values)

    return edited(model, neurons, edit, tokens)


def mean_activations(model: nn.Module, images: Tensor, *, token: str = "auto", batch_size: int = 64) -> list[Tensor]:
    """Every neuron's mean over images and over the tokens named (see :func:`~neuronpath.view`), a block (M,).

    ``token="every"`` takes every token, registers too.
    """
    every = token == "every"
    vit = view(model, "auto" if every else token)
    check_images(images)
    sums = [torch.zeros(width, dtype=torch.float64) for width in vit.widths]
    like = next(vit.model.parameters())

    def add(block: int, values: Tensor) -> None:
        here = values if every else vit.split(values)[0]
        sums[block] += here.double().mean(1).sum(0).cpu()

    with neurons_seen(vit, add):
        for batch in images.split(batch_size):
            run_model(vit.model, batch.to(like))
    return [total.float() / len(images) for total in sums]
