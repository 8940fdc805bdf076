"""Several ways to find a path, side by side."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from torch import Tensor, nn
from tqdm import tqdm
from tqdm.auto import tqdm as fitting_tqdm

from ..checks import InputError
from ..models.vit import ViT
from ..paths.neuron_paths import NeuronPaths
from .find import find_path
from .presets import list_presets
from .registry import list_methods


def way(name: str) -> dict[str, str]:
    """What :func:`find_path` is called with for the name of a method or of a preset."""
    names = sorted([*list_methods(), *list_presets()])
    if name not in names:
        raise InputError(f"method {name!r} is unknown; expected one of {', '.join(names)}")
    return {"method" if name in list_methods() else "preset": name}


def find_paths(
    model: nn.Module | ViT,
    images: Tensor,
    ways: Sequence[str],
    target: Any = None,
    *,
    units: str | None = None,
    token: str | None = None,
    progress: bool | tqdm = False,
    **options: Any,
) -> dict[str, NeuronPaths]:
    """Paths by several ways at once, to be evaluated: {name: NeuronPaths}.

    Args:
        model: a vision transformer of a known family.
        images: (B, C, H, W), transformed as the model wants it.
        ways: names of methods and of presets (see :func:`~neuronpath.list_methods`, :func:`~neuronpath.list_presets`).
        target: the class that is explained: None for the predicted class, an int, or one an image (B,).
        units: as in :func:`~neuronpath.find_path`; None is each way's own.
        token: the tokens on which units are read, likewise.
        progress: True shows a bar; a tqdm bar of your own is moved on by one an image and way.
        **options: further arguments of :func:`~neuronpath.find_path`.
    """
    calls = {name: way(name) for name in ways}  # all names are checked before the first is run
    bar: tqdm = (
        progress
        if isinstance(progress, tqdm)
        else fitting_tqdm(total=len(images) * len(calls), unit="path", disable=not progress)
    )
    with nullcontext() if bar is progress else bar:
        return {
            name: find_path(model, images, target, units=units, token=token, progress=bar, **{**options, **call})
            for name, call in calls.items()
        }
