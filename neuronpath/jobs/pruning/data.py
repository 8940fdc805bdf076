"""The images of an experiment: some to calibrate with, others to test on."""

import hashlib
import itertools
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ... import demo
from ...checks import InputError
from ...data.given import as_images
from ...data.labelled import labelled_batches
from ...data.source import Source

BATCH = 64  # images read at a time
HELD = 2**31  # bytes of pixels that are held in memory; of more images each is read again whenever it is run


@dataclass(frozen=True, eq=False)
class Data:
    """Images (n, C, H, W) and labels (n,): a pool to draw calibration images from, and those to test on."""

    pool: Tensor
    pool_labels: Tensor
    test: Tensor
    test_labels: Tensor

    def digest(self) -> str:
        """A name for all pixels and labels."""
        found = hashlib.sha256()
        pixels = itertools.chain(self.pool.split(BATCH), self.test.split(BATCH))  # some at a time
        for part in itertools.chain(pixels, (self.pool_labels, self.test_labels)):
            found.update(part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()[:16]


def digits() -> Data:
    """The embedded digits: the training ones to calibrate with, the held-out ones to test on."""
    _, pool, pool_labels = demo.load("train")
    _, test, test_labels = demo.load("test")
    return Data(pool, pool_labels, test, test_labels)


def image_folder(
    folder: str | os.PathLike,
    model: nn.Module,
    classes: Mapping[str, int] | None = None,
    limit: int | None = None,
    skip: Callable[[str], object] = warnings.warn,
) -> Data:
    """One folder a class: every second image of each to calibrate with, the others to test on.

    ``classes`` and the folders' names: see :func:`~neuronpath.data.labelled.find_labelled`. ``limit`` takes as many images of
    each class as it can. An image that can't be read is told to ``skip`` and left out. Raises InputError for a class with one image.
    """
    images: tuple[list[Tensor], list[Tensor]] = ([], [])
    names: tuple[list[str], list[str]] = ([], [])
    labels: tuple[list[int], list[int]] = ([], [])
    times: Counter[int] = Counter()
    held = 0
    for batch, files, told in labelled_batches(model, Path(folder), classes, True, limit, BATCH, skip)[0]:
        held += batch.nbytes
        for image, name, label in zip(batch, files, told or [], strict=True):
            part = times[label] % 2
            if held <= HELD:
                images[part].append(image.clone())  # or it would keep its batch
            names[part].append(name)
            labels[part].append(label)
            times[label] += 1
        if held > HELD:
            images = ([], [])
    if not times:
        raise InputError(f"{folder} holds no image that can be read; expected at least two of each class")
    if lonely := [label for label, n in times.items() if n == 1]:
        raise InputError(
            f"{folder} has one image of class {lonely[0]}; expected two at least, to calibrate with and to test on"
        )
    pool, test = (
        torch.stack(part) if held <= HELD else as_images(Source(files), model)
        for part, files in zip(images, names, strict=True)
    )
    pool_labels, test_labels = map(torch.tensor, labels)
    return Data(pool, pool_labels, test, test_labels)
