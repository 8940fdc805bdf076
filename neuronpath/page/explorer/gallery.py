"""The explorer's images: those that were given when it began, and those that are uploaded, which are in memory alone."""

import hashlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from PIL import Image
from torch import Tensor, nn

from ... import demo
from ...checks import InputError, printable
from ...data.files import decoded, find_images, open_image
from ...data.labelled import find_labelled
from ...data.pixels import packed, short_name, to_pixels
from ...models.transform import transform_of
from .turns import Kept

MOST_BYTES, MOST_PIXELS = 20 * 2**20, 50_000_000  # of an upload
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")  # none that runs another program, as EPS does
HELD = 96  # images in memory

Read = Callable[[int], Image.Image | Tensor]


class NotHeld(InputError):  # noqa: N818
    """An upload that is no longer in memory."""


class Held(NamedTuple):
    """An image in memory."""

    id: str
    name: str
    label: int | None
    pixels: tuple[Tensor, ...]
    """(C, H, W), as each of the models wants it."""
    kind: str
    picture: bytes
    """A small picture as a file of this kind, "png" or "jpeg"."""
    width: int
    height: int
    code: str
    """How it is had in Python, as ``images``."""


class Given(NamedTuple):
    """Images that were given: their names, classes where these are known, and how each is read."""

    names: Sequence[str]
    labels: Sequence[int] | None
    read: Read
    code: Callable[[int], str]
    all_code: str
    """How all of them are had in Python, as ``images``."""


def no_images() -> Given:
    """None."""
    return Given([], None, lambda number: Image.new("L", (1, 1)), lambda number: "", "")


def digits() -> Given:
    """The embedded held-out digits."""
    _, images, labels = demo.load()
    names = [f"held-out digit {i}" for i in range(len(images))]

    def code(i: int) -> str:
        return f"images = nph.demo.load()[1][{i} : {i + 1}]"

    return Given(names, labels.tolist(), images.__getitem__, code, "images = nph.demo.load()[1]")


def folder(path: Path, model: nn.Module, skip: Callable[[str], object]) -> Given:
    """The images of a folder, and their classes where it holds a folder for each."""
    try:
        files, labels = find_labelled(path, model, skip=skip)
    except InputError:  # no folders, or none of classes
        files, labels = [file for part in find_images([path], skip) for file in part], []

    def code(i: int) -> str:
        return f"images, names = nph.load_images({str(files[i])!r}, model)"

    labelled = f"images, names, labels = nph.load_images({str(path)!r}, model, labels=True)"
    return Given(
        [printable(file) for file in files], labels or None, lambda i: open_image(files[i]), code,
        labelled if labels else f"images, names = nph.load_images({str(path)!r}, model)",
    )  # fmt: skip


class Gallery:
    """Images by their id: a number of those given, "u" and a digest of those uploaded. Only those used last are in memory."""

    def __init__(self, given: Given, models: Sequence[nn.Module]) -> None:
        self.given, self.models = given, models
        self._held = Kept(HELD)
        self._decoding = Lock()

    def image(self, id: str) -> Held:
        """The image. Raises NotHeld for an upload that isn't in memory, InputError for none that there is."""
        held = self._held.get(id)
        if held is not None:
            return held
        if id.startswith("u"):
            raise NotHeld("the upload is no longer in memory; upload it once more")
        if not id.isdecimal() or len(id) > 9 or int(id) >= len(self.given.names):
            raise InputError(f"there is no image {id[:40]!r}; expected one of the {len(self.given.names)} given")
        number = int(id)
        label = None if self.given.labels is None else self.given.labels[number]
        found = self.given.read(number)
        return self._hold(id, self.given.names[number], label, found, self.given.code(number))

    def upload(self, content: bytes, name: str) -> Held:
        """An image of a file's bytes; InputError in one line for what can't be one."""
        name = short_name(name, 60) or "upload"
        formats = [each for each in FORMATS if each in _known()]
        with self._decoding:  # one at a time: a large image takes memory while it is decoded
            image = decoded(BytesIO(content), name, MOST_PIXELS, formats)
            id = "u" + hashlib.sha256(image.tobytes() + repr((image.size, image.mode, name)).encode()).hexdigest()[:32]
            code = f"images, names = nph.load_images({name!r}, model)  # the file that was uploaded"
            return self._held.get(id) or self._hold(id, name, None, image, code)

    def seen_by(self, found: Image.Image | Tensor) -> tuple[Tensor, ...]:
        """An image (C, H, W) as each model wants it."""
        if not isinstance(found, Image.Image):
            return (found,) * len(self.models)
        return tuple(transform_of(model)(found) for model in self.models)

    def _hold(self, id: str, name: str, label: int | None, found: Image.Image | Tensor, code: str) -> Held:
        pixels = self.seen_by(found)
        shown = to_pixels(pixels[0], self.models[0])
        kind, picture = packed(shown)
        held = Held(id, name, label, pixels, kind, picture, shown.shape[1], shown.shape[0], code)
        return self._held.put(id, held)


def _known() -> set[str]:
    Image.init()
    return set(Image.OPEN)
