"""Images of files and folders, all at once."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from ..checks import InputError, checked
from ..models.transform import transform_of
from .files import find_images, open_image
from .labelled import find_labelled

Paths = str | os.PathLike | Sequence[str | os.PathLike]


@overload
def load_images(paths: Paths, model: nn.Module) -> tuple[Tensor, list[str]]: ...
@overload
def load_images(
    paths: Paths, model: nn.Module, labels: Literal[True], classes: Mapping[str, int] | None = None
) -> tuple[Tensor, list[str], Tensor]: ...
@checked
def load_images(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    model: nn.Module,
    labels: bool = False,
    classes: Mapping[str, int] | None = None,
) -> Any:
    """Images and folders of images as the model wants them: (B, C, H, W) and B file names; with ``labels`` also their classes (B,).

    Args:
        paths: files and folders; with ``labels`` folders that hold a folder of images for each class.
        model: a timm model, or one that :func:`~neuronpath.load_model` made, whose transform is used.
        labels: return the classes too. A class's folder is called by its number, its name, or its WordNet id.
        classes: what folders of other names mean, {name: class}.

    Raises:
        InputError: for the first that can't be read, and for folders that name no class of the model. More images than fit in memory
            are a DataLoader's or find-path's affair.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else paths
    if classes is not None and not labels:
        raise InputError("classes says what folders mean, and labels is False; expected labels=True with it")
    if labels:
        each = [find_labelled(Path(folder), model, classes) for folder in paths]
        files, truth = [file for part, _ in each for file in part], [label for _, part in each for label in part]
    else:
        files, truth = [file for part in find_images(paths) for file in part], []
    if not files:
        raise InputError("no images were named; expected at least one file or folder")
    transform = transform_of(model)
    images = torch.stack([transform(open_image(file)) for file in files])
    names = [str(file) for file in files]
    return (images, names, torch.tensor(truth)) if labels else (images, names)
