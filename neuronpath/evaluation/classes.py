"""What many images share: a class's own path, how often each neuron occurs, how alike classes are.

Functions of paths alone (frequency, consensus, similarity, stability) take the NeuronPaths of single images and the images' labels.
:func:`class_path` seeks one path that serves all of a class's images, and tests it on images that it was not found on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..checks import InputError
from ..methods import find_path
from ..models.hooks import at_rest
from ..models.outputs import as_target
from ..models.vit import view
from ..paths.neuron_paths import NeuronPaths, check_any
from ..runs.clean import check_images, clean_runs
from ..runs.influence import Quadrature, joint_influence, mean_gradients, on_path
from .evaluate import measure

SWEEPS = 12
RULE = Quadrature("gaussradau", 5)  # a path that suits most images may be one to which some respond far from linearly
Labels = int | Sequence[int] | Tensor | np.ndarray


@dataclass(frozen=True, eq=False)
class ClassPath:
    """One path that serves all of a class's images, beside the consensus of their single paths."""

    label: int
    """The class."""
    neurons: Tensor
    """(L, K): the class's path."""
    consensus: Tensor
    """(L, K): the commonest neurons of the single images' paths."""
    agreement: Tensor
    """(L,): the share of a block's single-path neurons that are the consensus'."""
    frequency: list[Tensor]
    """A block (M,): the share of images whose single path has the neuron."""
    figures: pd.DataFrame
    """What both are worth on the images that they were found on ("own") and on others ("held out"): columns images, path ("class"
    or "consensus"), n, and the means of :func:`~neuronpath.evaluate`'s figures."""
    sweeps: int
    """How often all images were run."""
    converged: bool
    """Whether no swap promised anything any more."""


def class_path(
    model: nn.Module,
    images: Tensor,
    labels: Labels,
    *,
    top_k: int = 1,
    halves: bool = True,
    seed: int = 0,
    internal_batch_size: int | None = None,
    progress: bool = False,
) -> dict[int, ClassPath]:
    """For each class the path that maximises the mean joint attribution score over the class's images.

    The search begins from the consensus of the single images' paths and swaps neurons, of all blocks at once where that holds what
    it promises, until no swap promises anything. Scores are re-computed for all images, so the result is at least the consensus.

    Args:
        model: a vision transformer with a head.
        images: (B, C, H, W).
        labels: the classes that are explained, one or (B,).
        top_k: neurons a block.
        halves: find on one half of each class's images and measure on both; False finds on all of them.
        seed: of the halves.
        internal_batch_size: rows (an image at a node) run at once.
        progress: True shows a bar, a step a class.

    Raises:
        InputError: for a class with fewer than two images, where halves are wanted.
    """
    check_images(images)
    truth = as_target(labels, len(images))
    if truth is None:
        raise InputError("labels is None; expected one class or one an image")
    found = {}
    for label in tqdm(truth.unique().tolist(), unit="class", disable=not progress):
        here = (truth == label).nonzero()[:, 0].numpy()
        parts = _halves(here, label, seed) if halves else [here]
        own = images[parts[0]]
        single = find_path(model, own, label, top_k=top_k, internal_batch_size=internal_batch_size)
        common, agreement = consensus(single)
        neurons, sweeps, converged = _maximise(model, own, label, common, internal_batch_size)
        score = {
            n: joint_influence(model, own, path, label).score.mean()
            for n, path in (("class", neurons), ("consensus", common))
        }
        if score["class"] < score["consensus"]:  # the search's nodes were too few to see it
            neurons = common
        rows = []
        for name, part in zip(("own", "held out"), parts, strict=False):
            table = measure(model, images[part], label, {"class": neurons, "consensus": common}, label)
            means = (
                table.drop(columns=["image", "label", "predicted", "target", "right"])
                .groupby("method", sort=False)
                .mean()
            )
            rows.append(means.rename_axis("path").reset_index().assign(images=name, n=len(part)))
        figures = pd.concat(rows, ignore_index=True)
        figures = figures[["images", "path", "n", *[c for c in figures if c not in ("images", "path", "n")]]]
        found[label] = ClassPath(label, neurons, common, agreement, frequency(single), figures, sweeps, converged)
    return found


def _maximise(
    model: nn.Module, images: Tensor, label: int, path: Tensor, internal_batch_size: int | None
) -> tuple[Tensor, int, bool]:
    """A better path (L, K), the sweeps it took, and whether no swap promised anything at the end."""
    value, table = _sweep(model, images, label, path, internal_batch_size)
    allowed = path.shape[0]
    for sweep in range(1, SWEEPS):
        gains, swaps = zip(*(block.flatten().max(0) for block in table), strict=True)
        gain = torch.stack(gains) - value
        blocks = gain.argsort(descending=True)[: min(allowed, int((gain > 1e-6 * abs(value)).sum()))].tolist()
        if not blocks:
            return path, sweep, True
        proposed = path.clone()
        for block in blocks:
            slot, neuron = divmod(int(swaps[block]), table[block].shape[1])
            proposed[block, slot] = neuron
        new_value, new_table = _sweep(model, images, label, proposed, internal_batch_size)
        if new_value > value:
            path, value, table = proposed, new_value, new_table
        elif len(blocks) == 1:
            return path, sweep + 1, True  # the promise was within the error of the first order
        else:
            allowed = len(blocks) // 2
    return path, SWEEPS, False


def _sweep(
    model: nn.Module, images: Tensor, label: int, path: Tensor, internal_batch_size: int | None
) -> tuple[float, list[Tensor]]:
    """The mean score of ``path`` (L, K) and, a block (K, M), what it would be with one neuron put in a slot's place, to first order."""
    vit = view(model)
    total, tables = 0.0, [torch.zeros(path.shape[1], width, dtype=torch.float64) for width in vit.widths]
    with at_rest(vit.model):
        for run in clean_runs(vit, images, label, "prob", internal_batch_size, RULE.fewest):
            shared = path.to(run.images.device).expand(len(run.images), -1, -1)
            gradients = mean_gradients(run, shared, RULE.method, RULE.fewest)
            clean, slope = on_path(run.hidden, shared).to(gradients[0]), on_path(gradients, shared)  # (B, L, T, K)
            all_clean, all_slope = clean.sum((1, 3)), slope.sum((1, 3))  # (B, T)
            total += (all_clean * all_slope).sum().item()
            for block, table in enumerate(tables):
                for slot in range(path.shape[1]):
                    others = all_clean - clean[:, block, :, slot], all_slope - slope[:, block, :, slot]
                    joined = (others[0][..., None] + run.hidden[block]) * (others[1][..., None] + gradients[block])
                    table[slot] += joined.sum((0, 1)).double().cpu()
    for block, table in enumerate(tables):
        table /= len(images)
        for slot in range(path.shape[1]):  # no neuron twice
            table[slot, [other for k, other in enumerate(path[block].tolist()) if k != slot]] = -torch.inf
    return total / len(images), tables


def frequency(paths: NeuronPaths) -> list[Tensor]:
    """The share of images whose path has the neuron, a block (M,)."""
    check_any(paths)
    return [
        torch.zeros(width).index_add_(0, paths.neurons[:, block].flatten(), torch.ones(paths.neurons[:, block].numel()))
        / len(paths)
        for block, width in enumerate(paths.widths)
    ]


def consensus(paths: NeuronPaths) -> tuple[Tensor, Tensor]:
    """The most frequent neurons of every block (L, K), and the share of images' neurons that are these (L,)."""
    shares, neurons = zip(*(block.topk(paths.neurons.shape[2]) for block in frequency(paths)), strict=True)
    return torch.stack(neurons), torch.stack(shares).mean(1)


def similarity(paths: NeuronPaths, labels: Labels, by: str = "frequency") -> pd.DataFrame:
    """How alike classes are, (C, C): "frequency", the cosine of neurons' frequencies; "path", the Jaccard index of consensus paths."""
    groups = _by_class(paths, labels)
    if by == "frequency":
        vectors = torch.stack([torch.cat(frequency(group)) for group in groups.values()])
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
        matrix = (vectors @ vectors.T).clamp(max=1).numpy()
    elif by == "path":
        sets = [_as_set(consensus(group)[0]) for group in groups.values()]
        matrix = np.array([[len(a & b) / len(a | b) for b in sets] for a in sets])
    else:
        raise InputError(f"by is {by!r}; expected 'frequency' or 'path'")
    names = [paths.name_of(label) for label in groups]
    return pd.DataFrame(matrix, index=names, columns=names)


def cluster(similarities: pd.DataFrame) -> np.ndarray:
    """Hierarchical clustering of classes by average linkage of 1 - similarity: scipy's linkage matrix (C - 1, 4)."""
    distance = 1 - similarities.to_numpy(dtype=float)
    np.fill_diagonal(distance, 0)
    return linkage(squareform((distance + distance.T) / 2, checks=False), "average")


def stability(paths: NeuronPaths, labels: Labels, seed: int = 0) -> pd.DataFrame:
    """For each class, how alike its two halves are, and how alike one half is to the halves of other classes, on average.

    Columns label, n, frequency (cosine) and path (Jaccard index) between the halves; frequency_others and path_others, means over
    the other classes. Raises InputError for a class with fewer than two images.
    """
    truth = _truth(paths, labels)
    groups = {
        label: _halves((truth == label).nonzero()[:, 0].numpy(), label, seed) for label in truth.unique().tolist()
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


def _halves(images: np.ndarray, label: int, seed: int) -> list[np.ndarray]:
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
