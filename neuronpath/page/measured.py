"""What a page shows beyond paths and circuits themselves: where units look, what they like, what removing does, who feeds whom."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..checks import InputError
from ..evaluation.interventions import enhance, remove
from ..evaluation.path_graph import path_graph
from ..features.activations import most_active, unit_maps
from ..models.hooks import at_rest, in_precision
from ..models.outputs import logits_of, output_of, run_model
from ..models.vit import ViT
from ..options import OutputName
from ..paths.circuit import Circuit
from ..paths.graph import PathGraph
from ..paths.graph_layout import FEW
from ..paths.made_for import view_for
from ..paths.neuron_paths import NeuronPaths
from ..units import Unit

Way = NeuronPaths | Circuit  # one way to explain images: a path of each, or a circuit


@dataclass(frozen=True, eq=False)
class Measured:
    """Of one way's B images, on the CPU; None where there was no model to measure with.

    maps: of each image its units' activations on the patches, (n, h, w). likes: for every unit the images, by number, on which it is
    most active, and its activations there. removed, enhanced (B,): the target's probability without a path's units and with them
    enhanced; None for circuits and for a model without classes. predicted, predicted_probability (B,): what the model says.
    graphs: of each image, where there is one.
    """

    maps: list[Tensor] | None = None
    likes: dict[Unit, list[tuple[int, float]]] | None = None
    removed: Tensor | None = None
    enhanced: Tensor | None = None
    predicted: Tensor | None = None
    predicted_probability: Tensor | None = None
    graphs: list[PathGraph | None] | None = None


def measured_on(
    vit: ViT, images: Tensor, way: Way, *, factor: float, n_likes: int, graph: PathGraph | bool | None, reference: Tensor | None,
    batch_size: int, bar: tqdm,
) -> Measured:  # fmt: skip
    """Run what the page shows; ``graph`` is one that was made, whether to make it, or None: where it costs little."""
    vit = view_for(way, vit)
    has_classes = bool((way.target >= 0).all())
    found: dict[str, Tensor] = {}
    if isinstance(way, Circuit):
        found["predicted_probability"], found["predicted"] = logits_of(vit.model, images, batch_size).softmax(1).max(1)
    elif has_classes:
        found = _interventions(vit, images, way, factor, batch_size)
    units = sorted(times_of(way))
    likes: dict[Unit, list[tuple[int, float]]] = {}
    if units:
        best, numbers, _ = most_active(vit, images, units, n_likes, token=vit.token, batch_size=batch_size)
        for unit, row, values in zip(units, numbers.tolist(), best.tolist(), strict=True):
            likes[unit] = list(zip(row, values, strict=True))
    bar.update(len(images))
    return Measured(
        maps=unit_maps(vit, images, [way.units_of(i) for i in range(len(way))], batch_size=batch_size),
        likes=likes,
        graphs=_graphs(vit, images, way, graph, reference),
        **found,
    )


def _interventions(vit: ViT, images: Tensor, paths: NeuronPaths, factor: float, batch_size: int) -> dict[str, Tensor]:
    """The target's probability without the paths, run where it isn't known, and with them enhanced."""
    known = not paths.left.isnan().any()
    removed, enhanced = [paths.left] if known else [], []
    for start in range(0, len(images), batch_size):
        here, part = images[start : start + batch_size], paths[start : start + batch_size]
        if not known:
            with remove(vit, part):
                removed.append(_probability(vit, here, part))
        with enhance(vit, part, factor):
            enhanced.append(_probability(vit, here, part))
    return {"removed": torch.cat(removed), "enhanced": torch.cat(enhanced)}


def _graphs(
    vit: ViT, images: Tensor, way: Way, asked: PathGraph | bool | None, reference: Tensor | None
) -> list[PathGraph | None]:
    """Each image's graph; unless all are asked for, those of live ways that cost little."""
    none: list[PathGraph | None] = [None] * len(way)
    if asked is False or isinstance(asked, PathGraph):
        return graphs_given(asked, way) or none
    live = isinstance(way, Circuit) or way.settings.influence == "live"
    baseline = way.settings.baseline
    if asked is None and not (live and (baseline == "zero" or reference is not None) and (way.target >= 0).all()):
        return none
    chosen = [i for i in range(len(way)) if asked or len(way.units_of(i)) <= FEW]
    if not chosen:
        return none
    if baseline == "zero":
        reference = None
    elif baseline == "paired" and reference is not None:
        reference = reference[chosen]
    some = Circuit.concat([way[i] for i in chosen]) if isinstance(way, Circuit) else way[chosen]
    found = dict(zip(chosen, path_graph(vit, images[chosen], some, reference=reference), strict=True))
    return [found.get(i) for i in range(len(way))]


def graphs_given(graph: PathGraph | bool | None, way: Way) -> list[PathGraph | None] | None:
    """Each image's, of a graph that was made of this way."""
    return list(graph) if isinstance(graph, PathGraph) and is_graph_of(graph, way) else None


def is_graph_of(graph: PathGraph, way: Way) -> bool:
    """Whether it is a graph of these paths' or circuits' units."""
    return len(graph) == len(way) and all(set(graph.units[i]) == set(way.units_of(i)) for i in range(len(way)))


def check_graph(graph: PathGraph | bool | None, ways: dict[str, Way]) -> None:
    """Refuse a graph of other units than any way's."""
    if isinstance(graph, PathGraph) and not any(is_graph_of(graph, way) for way in ways.values()):
        raise InputError("graph is of other units than the paths; expected the graph that path_graph gave of them")


def _probability(vit: ViT, images: Tensor, paths: NeuronPaths) -> Tensor:
    """The probability (B,) of the paths' targets as the model runs now."""
    kind: OutputName = "sigmoid" if paths.settings.output == "sigmoid" else "prob"
    model = vit.model
    with at_rest(model), in_precision(model, paths.settings.precision):
        answer = run_model(model, images.to(next(model.parameters()))).float().cpu()
    return output_of(answer, paths.target, kind)


def times_of(way: Way) -> Counter[Unit]:
    """How many images' paths hold each unit."""
    return Counter(unit for i in range(len(way)) for unit in way.units_of(i))
