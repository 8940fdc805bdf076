"""Images in: files and folders to (B, C, H, W) by the model's own transform, and the names of its classes."""

import itertools
import json
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from timm.data import ImageNetInfo, create_transform, infer_imagenet_subset, resolve_model_data_config
from torch import Tensor, nn

from ..checks import InputError, InputTypeError

Transform = Callable[[Image.Image], Tensor]


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


def transform_of(model: nn.Module) -> Transform:
    """The model's own evaluation transform (timm's data config: size, crop, interpolation, mean and std), for any image.

    Raises InputTypeError for a model that isn't timm's: others don't carry their transform with them.
    """
    if not any(cls.__module__.startswith("timm.") for cls in type(model).__mro__):
        raise InputTypeError(
            f"{type(model).__name__} doesn't say how its images are transformed; expected a timm model, or images that you have "
            "transformed (torchvision: weights.transforms(); transformers: AutoImageProcessor)"
        )
    config = resolve_model_data_config(model)
    patches = getattr(model, "patch_embed", None)
    channels = getattr(model, "in_chans", config["input_size"][0])
    size = config["input_size"][1:]
    if patches is not None and getattr(patches, "strict_img_size", False):
        size = patches.img_size  # create_model(img_size=...) doesn't reach the config
    for moment in ("mean", "std"):
        if len(config[moment]) != channels:
            config[moment] = (sum(config[moment]) / len(config[moment]),) * channels
    config["input_size"] = (channels, *size)
    transform = create_transform(**config, is_training=False)
    mode = "L" if channels == 1 else "RGB"
    return lambda image: transform(image.convert(mode))


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


def find_labelled(
    folder: Path, model: nn.Module, classes: Mapping[str, int] | None = None
) -> tuple[list[Path], list[int]]:
    """The images of a folder with one folder a class, in order, and their classes.

    ``classes`` maps folders' names to the model's classes; without, a name is a class's number, its name, or its WordNet id.
    Raises InputError for a folder whose class can't be told.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected one with a folder of images for each class")
    parts = sorted(part for part in folder.iterdir() if part.is_dir())
    if not parts:
        raise InputError(f"{folder} holds no folders; expected one folder of images for each class")
    class_of = _folder_classes(model) if classes is None else classes.get
    known = {part.name: index for part in parts if (index := class_of(part.name)) is not None}
    unknown = [part.name for part in parts if part.name not in known]
    if unknown:
        raise InputError(
            f"{folder} holds {unknown[0]!r}, which names no class of {type(model).__name__}; expected class numbers or names, "
            "or pass --classes FILE (JSON: folder name to class number), or --target predicted"
        )
    paths, labels = [], []
    for part in parts:
        images = find_images([part])[1]
        paths += images
        labels += [known[part.name]] * len(images)
    return paths, labels


def read_classes(file: Path) -> dict[str, int]:
    """A JSON object of folder names and class numbers."""
    try:
        classes = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(
            f"{file} can't be read as JSON; expected an object of folder names and class numbers"
        ) from None
    if not isinstance(classes, dict) or not all(type(index) is int for index in classes.values()):
        raise InputError(f'{file} isn\'t a map of folder names to class numbers; expected such as {{"cat": 3}}')
    return classes


def labelled_batches(
    model: nn.Module,
    folder: Path,
    classes: Mapping[str, int] | None,
    labels_wanted: bool,
    limit: int | None,
    size: int,
    skip: Callable[[str], object],
) -> tuple[Iterator[tuple[Tensor, list[str], list[int] | None]], int]:
    """Up to ``size`` images at a time with names and labels, and how many there are; labels are None where not wanted nor to be had.

    A limit takes as many of each class as it can.
    """
    try:
        paths, labels = find_labelled(folder, model, classes)
    except InputError:
        if labels_wanted or classes is not None:
            raise
        paths, labels = find_images([folder])[1][:limit], []
    if labels and limit is not None:
        counts: defaultdict[int, Iterator[int]] = defaultdict(itertools.count)
        turn = [next(counts[label]) for label in labels]  # the image's place in its class
        chosen = sorted(sorted(range(len(paths)), key=lambda i: (turn[i], labels[i]))[:limit])
        paths, labels = [paths[i] for i in chosen], [labels[i] for i in chosen]
    label_of = dict(zip(map(str, paths), labels, strict=True)) if labels else {}
    source = batches([], paths, transform_of(model), size, skip)
    return ((pixels, names, [label_of[name] for name in names] if label_of else None) for pixels, names in source), len(
        paths
    )


def _folder_classes(model: nn.Module) -> Callable[[str], int | None]:
    """The class that a folder's name stands for: its number, its WordNet id, or its name where only one class has it."""
    count = getattr(model, "num_classes", 0)
    subset = infer_imagenet_subset(model)
    info = ImageNetInfo(subset) if subset else None
    ids = {info.index_to_label_name(index): index for index in range(count)} if info else {}
    name_of = class_namer(model)
    names = [(name_of(index) or "").lower() for index in range(count)]
    times = Counter(names)
    once = {name: index for index, name in enumerate(names) if name and times[name] == 1}

    def class_of(folder: str) -> int | None:
        if folder.isdecimal() and int(folder) < count:
            return int(folder)
        return ids.get(folder, once.get(folder.replace("_", " ").lower()))

    return class_of


def class_namer(model: nn.Module) -> Callable[[int], str | None]:
    """What the model's classes are called: by its own label names, else ImageNet's where the number of classes says so."""
    own = (getattr(model, "pretrained_cfg", None) or {}).get("label_names")
    classes = getattr(model, "num_classes", None)
    if own and len(own) == classes:
        return lambda label: str(own[label])
    told = getattr(getattr(model, "config", None), "id2label", None)  # transformers' way
    if told and not any(str(name).startswith("LABEL_") for name in told.values()):
        return lambda label: told.get(label)
    subset = infer_imagenet_subset(model)
    if subset is None:
        return lambda label: None
    info = ImageNetInfo(subset)
    return lambda label: info.index_to_description(label).split(",")[0]
