"""Images as a caller gives them: a tensor, or a Dataset, DataLoader or Source, of which only a part is in memory at a time."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from ..checks import InputError, InputTypeError, odd_tensor, shown
from ..models.class_names import LABEL, check_numbered, numbered
from ..models.outputs import as_target
from ..models.vit import ViT
from .elements import parts, whole
from .source import Listed, Source

Images: TypeAlias = Tensor | Dataset | DataLoader | Source
Target: TypeAlias = int | str | Literal["label"] | Sequence[int | str] | Tensor | np.ndarray | None


class Stream(Dataset):
    """Images (B, C, H, W) that are read when they are asked for, in order; what a tensor is to those who slice it.

    What was read last is kept, so that asking onward reads everything once. Asking back begins anew.
    """

    _first: int  # the number of the first image at hand
    _held: list[tuple[Tensor, Any]]  # the images at hand with their labels
    _reading: Iterator[tuple[Tensor, list[Any]]]

    def __init__(self, source: Dataset | DataLoader, name: str) -> None:
        if isinstance(source, DataLoader) and not isinstance(source.dataset, IterableDataset):
            order = getattr(source.batch_sampler, "sampler", source.sampler)
            if "Random" in type(order).__name__ or getattr(order, "shuffle", False):
                raise InputError(
                    f"{name} is a DataLoader that shuffles; expected shuffle=False: images are told by their order"
                )
        self.source, self.name = source, name
        self.in_any_order = not isinstance(source, DataLoader | IterableDataset)  # a map-style Dataset
        self._begin(0)
        self._read(0, 1)
        if not self._held:
            raise InputError(f"{name} holds no images; expected at least one")

    @cached_property
    def n_images(self) -> int:
        return sum(len(pixels) for pixels, _ in self._batches(0)) if self._said is None else self._said

    @cached_property
    def _said(self) -> int | None:
        """How many images there are, as the source says, which is checked when they are read; None where it doesn't."""
        source: Any = self.source
        try:
            if not isinstance(source, DataLoader):
                return len(source)
            if source.batch_size is not None and not isinstance(source.dataset, IterableDataset):
                return len(source) * source.batch_size if source.drop_last else len(source.sampler)  # type: ignore[arg-type]
        except (TypeError, NotImplementedError):  # it doesn't know its length
            pass
        return None

    def __len__(self) -> int:
        return self.n_images

    @property
    def shape(self) -> torch.Size:
        """As a tensor's."""
        return torch.Size([len(self), *self[:1].shape[1:]])

    @property
    def ndim(self) -> int:
        """As a tensor's."""
        return 4

    def numel(self) -> int:
        """As a tensor's."""
        return self.shape.numel()

    def __getitem__(self, at: Any) -> Tensor:
        """Of a slice its images (b, C, H, W), of a number one image (C, H, W), of several numbers these (b, C, H, W)."""
        if (
            isinstance(at, slice)
            and at.step in (None, 1)
            and (at.start or 0) >= 0
            and (at.stop is None or at.stop >= 0)
        ):
            held = self._read(at.start or 0, at.stop)
            return torch.stack([pixels for pixels, _ in held]) if held else self[:1][:0]
        numbers = torch.arange(len(self))[at]
        if not numbers.ndim:
            return self[int(numbers) : int(numbers) + 1][0]
        found = {number: self[number] for number in numbers.unique().tolist()}
        return torch.stack([found[number] for number in numbers.tolist()]) if found else self[:1][:0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[number : number + 1][0] for number in range(len(self)))

    def split(self, size: int) -> Iterator[Tensor]:
        """So many images at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def labels(self, start: int = 0, stop: int | None = None) -> Tensor:
        """The labels that come with these images."""
        found = []
        for number in range(start, len(self) if stop is None else min(stop, len(self))):
            _, label = self._read(number, number + 1)[0] if stop is None else self._read(start, stop)[number - start]
            if isinstance(label, Tensor) and label.ndim == 0:
                label = label.item()
            if isinstance(label, bool) or not isinstance(label, int | np.integer):
                what = "no label" if label is None else shown(label)
                raise InputTypeError(
                    f"{self.name} holds {what} beside image {number}; expected whole numbers for labels"
                )
            found.append(int(label))
        return torch.tensor(found)

    def _read(self, start: int, stop: int | None) -> list[tuple[Tensor, Any]]:
        """Images (C, H, W) from ``start`` to ``stop`` with their labels, as far as there are any; none before them is kept."""
        if start < self._first or (self.in_any_order and start > self._first + len(self._held)):
            self._begin(start)
        while stop is None or self._first + len(self._held) < stop:
            self._drop(start)
            pixels, labels = next(self._reading, (None, []))
            if pixels is None:
                break
            if self._held and pixels.shape[1:] != self._held[0][0].shape:
                shapes = f"{tuple(self._held[0][0].shape)} and of {tuple(pixels.shape[1:])}"
                raise InputError(f"{self.name} holds images of {shapes}; expected one shape")
            self._held += zip(pixels, labels, strict=True)
        self._drop(start)
        return self._held[: None if stop is None else max(0, stop - start)]

    def _drop(self, start: int) -> None:
        gone = min(max(0, start - self._first), len(self._held))
        self._first, self._held = self._first + gone, self._held[gone:]

    def _begin(self, first: int) -> None:
        self._first = first if self.in_any_order else 0
        self._reading, self._held = self._batches(self._first), []

    def _batches(self, first: int) -> Iterator[tuple[Tensor, list[Any]]]:
        """Images (b, C, H, W), checked, each with its label, None where there is none."""
        source: Any = self.source
        single = not isinstance(source, DataLoader) or (source.batch_size is None and source.batch_sampler is None)
        number, most = first, 1 if single else source.batch_size
        for element in (source[i] for i in range(first, len(source))) if self.in_any_order else source:
            pixels, labels = parts(element)
            if single and isinstance(pixels, Tensor) and pixels.ndim == 3:
                pixels, labels = pixels[None], [labels]
            if not isinstance(pixels, Tensor):
                raise InputTypeError(
                    f"{self.name} holds a {type(pixels).__name__} for image {number}; expected tensors: give the data set the "
                    "model's transform"
                )
            check_images(pixels, f"{self.name} (image {number} and on)")
            if self._said is not None and len(pixels) != (expected := min(most, self._said - number)):
                self._refuse(f"{len(pixels)} images where {expected} should be (from image {number} on)")
            each = [] if labels is None else list(labels)
            yield pixels, each if len(each) == len(pixels) else [None] * len(pixels)
            number += len(pixels)
        if self._said not in (None, number):
            self._refuse(f"{number} images where {self._said} should be")

    def _refuse(self, what: str) -> None:
        raise InputError(
            f"{self.name} holds {what}; expected as many as its length says: an element an image, and none dropped in batches"
        )


@overload
def as_images(images: Images, model: nn.Module | ViT | None, name: str = ...) -> Tensor: ...
@overload
def as_images(images: None, model: nn.Module | ViT | None, name: str = ...) -> None: ...
def as_images(images: Images | None, model: nn.Module | ViT | None, name: str = "images") -> Tensor | None:
    """A tensor (B, C, H, W), checked, as it is; of anything else what gives its images as a tensor would, when sliced.

    A Source's images are made what the ``model`` sees. None is None, as reference images may be.
    """
    if images is None or isinstance(images, Stream):
        return images  # type: ignore[return-value]
    if isinstance(images, Source):
        if model is None:
            raise InputTypeError(f"{name} is a Source, and there is no model to see it; expected source.dataset(model)")
        images = images.dataset(model.model if isinstance(model, ViT) else model)
    if isinstance(images, DataLoader | Dataset):
        return Stream(images, name)  # type: ignore[return-value]
    check_images(images, name)
    return images


def some_of(images: Tensor, numbers: np.ndarray) -> Tensor:
    """The images of these numbers; those that can be asked for one by one are still read only when they are."""
    if isinstance(images, Stream) and images.in_any_order:
        return Stream(Subset(images.source, numbers.tolist()), images.name)
    return images[numbers]


def own_names(images: Tensor) -> list[str]:
    """What images are called where their caller doesn't say: a Source's by their ids, others by their numbers."""
    if isinstance(images, Stream) and isinstance(images.source, Listed):
        return [item.id for item in images.source.items]
    return list(map(str, range(len(images))))


class Classes:
    """The classes (B,) meant by a target: those named, or those that come with the images ("label"), which are read along with them."""

    def __init__(self, images: Tensor, target: Target, model: nn.Module | ViT | None = None) -> None:
        if isinstance(model, ViT):
            model = model.model
        if model is not None:
            target = numbered(target, model)
        self.stream = images if isinstance(target, str) and isinstance(images, Stream) else None
        if isinstance(target, str) and target != LABEL:
            raise InputTypeError(f"target is {target!r}; expected a whole number, one an image, or {LABEL!r}")
        if isinstance(target, str) and self.stream is None:
            raise InputError(
                f"target is {LABEL!r}, but images is a tensor; expected a Dataset, DataLoader or Source that gives labels too"
            )
        if self.stream is not None and model is not None:
            check_numbered_alike(self.stream, model)
        self.known = None if isinstance(target, str) else as_target(target, len(images))  # type: ignore[arg-type]
        """All of them, where that needs no reading; None too where none are meant."""

    def __getitem__(self, at: slice) -> Tensor | None:
        if self.stream is not None:
            return self.stream.labels(at.start or 0, at.stop)
        return None if self.known is None else self.known[at]

    def all(self) -> Tensor | None:
        """Those of all images, read where need be."""
        return self[:]


def check_numbered_alike(images: Stream, model: nn.Module) -> None:
    """Refuse a data set whose ``classes`` (names, as torchvision's data sets have them) the model numbers otherwise."""
    data = whole(images.source)
    names = data.label_names if isinstance(data, Listed) else dict(enumerate(getattr(data, "classes", ())))
    check_numbered(names, model, images.name)


@overload
def sliceable(images: Images) -> Tensor: ...
@overload
def sliceable(images: None) -> None: ...
def sliceable(images: Images | None) -> Tensor | None:
    """As :func:`as_images`, but a tensor may be any: for pictures."""
    return images if isinstance(images, Tensor) else as_images(images, None)


def check_images(images: Tensor, name: str = "images") -> None:
    """Refuse what is no batch of images (B, C, H, W)."""
    if isinstance(images, Stream):
        return  # it checks what it reads
    if not isinstance(images, Tensor):
        raise InputTypeError(f"{name} is a {type(images).__name__}; expected a tensor of shape (B, C, H, W)")
    if odd := odd_tensor(images):
        raise InputTypeError(f"{name} is {odd}; expected an ordinary tensor of shape (B, C, H, W)")
    if not images.is_floating_point():
        raise InputTypeError(
            f"{name} has dtype {images.dtype}; expected floating point, transformed as the model wants it"
        )
    if images.ndim != 4:
        raise InputError(f"{name} has shape {tuple(images.shape)}; expected (B, C, H, W)")
    if not len(images):
        raise InputError(f"{name} is an empty batch; expected at least one image")
    if not images.numel():
        raise InputError(f"{name} has shape {tuple(images.shape)}; expected images with pixels")
    low, high = images.aminmax()  # NaN where any pixel is; a mask of all pixels would take memory
    if not (low.isfinite() and high.isfinite()):
        index = next(index for index, image in enumerate(images) if not image.isfinite().all())
        raise InputError(f"image {index} of the batch holds NaN or infinity; expected finite pixels")
