"""The integrand: F and its slope along alpha, as the units of a path go from their ablated to their clean values."""

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ..checks import InputError, check_count
from ..data.given import Images, as_images
from ..models.hooks import at_rest
from ..models.outputs import Output, widest
from ..models.vit import ViT
from ..options import OutputName
from ..paths.made_for import view_for
from ..paths.neuron_paths import NeuronPaths, check_as_many
from ..units import on_path
from .baselines import ablation
from .clean import CleanRun, clean_runs
from .gates import path_gates
from .influence import Grid, path_hidden


@dataclass(frozen=True, eq=False)
class Along:
    """F of runs whose path is held at alpha times its clean values, or has its gates at alpha, for n values of alpha and B images.

    alpha (n,), from 0 to 1; value (B, n): F; slope (B, n): dF / dalpha, whose integral is F(1) - F(0). float32 on the CPU.
    """

    alpha: Tensor
    value: Tensor
    slope: Tensor


def along_path(
    model: nn.Module | ViT,
    images: Images,
    paths: NeuronPaths,
    *,
    reference: Images | None = None,
    n_points: int = 51,
    output: Output | None = None,
) -> Along:
    """F and its slope along the paths' quadrature, at ``n_points`` even steps of alpha: frozen runs or live ones, as the paths are.

    Args:
        model: the vision transformer that the paths were made for.
        images: (B, C, H, W), or a Dataset, DataLoader or Source of them, those of the paths.
        paths: one path an image.
        reference: the images that the paths' baseline was made of, where it was.
        n_points: values of alpha, both ends among them; each costs a forward and a backward.
        output: F; None is that of the paths, where it isn't a function.

    Raises:
        InputError: in one line, for anything that can't be used.

    Source: "Discovering Influential Neuron Path in Vision Transformers" (ICLR 2025), section 3.
    """
    images = as_images(images, model)
    reference = as_images(reference, model, "reference")
    live = paths.settings.influence == "live"
    vit = view_for(paths, model)
    check_as_many(paths, images)
    check_count("n_points", n_points, 2)
    explained: Any = paths.settings.output if output is None else output
    if isinstance(explained, str) and explained not in get_args(OutputName):
        raise InputError(f"these paths explain {explained}, a function of your own; expected it again as output=")
    target = None if (paths.target < 0).any() else paths.target
    alphas = torch.linspace(0, 1, n_points)
    ablate = ablation(vit, paths.settings.baseline, reference, len(images), paths.settings.seed)
    start = 0
    with at_rest(vit.model):
        values, slopes = torch.empty(len(images), n_points), torch.empty(len(images), n_points)
        for run in clean_runs(vit, images, target, explained):
            rows = slice(start, start := start + len(run.rows))
            path = paths.units[rows].to(run.rows.device)
            ablated = ablate(run, rows.start)
            if live:
                value, slope = path_gates(run, path, alphas.tolist(), ablated, run.rows)
            else:
                value, slope = _frozen(run, path, alphas)
            values[rows], slopes[rows] = value.float().cpu(), slope.flatten(2).sum(2).float().cpu()
    return Along(alphas, values, slopes)


def _frozen(run: CleanRun, path: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """F (B, n), and its derivatives to the factors of the path's units, which are held at each of n alphas: (B, n, S, K)."""
    grid = Grid.of(run.rows, alphas.numpy(), np.ones(len(alphas)))
    value = torch.zeros(len(grid.image), dtype=widest(run.hidden[0]), device=path.device)
    slopes = value.new_zeros(len(value), *path.shape[1:])
    clean = on_path(run.hidden, path).to(slopes)

    def work(piece: slice) -> None:
        rows = grid.image[piece]
        held = path_hidden(run, path, rows, grid.alpha[piece])
        gradients = on_path(run.frozen_gradients(rows, held), path[rows])
        value[piece] = run.replaced(rows, held).to(value)
        slopes[piece] = (clean[rows] * gradients.to(slopes)).sum(2)

    run.pieces.each(len(value), work)
    return value.unflatten(0, (len(path), len(alphas))), slopes.unflatten(0, (len(path), len(alphas)))
