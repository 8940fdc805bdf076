"""An image made to excite a unit: activation maximisation."""

import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from tqdm.auto import tqdm

from ..checks import InputError, check_count, check_number, checked
from ..data.pixels import normalisation_of
from ..models.hooks import at_rest
from ..models.vit import ViT
from ..options import Token
from ..units import Unit
from .values import Asked, asked, values_of

# How red, green and blue go together in photographs: a square root of their covariance, as Lucid publishes it
# (tensorflow/lucid, optvis/param/color.py), each column a direction, scaled so that the longest is 1.
COLOURS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
COLOURS /= COLOURS.norm(dim=0).max()
ACTIVATIONS = (F.gelu, F.relu, F.silu, torch.relu)
LEAST_SLOPE = 0.2  # added to theirs in the first half of the steps; GELU's least is -0.13
TRIED = 0.25  # the share of the steps after which the best of the starts is gone on with
MOVED = 0.1  # how far images are shifted and scaled, of their side; falls to 0, so that the last steps see what is made


class Visualised(NamedTuple):
    """Of P units, float32 on the CPU."""

    images: Tensor
    """(P, C, H, W): the images made, as the model wants them; ``pixels`` are what a person looks at."""
    pixels: Tensor
    """(P, C, H, W), from 0 to 1."""
    values: Tensor
    """(P,): the unit's value on its image."""


@checked
def visualise(
    model: nn.Module | ViT,
    units: Sequence[tuple],
    *,
    steps: int = 256,
    lr: float = 0.1,
    starts: int = 3,
    total_variation: float = 0.1,
    size: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    token: Token | None = None,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> Visualised:
    """For each unit an image made to excite it: pixels that raise its value, by gradient ascent from noise.

    The image is the inverse Fourier transform of a spectrum, its colours turned to those directions in which
    photographs vary, its pixels kept between 0 and 1. Every step sees it shifted and scaled at random, and pays for
    total variation, so that what excites the unit is a pattern that a person can see rather than noise.

    Args:
        model: a vision transformer of a known family; it is left exactly as it was.
        units: P units: (block, neuron), ("head", block, index), or :class:`~neuronpath.Unit`. A unit's value is its
            mean over the tokens named; of a head it is the norm.
        steps: of Adam; 128 to 512 do.
        lr: its step size.
        starts: from how many noises; the one whose image is best after a quarter of the steps is gone on with. Where
            ascent ends depends on where it starts.
        total_variation: what the mean difference of neighbouring pixels costs, against the relative gain of the unit's value.
        size: (C, H, W); None is the size of the images that the model was made for.
        mean: of the normalisation of the model's images, a channel each; None is the model's own, which timm's models know.
        std: its standard deviation.
        token: the tokens on which units are read (see :func:`~neuronpath.view`).
        batch_size: images made at a time, starts among them; the memory taken doesn't grow with ``steps``.
        seed: of the noise and of the shifts and scales.
        progress: True shows a bar, a step a unit.

    Raises:
        InputError: for units that the model lacks, or a normalisation that nobody knows.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load()
        >>> made = nph.visualise(model, [(4, 163)], steps=4)
        >>> made.images.shape, bool((made.pixels >= 0).all() and (made.pixels <= 1).all())
        (torch.Size([1, 1, 32, 32]), True)

    Source: Olah et al., "Feature Visualization" (Distill, 2017), for the spectrum, the colours and the random transformations.
    """
    check_count("steps", steps)
    check_count("starts", starts)
    check_count("batch_size", batch_size)
    check_count("seed", seed, 0)
    check_number("total_variation", total_variation)
    if total_variation < 0:
        raise InputError(f"total_variation is {total_variation}; expected 0 or more")
    check_number("lr", lr, 0)
    ask = asked(model, units, token)
    shape, *moments = _images_of(ask.vit.model, size, mean, std)
    like = next(ask.vit.model.parameters())
    centre, spread = torch.tensor(moments).to(like.device)[:, :, None, None]
    made, values = [], []
    with (
        at_rest(ask.vit.model),
        tqdm(total=len(ask.units), unit="unit", disable=not progress) as bar,
    ):
        for here in torch.arange(len(ask.units)).split(max(1, batch_size // starts)):
            at = here.tolist() * starts
            one = _only(ask, at)
            spectrum = torch.stack(
                [_noise(unit, shape, seed, row // len(here)) for row, unit in enumerate(one.units)]
            ).to(like.device)
            optimiser = torch.optim.Adam([spectrum.requires_grad_()], lr)
            draw = torch.Generator().manual_seed(seed % 2**64)
            for step in range(steps):
                left = 1 - step / steps
                with torch.enable_grad(), _Sloped() if left > 0.5 else nullcontext():
                    pixels = _pixels(spectrum, shape)
                    seen = (_moved(pixels, MOVED * left, draw) - centre) / spread
                    gain = values_of(one, seen).diagonal()
                    rough = pixels.diff(dim=2).abs().mean((1, 2, 3)) + pixels.diff(dim=3).abs().mean((1, 2, 3))
                    loss = (total_variation * rough - gain / gain.detach().abs().clamp(min=1e-3)).sum()
                (spectrum.grad,) = torch.autograd.grad(loss, spectrum)
                optimiser.param_groups[0]["lr"] = lr * min(1.0, 2 * left)
                optimiser.step()
                if step == int(TRIED * steps) and starts > 1:
                    best = (
                        values_of(one, (_pixels(spectrum, shape) - centre) / spread)
                        .diagonal()
                        .view(starts, -1)
                        .argmax(0)
                    )
                    kept = best * len(here) + torch.arange(len(here), device=best.device)
                    one = _only(ask, here.tolist())
                    spectrum = spectrum.detach()[kept].requires_grad_()
                    optimiser = torch.optim.Adam([spectrum], lr)
            made.append(_pixels(spectrum, shape))
            values.append(values_of(one, (made[-1] - centre) / spread).diagonal())
            bar.update(len(here))
    pixels = torch.cat(made)
    return Visualised(((pixels - centre) / spread).cpu(), pixels.cpu(), torch.cat(values).cpu())


def _images_of(
    model: nn.Module, size: Sequence[int] | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[tuple[int, int, int], list[float], list[float]]:
    """The shape of the model's images, and their mean and deviation a channel: as given, else the model's own."""
    known = normalisation_of(model)
    if known is None and (size is None or mean is None or std is None):
        raise InputError(
            f"{type(model).__name__} doesn't say how its images are made; expected size=(C, H, W), mean= and std="
        )
    shape = tuple(size if size is not None else known[0])  # type: ignore[index]
    if len(shape) != 3 or any(not isinstance(n, int) or n < 1 for n in shape) or shape[0] not in (1, 3):
        raise InputError(f"size is {shape}; expected (C, H, W) with 1 or 3 channels")
    moments = []
    for name, given, own in (("mean", mean, 1), ("std", std, 2)):
        values = [float(value) for value in (given if given is not None else known[own])]  # type: ignore[index]
        if len(values) != shape[0] or (name == "std" and min(values) <= 0):
            raise InputError(f"{name} is {values}; expected a number for each of {shape[0]} channels")
        moments.append(values)
    return shape, *moments  # type: ignore[return-value]


def _only(ask: Asked, at: list[int]) -> Asked:
    """What is asked of these units alone."""
    return ask._replace(units=[ask.units[p] for p in at], places=[ask.places[p] for p in at])


class _Sloped(TorchFunctionMode):
    """Inside it an activation function's slope is never 0 nor below, its values being what they are: a neuron that is
    off can be found.

    Left of -0.75 GELU rises as its input falls, so plain ascent would switch a neuron off for good. (Lucid does so for ReLU.)
    """

    def __torch_function__(self, function: Any, _types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        found = function(*args, **(kwargs or {}))
        return found + LEAST_SLOPE * (args[0] - args[0].detach()) if function in ACTIVATIONS else found


def _noise(unit: Unit, shape: tuple[int, int, int], seed: int, start: int) -> Tensor:
    """A spectrum (C, H, W // 2 + 1, 2) to begin with, a unit's by itself."""
    channels, height, width = shape
    draw = torch.Generator().manual_seed((seed * 2**31 + zlib.crc32(repr((*unit, start)).encode())) % 2**64)
    return 0.01 * torch.randn(channels, height, width // 2 + 1, 2, generator=draw)


def _pixels(spectrum: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """The pixels (P, C, H, W), from 0 to 1, of spectra (P, C, H, W // 2 + 1, 2): low frequencies count for more."""
    _, height, width = shape
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    scale = 1 / torch.sqrt(rows**2 + columns**2).clamp(min=1 / max(height, width))
    scaled = torch.view_as_complex(spectrum) * scale.to(spectrum.device) * (height * width) ** 0.5
    waves = torch.fft.irfft2(scaled, s=(height, width)) / 4
    if shape[0] == 3:
        waves = torch.einsum("phwc,dc->pdhw", waves.permute(0, 2, 3, 1), COLOURS.to(waves))
    return waves.sigmoid()


def _moved(pixels: Tensor, most: float, draw: torch.Generator) -> Tensor:
    """The pixels, scaled and shifted by chance, by at most this share of their side; what comes in is the border's."""
    scale, down, right = (torch.rand(3, generator=draw) * 2 - 1).mul(most).tolist()
    turn = torch.tensor([[1 - scale, 0, 2 * right], [0, 1 - scale, 2 * down]]).to(pixels)
    grid = F.affine_grid(turn.expand(len(pixels), 2, 3), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
