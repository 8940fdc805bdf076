"""Images in: files and folders to (B, C, H, W) by the model's own transform."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from ..checks import InputError
from ..models.transform import Transform, transform_of


def find_images(paths: Sequence[str | os.PathLike]) -> tuple[list[Path], list[Path]]:
    """The image files that are named, and those below the folders that are named, in order.

    Files are known by their names' endings in folders only; a file that is named is taken as it is.
    """
    endings = Image.registered_extensions()
    named, found = [], []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in endings and p.is_file())
            if not inside:
                raise InputError(f"{path} holds no images; expected a folder with files such as .png or .jpg")
            found += inside
        elif path.exists():
            named.append(path)
        else:
            raise InputError(f"{path} doesn't exist; expected an image or a folder of images")
    return named, found


def open_image(path: str | os.PathLike) -> Image.Image:
    """Any image that Pillow reads, upright, as 8-bit "L" or "RGB"; what is transparent becomes white."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _plain(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise InputError(f"{path} doesn't exist; expected an image") from None
    except PermissionError:
        raise InputError(f"{path} can't be read: permission denied") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = Image.MAX_IMAGE_PIXELS
        raise InputError(
            f"{path} is too large; expected at most {limit:,} pixels (Pillow's limit against bombs)"
        ) from None
    except Exception as error:  # Pillow's decoders raise whatever they stumble on: SyntaxError, struct.error, ...
        if os.path.exists(path) and not os.path.getsize(path):
            raise InputError(f"{path} is empty; expected an image") from None
        raise InputError(
            f"{path} is damaged or no image ({type(error).__name__}); expected one that Pillow reads"
        ) from None


def _plain(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # deep greys, which Pillow's convert would clip at 255
        levels = np.asarray(image, dtype=np.float64)
        deep = image.mode.startswith("I;16") or (image.mode == "I" and levels.max(initial=0) > 255)
        return Image.fromarray((levels / (257 if deep else 1)).clip(0, 255).round().astype(np.uint8), "L")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def load_images(paths: str | os.PathLike | Sequence[str | os.PathLike], model: nn.Module) -> tuple[Tensor, list[str]]:
    """Images and folders of images as the model wants them: (B, C, H, W) and B file names.

    Raises InputError for the first that can't be read. More images than fit in memory are a DataLoader's or find-path's affair.
    """
    named, found = find_images([paths] if isinstance(paths, str | os.PathLike) else paths)
    if not named + found:
        raise InputError("no images were named; expected at least one file or folder")
    transform = transform_of(model)
    return torch.stack([transform(open_image(path)) for path in named + found]), [str(path) for path in named + found]


def batches(
    named: Sequence[Path], found: Sequence[Path], transform: Transform, size: int, skip: Callable[[str], object]
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
