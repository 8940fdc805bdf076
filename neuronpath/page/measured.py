"""What a page shows of paths beyond the paths themselves: where units look, what they like, what removing them does."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..evaluation.interventions import enhance, remove
from ..features.activations import activation_maps, most_active
from ..models.hooks import at_rest, in_precision
from ..models.outputs import output_of, run_model
from ..models.vit import ViT
from ..paths.neuron_paths import NeuronPaths, view_for
from ..units import Unit


@dataclass(frozen=True, eq=False)
class Measured:
    """Of one method's paths of B images, S sites and K units a site; on the CPU.

    maps (B, S, K, h, w): activations on the patches. removed, enhanced (B,): the target's probability without the path's units
    and with them enhanced; None for a model without classes. likes: for every unit of a path the images, by number, on which it is
    most active, and its activations there.
    """

    maps: Tensor
    removed: Tensor | None
    enhanced: Tensor | None
    likes: dict[Unit, list[tuple[int, float]]]


def measured_on(
    vit: ViT, images: Tensor, paths: NeuronPaths, factor: float, n_likes: int, batch_size: int, bar: tqdm
) -> Measured:
    """Run what the page shows: the maps, the path removed and enhanced by ``factor``, the units' favourites."""
    vit = view_for(paths, vit)
    maps, removed, enhanced = [], [], []
    has_classes = bool((paths.target >= 0).all())
    for start in range(0, len(images), batch_size):
        here, part = images[start : start + batch_size], paths[start : start + batch_size]
        maps.append(activation_maps(vit, here, part))
        if has_classes:
            with remove(vit, part):
                removed.append(_probability(vit, here, part))
            with enhance(vit, part, factor):
                enhanced.append(_probability(vit, here, part))
        bar.update(len(here))
    units = sorted(times_of(paths))
    best, numbers, _ = most_active(vit, images, units, n_likes, token=vit.token, batch_size=batch_size)
    likes = {
        unit: list(zip(row.tolist(), values.tolist(), strict=True))
        for unit, row, values in zip(units, numbers, best, strict=True)
    }
    return Measured(
        torch.cat(maps), torch.cat(removed) if has_classes else None, torch.cat(enhanced) if has_classes else None, likes
    )  # fmt: skip


def _probability(vit: ViT, images: Tensor, paths: NeuronPaths) -> Tensor:
    """The probability (B,) of the paths' targets as the model runs now."""
    kind = "sigmoid" if paths.settings.output == "sigmoid" else "prob"
    model = vit.model
    with at_rest(model), in_precision(model, paths.settings.precision):
        answer = run_model(model, images.to(next(model.parameters()))).float().cpu()
    return output_of(answer, paths.target, kind)


def times_of(paths: NeuronPaths) -> Counter[Unit]:
    """How many images' paths hold each unit."""
    return Counter(unit for i in range(len(paths)) for unit in paths.units_of(i))
