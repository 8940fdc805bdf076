"""What many paths share: how often each unit occurs, how alike classes are, how stable that is."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from ..checks import InputError, check_count, checked
from ..models.outputs import as_target
from ..options import Likeness
from .neuron_paths import NeuronPaths, check_any

Labels = int | Sequence[int] | Tensor | np.ndarray


class Counts:
    """How often each unit occurs on some images' paths, a site (U,), counted a part at a time; K units a site."""

    def __init__(self, widths: Sequence[int], top_k: int) -> None:
        self.times = [torch.zeros(width) for width in widths]
        self.top_k, self.images = top_k, 0

    def add(self, units: Tensor) -> "Counts":
        """Count the units (B, S, K) of some more images."""
        for times, found in zip(self.times, units.unbind(1), strict=True):
            times.index_add_(0, found.flatten(), torch.ones(found.numel()))
        self.images += len(units)
        return self

    def frequency(self) -> list[Tensor]:
        return [times / self.images for times in self.times]

    def consensus(self) -> tuple[Tensor, Tensor]:
        shares, units = zip(*(site.topk(self.top_k) for site in self.frequency()), strict=True)
        return torch.stack(units), torch.stack(shares).mean(1)


def counts_of(paths: NeuronPaths) -> Counts:
    """How often each unit occurs on these paths."""
    check_any(paths)
    return Counts([place.width for place in paths.places], paths.units.shape[2]).add(paths.units)


@checked
def frequency(paths: NeuronPaths) -> list[Tensor]:
    """The share of images whose path has the unit, a site (U,)."""
    return counts_of(paths).frequency()


@checked
def consensus(paths: NeuronPaths) -> tuple[Tensor, Tensor]:
    """The most frequent units of every site (S, K), and the share of images' units that are these (S,)."""
    return counts_of(paths).consensus()


@checked
def similarity(paths: NeuronPaths, labels: Labels, by: Likeness = "frequency") -> pd.DataFrame:
    """How alike classes are, (C, C): "frequency", the cosine of units' frequencies; "path", the Jaccard index of consensus paths."""
    groups = _by_class(paths, labels)
    return alike([counts_of(group) for group in groups.values()], by, [paths.name_of(label) for label in groups])


def alike(counts: Sequence[Counts], by: Likeness, names: Sequence[str]) -> pd.DataFrame:
    """What :func:`similarity` gives, of groups whose units are counted."""
    if by == "frequency":
        vectors = torch.stack([torch.cat(group.frequency()) for group in counts])
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
        matrix = (vectors @ vectors.T).clamp(max=1).numpy()
    else:
        sets = [_as_set(group.consensus()[0]) for group in counts]
        matrix = np.array([[len(a & b) / len(a | b) for b in sets] for a in sets])
    return pd.DataFrame(matrix, index=list(names), columns=list(names))


@checked
def cluster(similarities: pd.DataFrame) -> np.ndarray:
    """Hierarchical clustering of classes by average linkage of 1 - similarity: scipy's linkage matrix (C - 1, 4)."""
    if similarities.shape[0] != similarities.shape[1] or len(similarities) < 2:
        raise InputError(f"similarities has shape {similarities.shape}; expected (C, C), C at least 2")
    try:
        distance = 1 - similarities.to_numpy(dtype=float)
    except (TypeError, ValueError):
        raise InputError("similarities holds what is no number; expected numbers") from None
    np.fill_diagonal(distance, 0)
    return linkage(squareform((distance + distance.T) / 2, checks=False), "average")


@checked
def stability(paths: NeuronPaths, labels: Labels, seed: int = 0) -> pd.DataFrame:
    """For each class, how alike its two halves are, and how alike one half is to the halves of other classes, on average.

    Columns label, n, frequency (cosine) and path (Jaccard index) between the halves; frequency_others and path_others, means over
    the other classes. Raises InputError for a class with fewer than two images.
    """
    truth = _truth(paths, labels)
    groups = {
        label: halves_of((truth == label).nonzero()[:, 0].numpy(), label, seed) for label in truth.unique().tolist()
    }
    parts = [paths[part] for halves in groups.values() for part in halves]
    joined = torch.arange(len(parts)).repeat_interleave(torch.tensor([len(part) for part in parts]))
    merged = paths[np.concatenate([part for halves in groups.values() for part in halves])]
    rows = []
    matrices = {by: similarity(merged, joined, by).to_numpy() for by in ("frequency", "path")}
    for i, (label, halves) in enumerate(groups.items()):
        row = {"label": label, "n": sum(map(len, halves))}
        for by, matrix in matrices.items():
            others = [matrix[2 * i, 2 * j + 1] for j in range(len(groups)) if j != i]
            row |= {by: matrix[2 * i, 2 * i + 1], f"{by}_others": np.mean(others) if others else np.nan}
        rows.append(row)
    return pd.DataFrame(rows)


def halves_of(images: np.ndarray, label: int, seed: int) -> list[np.ndarray]:
    check_count("seed", seed, 0)
    if label < 0:
        raise InputError(f"label {label} is below 0; expected classes from 0")
    if len(images) < 2:
        raise InputError(f"class {label} has {len(images)} image; expected at least 2, for halves")
    shuffled = np.random.default_rng([seed, label]).permutation(images)
    return [np.sort(shuffled[: (len(images) + 1) // 2]), np.sort(shuffled[(len(images) + 1) // 2 :])]


def _truth(paths: NeuronPaths, labels: Labels) -> Tensor:
    truth = as_target(labels, len(paths))
    if truth is None:
        raise InputError("labels is None; expected one class or one an image")
    return truth


def _by_class(paths: NeuronPaths, labels: Labels) -> dict[int, NeuronPaths]:
    truth = _truth(paths, labels)
    return {label: paths[(truth == label).nonzero()[:, 0]] for label in truth.unique().tolist()}


def _as_set(path: Tensor) -> set[tuple[int, int]]:
    return {(block, neuron) for block, neurons in enumerate(path.tolist()) for neuron in neurons}
