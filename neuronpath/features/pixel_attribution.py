"""Which pixels drive a unit: attributions of its value, by captum's own classes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from captum.attr import InputXGradient, IntegratedGradients
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..checks import InputError, check_count, checked
from ..data.given import Images, as_images
from ..models.hooks import at_rest
from ..models.vit import ViT
from ..options import PixelMethod, Token
from .values import asked, values_of

TOLERANCE = 0.01  # of what the unit's value gains over the baseline's
NODES = (16, 32, 64, 128, 256, 512)
FLOOR = 1e-6


class PixelAttribution(NamedTuple):
    """Of P units on B images, float32 on the CPU."""

    attribution: Tensor
    """(B, P, C, H, W): what each pixel adds to the unit's value."""
    value: Tensor
    """(B, P): the unit's value on the image."""
    change: Tensor
    """(B, P): that, less the unit's value on the baseline."""
    delta: Tensor
    """(B, P): the attributions' sum less ``change``: the integral's error. Of "input_x_gradient", which isn't complete,
    what it lacks."""


@checked
def pixel_attribution(
    model: nn.Module | ViT,
    images: Images,
    units: Sequence[tuple],
    *,
    method: PixelMethod = "integrated_gradients",
    baseline: Tensor | None = None,
    token: Token | None = None,
    n_steps: int | None = None,
    internal_batch_size: int = 32,
    progress: bool = False,
) -> PixelAttribution:
    """Which pixels drive units: for each image and unit what each pixel adds to the unit's value.

    Args:
        model: a vision transformer of a known family; it is left exactly as it was.
        images: (B, C, H, W), or a Dataset, DataLoader or Source of them, transformed as the model wants it.
        units: P units: (block, neuron), ("head", block, index), or :class:`~neuronpath.Unit`. A unit's value is its
            mean over the tokens named; of a head it is the norm.
        method: "integrated_gradients" along the straight line from the baseline, or "input_x_gradient": captum's classes.
        baseline: an image (C, H, W), as the model wants it; None is zero, which for normalised images is the mean colour.
        token: the tokens on which units are read (see :func:`~neuronpath.view`).
        n_steps: Gauss-Legendre nodes; None takes 16, and up to 512 for the images whose delta is more than 1 % of the change.
        internal_batch_size: rows run at once.
        progress: True shows a bar, a step a unit.

    Raises:
        InputError: for units that the model lacks, a baseline of another shape, or NaN.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load()
        >>> found = nph.pixel_attribution(model, images[:2], [(4, 163), ("head", 7, 1)])
        >>> found.attribution.shape, bool((found.delta.abs() <= 0.01 * found.change.abs()).all())
        (torch.Size([2, 2, 1, 32, 32]), True)

    Source: Sundararajan et al., "Axiomatic Attribution for Deep Networks" (ICML 2017), by captum's ``IntegratedGradients``.
    """
    images = as_images(images, model)[:]
    check_count("internal_batch_size", internal_batch_size)
    if n_steps is not None:
        check_count("n_steps", n_steps)
    if baseline is not None and baseline.shape != images.shape[1:]:
        raise InputError(f"baseline has shape {tuple(baseline.shape)}; expected {tuple(images.shape[1:])}, an image's")
    ask = asked(model, units, token)
    like = next(ask.vit.model.parameters())
    pixels = images.detach().to(like)
    start = torch.zeros_like(pixels[:1]) if baseline is None else baseline.detach().to(like)[None]

    def forward(rows: Tensor) -> Tensor:
        return values_of(ask, rows)

    integrated = IntegratedGradients(forward)
    attribution = torch.zeros(len(images), len(ask.units), *images.shape[1:])
    with at_rest(ask.vit.model):
        pieces = pixels.split(internal_batch_size)
        value = torch.cat([forward(piece) for piece in pieces]).cpu()
        change = value - forward(start).cpu()
        for unit in tqdm(range(len(ask.units)), unit="unit", disable=not progress):
            if method == "input_x_gradient":
                found = [InputXGradient(forward).attribute(piece.requires_grad_(), target=unit) for piece in pieces]
                attribution[:, unit] = torch.cat(found).detach().float().cpu()
                continue
            todo = torch.arange(len(images))
            for nodes in NODES if n_steps is None else (n_steps,):
                for rows in todo.split(internal_batch_size):
                    found = integrated.attribute(
                        pixels[rows], start, target=unit, n_steps=nodes, method="gausslegendre",
                        internal_batch_size=internal_batch_size,
                    )  # fmt: skip
                    attribution[rows, unit] = found.detach().float().cpu()
                gap = attribution[todo, unit].flatten(1).sum(1) - change[todo, unit]
                todo = todo[gap.abs() > (TOLERANCE * change[todo, unit].abs()).clamp(min=FLOOR)]
                if not len(todo):
                    break
    return PixelAttribution(attribution, value, change, attribution.flatten(2).sum(2) - change)
