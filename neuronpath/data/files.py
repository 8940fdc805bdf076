"""Images in: files and folders to (B, C, H, W) by the model's own transform."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..checks import InputError
from ..files import as_path, check_readable, not_readable
from ..models.transform import Transform

ENDINGS = frozenset(Image.registered_extensions())
Skip = Callable[[str], object]  # is told why an image or a folder is left out


def find_images(paths: Sequence[str | os.PathLike], skip: Skip | None = None) -> tuple[list[Path], list[Path]]:
    """The image files that are named, and those below the folders that are named, in order.

    Files are known by their names' endings in folders only; a file that is named is taken as it is. Links are followed, but no folder
    is entered twice. What can't be read below a folder is told to ``skip``; without one it is refused.
    """
    named, found = [], []
    for path in (as_path(path, "an image's name") for path in paths):
        if os.path.isdir(path):
            reasons: list[str] = []
            inside = []
            for image, reason in below(path, is_image, reasons.append):
                if reason is None:
                    inside.append(image)
                else:
                    reasons.append(reason)
            inside.sort()
            if not inside:
                why = f" ({reasons[0]})" if reasons else ""
                raise InputError(f"{path} holds no images; expected a folder with files such as .png or .jpg{why}")
            for reason in reasons:
                if skip is None:
                    raise InputError(reason)
                skip(reason)
            found += inside
        else:
            named.append(check_readable(path, "an image or a folder of images"))
    return named, found


def is_image(name: str) -> bool:
    """Whether a file's name ends as an image's does."""
    return os.path.splitext(name)[1].lower() in ENDINGS


def below(folder: Path, wanted: Callable[[str], bool], skip: Skip) -> Iterator[tuple[Path, str | None]]:
    """The files below a folder whose names are wanted, and links to nothing, each with why it can't be read, if so.

    Each folder comes under its own name rather than a link's, where both are there; one that can't be read is told to ``skip``.
    """
    folders, links = [folder], list[Path]()
    entered = set[str]()
    while folders or links:
        here = (folders or links).pop()
        real = os.path.realpath(here)
        if real in entered:
            continue
        entered.add(real)
        try:
            entries = sorted(os.listdir(here))
            for name in entries[:1]:
                os.lstat(here / name)  # a folder without the right to enter it may still say what is in it
        except OSError as error:
            skip(f"{here} can't be read: {(error.strerror or str(error)).lower()}; expected a folder of images")
            continue
        inside = list[Path]()
        for path in (here / name for name in entries):
            if os.path.isdir(path):
                (links if path.is_symlink() else inside).append(path)
            elif wanted(path.name) or (path.is_symlink() and not os.path.exists(path)):
                yield path, not_readable(path, "an image")
        folders += reversed(inside)


def open_image(path: str | os.PathLike) -> Image.Image:
    """Any image that Pillow reads, upright, as 8-bit "L" or "RGB"; what is transparent becomes white."""
    check_readable(path, "an image")
    with warnings.catch_warnings(record=True) as told:  # not in decoded: threads share the filters
        warnings.simplefilter("always")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = decoded(Path(path), path)
    for warning in told:
        warnings.warn(f"{path}: {warning.message}", stacklevel=2)
    return image


def decoded(
    file: Path | BytesIO, name: object, most: int | None = None, formats: Sequence[str] | None = None
) -> Image.Image:
    """The image in a file or in bytes, as :func:`open_image` gives it; ``name`` is what messages call it.

    ``most`` is the pixels that it may have, None Pillow's own limit; ``formats`` what it may be, None whatever Pillow reads.
    """
    limit = Image.MAX_IMAGE_PIXELS if most is None else most
    try:
        with Image.open(file, formats=None if formats is None else tuple(formats)) as image:
            if limit is not None and image.width * image.height > limit:
                raise Image.DecompressionBombError
            return plain(ImageOps.exif_transpose(image))
    except PermissionError:
        raise InputError(f"{name} can't be read: permission denied") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        whose = " (Pillow's limit against bombs)" if most is None else ""
        raise InputError(f"{name} is too large; expected at most {limit:,} pixels{whose}") from None
    except Exception as error:  # Pillow's decoders raise whatever they stumble on: SyntaxError, struct.error, ...
        if not (len(file.getbuffer()) if isinstance(file, BytesIO) else not file.exists() or file.stat().st_size):
            raise InputError(f"{name} is empty; expected an image") from None
        kinds = "one that Pillow reads" if formats is None else f"one of {', '.join(formats)}"
        raise InputError(f"{name} is damaged or no image ({type(error).__name__}); expected {kinds}") from None


def plain(image: Image.Image) -> Image.Image:
    """An image as 8-bit "L" or "RGB"; what is transparent becomes white."""
    if image.mode.startswith("I") or image.mode == "F":  # deep greys, which Pillow's convert would clip at 255
        levels = np.asarray(image, dtype=np.float64)
        least, most = levels.min(initial=0), levels.max(initial=0)
        deep = image.mode.startswith("I;16") or (image.mode == "I" and most > 255)
        shares = image.mode == "F" and least >= 0 and most <= 1  # of white
        levels = levels / 257 if deep else levels * 255 if shares else levels
        return Image.fromarray(levels.clip(0, 255).round().astype(np.uint8), "L")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def batches(
    named: Sequence[Path], found: Sequence[Path], transform: Transform, size: int, skip: Skip
) -> Iterator[tuple[Tensor, list[str]]]:
    """Up to ``size`` images at a time, with their names. An unreadable one of ``found`` is told to ``skip`` and left out."""
    images: list[Tensor] = []
    names: list[str] = []
    optional = set(found)
    for path in [*named, *found]:
        try:
            images.append(transform(open_image(path)))
        except InputError as error:
            if path not in optional:
                raise
            skip(str(error))
            continue
        names.append(str(path))
        if len(images) == size:
            yield torch.stack(images), names
            images, names = [], []
    if images:
        yield torch.stack(images), names
