"""Several ways to find a path, side by side."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from tqdm import tqdm

from ..checks import InputError, checked
from ..data.given import Images, as_images
from ..models.vit import ViT
from ..options import Baseline, Token, Units
from ..paths.neuron_paths import NeuronPaths
from ..runs.progress import bar_over
from .find import DEFAULT, find_path, heads_lack
from .presets import PRESETS, list_presets
from .registry import Method, list_methods, method_named


def way(name: str) -> dict[str, str]:
    """What :func:`find_path` is called with for the name of a method or of a preset."""
    names = sorted([*list_methods(), *list_presets()])
    if name not in names:
        raise InputError(f"method {name!r} is unknown; expected one of {', '.join(names)}")
    return {"method" if name in list_methods() else "preset": name}


def _read_on(
    model: nn.Module | ViT, call: dict[str, str], units: Units | None, token: Token | None
) -> tuple[Units | None, Token | None]:
    """What a way's paths are made of, and the tokens: those asked for, else a given view's, else the way's own."""
    if isinstance(model, ViT):
        return units, token
    method = _method(call)
    token = token or method.token
    lacks = method.units[0] == "both" and heads_lack(model, token)
    return units or ("neurons" if lacks else method.units[0]), token


def _method(call: dict[str, str]) -> Method:
    """What a way's call finds paths by."""
    if "method" in call:
        return method_named(call["method"])
    preset = PRESETS[call["preset"]]
    return preset.way or method_named(preset.method or DEFAULT)


@checked
def find_paths(
    model: nn.Module | ViT,
    images: Images,
    ways: Sequence[str],
    target: Any = None,
    *,
    units: Units | None = None,
    token: Token | None = None,
    baseline: Baseline | None = None,
    reference: Images | None = None,
    progress: bool | tqdm = False,
    **options: Any,
) -> dict[str, NeuronPaths]:
    """Paths by several ways at once, to be evaluated: {name: NeuronPaths}.

    Args:
        model: a vision transformer of a known family.
        images: (B, C, H, W), or a Dataset, DataLoader or Source of them, transformed as the model wants it.
        ways: names of methods and of presets (see :func:`~neuronpath.list_methods`, :func:`~neuronpath.list_presets`).
        target: the class that is explained: None for the predicted class, an int, or one an image (B,).
        units: as in :func:`~neuronpath.find_path`; None is what the first way is made for, so that all paths are of as many units.
        token: the tokens on which units are read, likewise.
        baseline: what units are ablated to, and
        reference: the images for that, of the ways that ablate ("live"); the others know no baseline.
        progress: True shows a bar; a tqdm bar of your own is moved on by one an image and way.
        **options: further arguments of :func:`~neuronpath.find_path`.
    """
    images = as_images(images, model)
    reference = as_images(reference, model, "reference")
    calls = {name: way(name) for name in ways}  # all names are checked before the first is run
    if not calls:
        raise InputError("ways names no way; expected at least one method or preset")
    units, token = _read_on(model, next(iter(calls.values())), units, token)
    ablation: dict[str, Any] = {"baseline": baseline, "reference": reference}
    with bar_over(progress, len(images) * len(calls), "path") as bar:
        return {
            name: find_path(
                model, images, target, units=units, token=token, progress=bar,
                **{**options, **call, **(ablation if _method(call).ablates else {})},
            )
            for name, call in calls.items()
        }  # fmt: skip
