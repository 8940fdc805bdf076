"""One source for images from anywhere, listed lazily: files, folders, lists, Parquet, tars, arrays, data sets in memory."""

import copy
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

from ..checks import InputError, InputTypeError, check_count, odd_tensor, shown
from ..files import as_path, check_readable
from ..models.class_names import folder_namer
from ..models.transform import Transform, transform_of
from .containers import PACKED, Item, class_names_in, in_array, in_row, items_in
from .elements import parts, whole
from .files import decoded, is_image, plain
from .lists import LISTS, beside, items_listed
from .places import bytes_of, ending_of, files_below, is_address, is_folder

CHANNELS = (1, 2, 3, 4)  # grey, colour, and either with transparency
Skip = Callable[[str], object]  # is told what of a source can't be listed


class Source:
    """Images from anywhere, each with an id that stays; nothing is read before it is asked for.

    Args:
        images: where they are; one of these, or several of the first four:

            - an image, or a folder with images below it; where the images lie in folders, the topmost one's name is the label;
            - a list of images: ``.txt`` with a path a line, ``.csv`` with the columns path, and id and label if you like, ``.jsonl``
              with the same keys a line. Paths are taken from the list's own folder on;
            - a ``.parquet`` file with a column of bytes or paths, an ``.arrow`` file as Hugging Face's ``save_to_disk`` writes them, or
              a ``.tar`` after WebDataset, or a folder of such files; or a ``.npy`` file with an array;
            - any of these by an address that fsspec opens, such as ``s3://bucket/photos`` (wants ``pip install s3fs``);
            - pixels, uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), or what a model sees, floats (N, C, H, W), as an array or a tensor;
            - a map-style Dataset, or a DataLoader of one, whose elements are an image or begin with it; Hugging Face's Dataset.

    Iterating gives items with an id, a place and a label. Ids are paths from the folder on, or the list's and the table's own, or
    numbers.

    Raises:
        InputError: for what can't be a source, in one line; when it is iterated, for what isn't there or holds no images.

    Examples:
        >>> import numpy as np
        >>> source = Source(np.zeros((3, 8, 8), np.uint8))
        >>> [item.id for item in source]
        ['000000000', '000000001', '000000002']
    """

    def __init__(self, images: Any, skip: Skip | None = None) -> None:
        self.named: list[str] = []
        self.memory: Any = None
        self.drawn: list[Item] | None = None  # of a part, its images
        self.skip = skip or _refuse
        if isinstance(images, str | os.PathLike):
            images = [images]
        if isinstance(images, DataLoader):
            images = _dataset_of(images)
        if isinstance(images, Tensor | np.ndarray):
            self.memory = _checked(images)
        elif isinstance(images, IterableDataset):
            raise InputTypeError(f"{type(images).__name__} has no numbers to ask for; expected a map-style Dataset")
        elif isinstance(images, Dataset) or type(images).__module__.startswith("datasets."):
            self.memory = images
        elif isinstance(images, Sequence) and images and all(isinstance(i, str | os.PathLike) for i in images):
            self.named = [i if isinstance(i, str) and is_address(i) else str(as_path(i, "a source")) for i in images]
        else:
            what = "empty" if isinstance(images, Sequence) and not len(images) else shown(images)
            raise InputTypeError(
                f"source is {what}; expected files, folders, addresses, an array, a Dataset or a DataLoader"
            )

    def __iter__(self) -> Iterator[Item]:
        if self.drawn is not None:
            yield from self.drawn
        elif self.memory is not None:
            yield from (Item(f"{i:09d}", "", i) for i in range(len(self.memory)))
        else:
            for place in self.named:
                yield from self._items_of(place)

    def _items_of(self, place: str) -> Iterator[Item]:
        alone = len(self.named) == 1
        if is_folder(place):
            return self._folder(place, "" if alone else f"{place.rstrip('/')}/")
        ending = ending_of(place)
        if ending in LISTS:
            return items_listed(place)
        if ending in PACKED or ending == ".npy":
            return items_in(place, os.path.basename(place) if alone else place, self.skip)
        if place.lower().endswith((".tar.gz", ".tgz")):
            raise InputError(f"{place} is compressed; expected a .tar that isn't, to read from any place in it")
        if not is_address(place) and not os.path.lexists(place):
            raise InputError(f"{place} doesn't exist; expected an image, a folder of images, or a list of them")
        return iter([Item(place, place)])

    def _folder(self, folder: str, prefix: str) -> Iterator[Item]:
        empty, images = True, False
        for place, name in files_below(folder, is_image, self.skip):
            if _is_packed(name):  # a link to nothing
                continue
            empty, images = False, images or is_image(name)
            top, inside, _ = name.partition("/")
            yield Item(prefix + name, place, label=top if inside else None)
        for place, name in () if images else files_below(folder, _is_packed, self.skip):
            for item in items_in(place, prefix + name, self.skip) if _is_packed(name) else ():
                empty = False
                yield item
        if empty:
            raise InputError(f"{folder} holds no images; expected files such as .png or .jpg, .parquet or .tar")

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to other processes."""
        return {**self.__dict__, "skip": _refuse}

    def split(self, *counts: int, seed: int = 0) -> list["Source"]:
        """So many images each, none in two parts; fewer in the last ones where there aren't enough.

        They are drawn by their ids and the seed, so that the same are drawn again, and new images displace few.

        Examples:
            >>> import numpy as np
            >>> test, others = Source(np.zeros((8, 4, 4), np.uint8)).split(5, 2)
            >>> len(list(test)), len(list(others))
            (5, 2)
        """
        for count in counts:
            check_count("counts", count, 0)
        order = sorted(self, key=lambda i: hashlib.sha256(f"{seed}\0{i.id}".encode(errors="surrogatepass")).digest())
        found, start = [], 0
        for count in counts:
            part = copy.copy(self)
            part.drawn = sorted(order[start : start + count], key=lambda i: (i.place, i.start, i.id))
            found.append(part)
            start += count
        return found

    @property
    def class_names(self) -> dict[int, str]:
        """The names of the classes by their numbers, where the source tells them."""
        if self.memory is not None:
            return dict(enumerate(map(str, getattr(whole(self.memory), "classes", []))))
        source = copy.copy(self)
        source.skip = _ignore
        for place in self.named:
            first = next(source._items_of(place), None)
            if first and ending_of(first.place) in (".parquet", ".arrow") and (names := class_names_in(first.place)):
                return names
        return {}

    def digest(self) -> str:
        """A name for the pixels of an array; "" where they can't be told without reading all of them."""
        if not isinstance(self.memory, Tensor | np.ndarray):
            return ""
        array = self.memory.detach().cpu().contiguous() if isinstance(self.memory, Tensor) else self.memory
        raw = array.reshape(-1).view(torch.uint8).numpy() if isinstance(array, Tensor) else np.ascontiguousarray(array)
        return hashlib.sha256(raw.data).hexdigest()[:16]

    def dataset(self, model: nn.Module, classes: Mapping[str, int] | None = None) -> "Listed":
        """The images in order, as the model sees them, each with its class's number: for functions that take a Dataset, such as
        :func:`~neuronpath.evaluate`. ``classes`` says which class a label is; None takes it for a number, a name or a WordNet id.
        """
        return Listed(self, model, classes)

    def read(self, item: Item) -> tuple[Image.Image | Tensor, str | None]:
        """An image, or what the model sees of it, (C, H, W); and its label. Raises InputError, in one line, where it can't be read."""
        if not item.place:
            return _element(self.memory, item)
        if ending_of(item.place) == ".npy":
            return _image(in_array(item.place, item.start), item.id), item.label
        if item.length < 0 and ending_of(item.place) in PACKED:
            found = in_row(item.place, item.start)
            return _image(beside(item.place, found) if isinstance(found, str) else found, item.id), item.label
        if item.length < 0 and not is_address(item.place):
            return _image(item.place, item.id), item.label
        return _image(bytes_of(item.place, item.start, item.length), item.id), item.label


class Listed(Dataset):
    """A source's images as the model sees them, (C, H, W), and their classes; -1 where a label names none, or there is none."""

    def __init__(self, source: Source, model: nn.Module, classes: Mapping[str, int] | None) -> None:
        self.source, self.items = source, list(source)
        self.class_of = folder_namer(model) if classes is None else classes.get
        self.own_map = classes is not None
        self.model = model

    @cached_property
    def transform(self) -> Transform:
        return transform_of(self.model)

    @cached_property
    def label_names(self) -> dict[int, str]:
        """What the source calls its labels' numbers, where these are taken for the model's classes."""
        return {} if self.own_map else self.source.class_names

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.source.read(self.items[index])
        found = None if label is None else self.class_of(label)
        return image if isinstance(image, Tensor) else self.transform(image), -1 if found is None else found


def as_source(images: Any, skip: Skip | None = None) -> Source:
    """A source as it is, or of what :class:`Source` takes."""
    return images if isinstance(images, Source) else Source(images, skip)


def _is_packed(name: str) -> bool:
    return ending_of(name) in PACKED and not os.path.basename(name).startswith("cache-")  # Hugging Face's own


def _refuse(reason: str) -> None:
    raise InputError(reason)


def _ignore(_: str) -> None:
    pass


def _dataset_of(loader: DataLoader) -> Any:
    """What a loader loads from, image by image; its batches and its order don't matter here."""
    batches = loader.batch_sampler
    order = batches if batches is not None and type(batches) is not BatchSampler else loader.sampler
    if not isinstance(loader.dataset, IterableDataset) and not isinstance(order, SequentialSampler | RandomSampler):
        raise InputTypeError(
            f"the loader draws its images by a {type(order).__name__}; expected one that gives each image of its Dataset once"
        )
    return loader.dataset


def _checked(array: Any) -> Any:
    """An array that holds images one after the other."""
    if odd := odd_tensor(array):
        raise InputTypeError(f"source is {odd}; expected an ordinary one")
    kind = str(array.dtype).removeprefix("torch.")
    if not (kind == "uint8" and array.ndim in (3, 4)) and not (
        kind.startswith(("float", "bfloat")) and array.ndim == 4
    ):
        raise InputTypeError(
            f"source has shape {tuple(array.shape)} and type {kind}; expected uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), or floats "
            "(N, C, H, W)"
        )
    return array.cpu().numpy() if kind == "uint8" and isinstance(array, Tensor) else array


def _element(memory: Any, item: Item) -> tuple[Image.Image | Tensor, str | None]:
    """The image and the label of an element of an array or a Dataset."""
    try:
        found = memory[item.start]
    except Exception as error:  # the user's own code
        raise InputError(f"{item.id} can't be read ({type(error).__name__}: {' '.join(str(error).split())})") from None
    found, label = parts(found)
    label = label.item() if isinstance(label, Tensor | np.generic) else label
    return _image(found, item.id), str(label) if isinstance(label, int | str) else None


def _image(found: Any, name: str) -> Image.Image | Tensor:
    """An image of whatever stands for one: bytes, a path, an array, a tensor, Pillow's own."""
    if isinstance(found, bytes):
        return decoded(io.BytesIO(found), name)
    if isinstance(found, str) and is_address(found):
        return decoded(io.BytesIO(bytes_of(found)), name)
    if isinstance(found, str):
        return decoded(check_readable(found, "an image"), found)
    if isinstance(found, Image.Image):
        return plain(found)
    if isinstance(found, Tensor) and found.dtype == torch.uint8:
        found = found.cpu().numpy()
    if isinstance(found, np.ndarray) and found.dtype == np.uint8:
        return plain(_picture(found, name))
    if isinstance(found, np.ndarray) and found.dtype.kind == "f":
        found = torch.from_numpy(np.array(found, np.float32))
    if isinstance(found, Tensor) and found.is_floating_point() and found.ndim == 3:
        return found
    raise InputError(f"{name} is a {type(found).__name__}; expected an image, bytes, a path, or floats (C, H, W)")


def _picture(pixels: np.ndarray, name: str) -> Image.Image:
    """Pillow's image of pixels (H, W), (H, W, C) or, as torchvision has them, (C, H, W)."""
    if pixels.ndim == 3 and pixels.shape[2] not in CHANNELS and pixels.shape[0] in CHANNELS:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim not in (2, 3) or not pixels.size or (pixels.ndim == 3 and pixels.shape[2] not in CHANNELS):
        raise InputError(f"{name} has shape {pixels.shape}; expected pixels (H, W), (H, W, C) or (C, H, W)")
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
