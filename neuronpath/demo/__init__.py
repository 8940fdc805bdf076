"""The embedded vision transformer and its handwritten digits: something real to try things on, with no network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from ..checks import InputError, check_count, checked
from ..options import Split

FOLDER = Path(__file__).parent
DIGITS = FOLDER / "digits.npz"
WEIGHTS = FOLDER / "vit_digits.safetensors"
NAME, ARCHITECTURE = "demo", "neuronpath_digits"  # what users call it, and what it calls itself


@checked
def create_model(depth: int = 8) -> VisionTransformer:
    """The demo's architecture with fresh weights: blocks of width 64 (8 of them), 32 x 32 grey images, patches of 4 x 4."""
    check_count("depth", depth)
    model = VisionTransformer(
        img_size=32, patch_size=4, in_chans=1, num_classes=10, embed_dim=64, depth=depth, num_heads=4, mlp_ratio=4
    )
    config: Any = {
        "architecture": ARCHITECTURE,
        "input_size": (1, 32, 32),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "mean": (0.5,),
        "std": (0.5,),
        "label_names": [str(digit) for digit in range(10)],
    }
    model.pretrained_cfg = config
    return model


@checked
def load_pixels(split: Split = "test") -> tuple[np.ndarray, np.ndarray]:
    """The digits as they came: (n, 8, 8) grey levels 0..16, uint8, and their labels (n,), int64."""
    with np.load(DIGITS, allow_pickle=False) as digits:
        rows = digits["held_out"] == (split == "test")
        return digits["images"][rows], digits["labels"][rows].astype(np.int64)


@checked
def to_images(pixels: np.ndarray) -> Tensor:
    """Grey levels (n, 8, 8) in 0..16 to what the demo model sees: (n, 1, 32, 32) in -1..1, float32."""
    if pixels.ndim != 3 or pixels.dtype.kind not in "buif":
        raise InputError(
            f"pixels has shape {pixels.shape} and type {pixels.dtype}; expected (n, 8, 8), numbers from 0 to 16"
        )
    images = torch.from_numpy(pixels.astype(np.float32))[:, None] / 8 - 1
    return F.interpolate(images, size=(32, 32), mode="bilinear", align_corners=False)


@checked
def load(split: Split = "test") -> tuple[VisionTransformer, Tensor, Tensor]:
    """The trained demo model in eval mode, images (n, 1, 32, 32) and labels (n,).

    ``split="test"`` gives the 360 digits that training never saw, ``"train"`` the other 1,437.

    Examples:
        >>> model, images, labels = load()
        >>> tuple(images.shape), model.training
        ((360, 1, 32, 32), False)
    """
    pixels, labels = load_pixels(split)
    model = create_model()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval(), to_images(pixels), torch.from_numpy(labels)


def one_of_each_class() -> tuple[Tensor, list[str]]:
    """The first held-out digit of every class, (10, 1, 32, 32), and their names."""
    _, images, labels = load()
    first = [int((labels == digit).nonzero()[0]) for digit in range(10)]
    return images[first], [f"digit {digit} (held out, no. {index})" for digit, index in enumerate(first)]


@checked
def labelled_batches(limit: int | None, size: int) -> tuple[Iterator[tuple[Tensor, list[str], list[int] | None]], int]:
    """The held-out digits, ``size`` at a time, with names and labels; and how many there are."""
    check_count("size", size)
    if limit is not None:
        check_count("limit", limit)
    _, images, labels = load()
    images, labels = images[:limit], labels[:limit]
    starts = range(0, len(images), size)
    names = [f"held-out digit {i}" for i in range(len(images))]
    return ((images[i : i + size], names[i : i + size], labels[i : i + size].tolist()) for i in starts), len(images)
