"""Where a command's images come from, and what it says of those that it had to leave out."""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..checks import DONE, SOME_LEFT_OUT, InputError
from .terminal import say

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..jobs.pruning.data import Data

T = TypeVar("T")
MANY = 10_000  # images for which a folder that goes on is the better place
MODELS = ("vit_base_patch16_224", "deit_small_patch16_224", "vit_tiny_patch16_224")  # to choose from


RANDOM = "the model's weights are random (--no-pretrained): what it says of images means nothing"


@dataclass
class Source:
    """The model and batches of images with their names; ``total`` is how many images there are, readable or not.

    ``skipped`` holds the reasons of those that were left out, ``files`` the files that are read.
    """

    model: "nn.Module"
    batches: Iterator[tuple["Tensor", list[str]]]
    total: int
    skipped: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    random: bool = False

    def close(self, n_found: int) -> int:
        """Tell of the images that couldn't be read; the exit code. Refuses to go on where none could."""
        for reason in self.skipped:
            say(f"skipped: {reason}")
        if not n_found:
            raise InputError(f"none of the {len(self.skipped)} images could be read; expected at least one")
        if self.random:
            say(RANDOM)
        return SOME_LEFT_OUT if self.skipped else DONE


def open_source(
    images: Sequence[Path] | None,
    model: str | None,
    pretrained: bool,
    checkpoint: Path | None,
    device: str,
    batch_size: int,
    limit: int | None = None,
) -> Source:
    """The images and folders that are named, for the model named; without either the embedded model and a digit of each class.

    A limit takes images from all over the folders, as far from each other as it can.
    """
    from .. import demo
    from ..data.files import batches, find_images
    from ..models.load import load_model
    from ..models.transform import transform_of

    skipped: list[str] = []
    named, found = find_images(images or [], skipped.append)
    loaded = load_model(model_named(model, images), pretrained, checkpoint, device)
    if limit is not None and len(found) > limit:
        found = [found[i * len(found) // limit] for i in range(limit)]
    if len(named) + len(found) > MANY:
        say(f"{len(named) + len(found)} images: neuronpath run keeps what is done, and goes on where it was stopped")
    if images:
        each = batches(named, found, transform_of(loaded), batch_size, skipped.append)
        random = is_random(model, pretrained, checkpoint)
        return Source(loaded, each, len(named) + len(found), skipped, [*named, *found], random)
    if model in (None, demo.NAME):
        return Source(loaded, iter([demo.one_of_each_class()]), 10)
    raise InputError(f"no images were named for {model}; expected files or folders (only the demo brings its own)")


def model_named(model: str | None, images: Sequence[Path | str] | None) -> str:
    """The model meant: the embedded one where none is named, but not for images of one's own, of which it knows nothing."""
    from .. import demo

    if model is None and images:
        raise InputError(
            f"no model was named for {images[0]}; expected --model, such as {', '.join(MODELS)} "
            f"(or {demo.NAME!r}, which knows digits alone)"
        )
    return model or demo.NAME


def is_random(model: str | None, pretrained: bool, checkpoint: Path | None) -> bool:
    """Whether a model's weights are random ones: the embedded model's are its own."""
    from .. import demo

    return not pretrained and checkpoint is None and model not in (None, demo.NAME)


def model_for_folder(model: str | None, folder: Path | None) -> str:
    """The model meant, for a folder with one folder of images a class; only the embedded one brings images of its own."""
    from .. import demo

    name = model_named(model, None if folder is None else [folder])
    if folder is None and name != demo.NAME:
        raise InputError(f"no folder was named for {name}; expected one with a folder of images for each class")
    return name


def folder_data(
    folder: Path | None, model: "nn.Module", classes: Path | None, limit: int | None
) -> tuple["Data", list[str]]:
    """The labelled images of a folder, or the digits; and what was left out of them, which is told too."""
    from ..data.labelled import read_classes
    from ..jobs.pruning.data import digits, image_folder

    skipped: list[str] = []
    mapping = None if classes is None else read_classes(classes)
    data = digits() if folder is None else image_folder(folder, model, mapping, limit, skipped.append)
    for reason in skipped:
        say(f"skipped: {reason}")
    return data, skipped


def open_reference(
    reference: Path | None, baseline: str | None, images: Sequence[Path | str] | None, model: "nn.Module"
) -> "Tensor | None":
    """The images that units are ablated to: of the folder named; for the embedded digits 400 training digits, where they are wanted."""
    from .. import demo
    from ..data.load import load_images

    if reference is not None:
        return load_images(reference, model)[0]
    return demo.load("train")[1][:400] if not images and baseline not in (None, "zero") else None


def paired(
    batches: Iterable[T], total: int, skipped: list[str], baseline: str | None, reference: "Tensor | None"
) -> Iterator[T]:
    """The batches as they are; with baseline "paired" refuses other than as many reference images, and an image that can't be read:
    those behind it would be paired with others' references.
    """
    if baseline != "paired" or reference is None:
        yield from batches
        return
    from ..runs.baselines import check_reference

    check_reference("paired", reference, total)
    before = len(skipped)
    for batch in itertools.chain(batches, [None]):
        if len(skipped) > before:
            raise InputError(f"{skipped[before]}; expected none left out with 'paired'")
        if batch is not None:
            yield batch


def class_of(target: str | None) -> int | str | None:
    """A class as it is typed: by its number, or by its name."""
    return int(target) if target is not None and re.fullmatch(r"-?\d+", target) else target


def inputs(files: Iterable[Path], *more: Path | None) -> Iterator[Path]:
    """The files that a command reads: these, and those below what else is named."""
    from ..data.files import find_images

    yield from files
    for path in more:
        if path is not None:
            yield from itertools.chain(*find_images([path], lambda _: None)) if path.is_dir() else [path]


def check_outputs(files: Sequence[Path | None], picture: Path | None, overwrite: bool) -> None:
    """Refuse, before any work, names of outputs that can't be written, and a picture of no kind that there is."""
    from ..files import check_distinct, check_writable
    from ..plots import check_picture

    check_distinct(files)
    for file in files:
        if file is not None:
            check_writable(file, overwrite)
    if picture is not None:
        check_picture(picture)
