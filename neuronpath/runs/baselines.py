"""Ablated values: what a unit is set to when it is gone.

"zero" needs no other images. "mean" is the mean over reference images, position by position; "resample" the values on one reference
image of another class, drawn for each image by its own pixels; "paired" the values on the reference image of the same number.
"""

import zlib
from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor

from ..checks import InputError, check_one_of
from ..data.given import check_images
from ..models.hooks import at_rest
from ..models.outputs import run_model
from ..models.sites import visited
from ..models.vit import ViT
from ..options import Baseline
from .clean import CleanRun
from .gates import Ablated

BATCH = 64  # reference images run at a time

Ablation = Callable[[CleanRun, int], Ablated]  # a run, and the number of its first image -> the ablated channels


def baseline_named(baseline: Baseline | None, reference: object) -> Baseline:
    """The baseline meant: None is "mean" where there are reference images, else "zero"."""
    return baseline or ("zero" if reference is None else "mean")


def ablation(vit: ViT, baseline: Baseline, reference: Tensor | None, n_images: int, seed: int = 0) -> Ablation:
    """What gives a run's ablated channels. ``reference`` (R, C, H, W) are images transformed as the model wants it."""
    ablated = ablated_by(vit, baseline, reference, n_images, seed)

    def of_run(run: CleanRun, first: int) -> Ablated:
        target = run.answer.argmax(-1) if run.target is None else run.target
        return ablated(run.pixels, target, first, run.pieces.size)  # a run that was put together is of many images

    return of_run


def ablated_by(
    vit: ViT, baseline: Baseline, reference: Tensor | None, n_images: int, seed: int = 0
) -> Callable[..., Ablated]:
    """What gives the ablated channels of images (B, C, H, W), the classes (B,) they are explained by, and the first one's number.

    A fourth argument says how many images are run at a time; without it all are.
    """
    check_reference(baseline, reference, n_images)
    if reference is None:
        return lambda *_: None
    if baseline == "mean":
        means = mean_channels(vit, reference)
        return lambda *_: means
    if baseline == "paired":
        return lambda images, _target, first, *size: _channels(vit, reference[first : first + len(images)], *size)[0]
    classes = torch.cat([_channels(vit, part)[1].argmax(-1).cpu() for part in reference.split(BATCH)])
    return lambda images, target, _first, *size: _channels(
        vit, reference[_drawn(images, target, classes, seed)], *size
    )[0]


def check_reference(baseline: Baseline, reference: Tensor | None, n_images: int) -> None:
    """Refuse a baseline that isn't known, or that these reference images don't serve."""
    check_one_of("baseline", baseline, get_args(Baseline))
    if baseline == "zero":
        if reference is not None:
            raise InputError("reference goes with baseline 'mean', 'resample' or 'paired'; expected none with 'zero'")
        return
    if reference is None:
        raise InputError(f"baseline {baseline!r} is made of other images, and reference is None; expected (R, C, H, W)")
    check_images(reference, "reference")
    if baseline == "paired" and len(reference) != n_images:
        raise InputError(f"reference holds {len(reference)} images for {n_images}; expected one an image with 'paired'")
    if baseline != "paired" and len(reference) < 2:
        raise InputError(f"reference holds one image; expected at least 2 with {baseline!r}")


def reference_of(baseline: Baseline | None, reference: Tensor | None, at: slice) -> Tensor | None:
    """The reference images for these of many images: their own where they are paired, else all."""
    return reference[at] if reference is not None and baseline == "paired" else reference


def own_number(image: Tensor, seed: int = 0) -> int:
    """What an image's own pixels and the seed give as a number: draws by it don't depend on the batch."""
    return zlib.crc32(image.detach().float().cpu().contiguous().numpy().tobytes(), seed)


def _drawn(pixels: Tensor, targets: Tensor, classes: Tensor, seed: int) -> Tensor:
    """For each image (B, C, H, W) the number of a reference image of another class than the one explained."""
    found = []
    for image, target in zip(pixels, targets.tolist(), strict=True):
        others = (classes != target).nonzero()[:, 0]
        if not len(others):
            raise InputError(
                f"every reference image is of class {target}; expected some of another class with 'resample'"
            )
        draw = torch.Generator().manual_seed(own_number(image, seed))
        found.append(others[torch.randint(len(others), (1,), generator=draw)])
    return torch.cat(found)


def _channels(vit: ViT, images: Tensor, at_once: int | None = None) -> tuple[list[Tensor], Tensor]:
    """Every site's channels (B, T, C) on the tokens that units are read on, and the model's output."""
    found: dict[int, Tensor] = {}
    answers: list[Tensor] = []
    at_once = at_once or len(images)

    def keep(site: int, channels: Tensor) -> None:
        here = vit.split(channels)[0]
        if site not in found:
            found[site] = here.new_empty(len(images), *here.shape[1:])
        found[site][start : start + len(here)] = here

    with at_rest(vit.model), visited(vit.model, vit.sites, keep):
        for start in range(0, len(images), at_once):
            part = images[start : start + at_once]
            answers.append(run_model(vit.model, part.to(next(vit.model.parameters()))))
    return [found[site] for site in range(len(vit.sites))], torch.cat(answers)


def mean_channels(vit: ViT, reference: Tensor) -> list[Tensor]:
    """The mean over the reference images, a site (1, T, C)."""
    sums: list[Tensor] = []
    with at_rest(vit.model):  # what is made under torch.inference_mode can't be part of a graph
        for part in reference.split(BATCH):
            here = [values.double().sum(0, keepdim=True) for values in _channels(vit, part)[0]]
            sums = [a + b for a, b in zip(sums, here, strict=True)] if sums else here
        like = next(vit.model.parameters())
        return [(total / len(reference)).to(like) for total in sums]
