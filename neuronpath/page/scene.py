"""What a report shows of paths beyond the paths themselves: where neurons look, what they like, what removing them does."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..evaluation.interventions import enhance, remove
from ..features.activations import activation_maps, most_active
from ..methods import in_precision
from ..models.hooks import at_rest
from ..models.outputs import measure as output_of
from ..models.outputs import run_model
from ..paths.neuron_paths import NeuronPaths


@dataclass(frozen=True, eq=False)
class Measured:
    """Of one method's paths of B images, L blocks and K neurons a block; on the CPU.

    maps (B, L, K, h, w): activations on the patches. removed, enhanced (B,): the target's probability without the path's neurons
    and with them enhanced; None for a model without classes. likes: for every neuron (block, index) of a path the images, by
    number, on which it is most active, and its activations there.
    """

    maps: Tensor
    removed: Tensor | None
    enhanced: Tensor | None
    likes: dict[tuple[int, int], list[tuple[int, float]]]


def measure(
    model: nn.Module, images: Tensor, paths: NeuronPaths, factor: float, n_likes: int, batch_size: int, bar: tqdm
) -> Measured:
    """Run what the page shows: the maps, the path removed and enhanced by ``factor``, the neurons' favourites."""
    maps, removed, enhanced = [], [], []
    has_classes = bool((paths.target >= 0).all())
    for start in range(0, len(images), batch_size):
        here, part = images[start : start + batch_size], paths[start : start + batch_size]
        maps.append(activation_maps(model, here, part))
        if has_classes:
            with remove(model, part):
                removed.append(_probability(model, here, part))
            with enhance(model, part, factor):
                enhanced.append(_probability(model, here, part))
        bar.update(len(here))
    pairs = sorted(neurons_of(paths))
    best, numbers, _ = most_active(
        model, images, pairs, n_likes, token=paths.settings.get("token", "auto"), batch_size=batch_size
    )
    likes = {
        pair: list(zip(row.tolist(), values.tolist(), strict=True))
        for pair, row, values in zip(pairs, numbers, best, strict=True)
    }
    return Measured(
        torch.cat(maps), torch.cat(removed) if has_classes else None, torch.cat(enhanced) if has_classes else None, likes
    )  # fmt: skip


def _probability(model: nn.Module, images: Tensor, paths: NeuronPaths) -> Tensor:
    """The probability (B,) of the paths' targets as the model runs now."""
    kind = "sigmoid" if paths.settings.get("output") == "sigmoid" else "prob"
    with at_rest(model), in_precision(model, paths.settings.get("precision")):
        answer = run_model(model, images.to(next(model.parameters()))).float().cpu()
    return output_of(answer, paths.target, kind)


def neurons_of(paths: NeuronPaths) -> Counter[tuple[int, int]]:
    """How many images' paths hold each neuron (block, index)."""
    return Counter(
        (block, neuron) for path in paths.neurons.tolist() for block, row in enumerate(path) for neuron in row
    )
