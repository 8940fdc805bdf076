"""Who makes a model of a name: timm, torchvision, or transformers."""

import difflib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from PIL import Image
from torch import nn

from ..checks import InputError
from .network import HUB, TORCHVISION
from .transform import Transform

SCHEMES = ("hf-hub:", "hf_hub:", "local-dir:")  # of timm's names


@dataclass(frozen=True)
class Maker:
    """Makes a model with random weights, or with those that it was published with.

    With random weights of so many classes, None for its own number, and (timm's) for images of so many pixels a side.
    """

    random: Callable[..., nn.Module]
    pretrained: Callable[[], nn.Module]
    transform: Callable[[], Transform | None] = lambda: None
    """That of its images, where the model itself doesn't carry it."""
    address: str | None = HUB
    """Where they are published; None is in a folder."""
    at_once: bool = False
    """Whether its weights are at hand, or need a file before it can be made at all, so that it needn't be tried without them."""


def maker_of(name: str) -> Maker:
    """Who makes the model of this name. Raises InputError for a name that no one knows, with near ones."""
    if name.startswith(SCHEMES) or timm.is_model(name.split(".")[0]):
        return _timm(name)
    if name in torchvision.models.list_models() and name.startswith("vit_"):
        return _torchvision(name)
    if os.path.isdir(name):
        return _timm(f"local-dir:{name}") if "architecture" in _config_of(Path(name)) else _transformers(name)
    if "/" in name:
        return _transformers(name)
    known = [*timm.list_models(), *(n for n in torchvision.models.list_models() if n.startswith("vit_"))]
    near = difflib.get_close_matches(name.split(".")[0], known, n=3)
    hint = f"near names: {', '.join(near)}" if near else "see timm.list_models()"
    raise InputError(
        f"timm {timm.__version__} has no model {name!r}, and neither has torchvision; {hint}; expected one of theirs, "
        "'hf-hub:OWNER/NAME', OWNER/NAME of transformers, or a folder with a model of timm's or transformers'"
    )


def _config_of(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise InputError(
            f"{folder} holds no config.json that can be read; expected a model that timm or transformers saved"
        )
    return config


def _timm(name: str) -> Maker:
    def make(classes: int | None = None, size: int | None = None, pretrained: bool = False) -> nn.Module:
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        sizes: dict[str, Any] = {} if classes is None else {"num_classes": classes}
        if size is None:
            return timm.create_model(name, pretrained=pretrained, **sizes)
        model: Any = timm.create_model(name, pretrained=pretrained, img_size=size, **sizes)
        model.pretrained_cfg = {
            **model.pretrained_cfg,
            "input_size": (model.pretrained_cfg["input_size"][0], size, size),
        }
        return model

    address = None if name.startswith("local-dir:") else HUB
    return Maker(make, lambda: make(pretrained=True), address=address, at_once=name.startswith(SCHEMES))


def _torchvision(name: str) -> Maker:
    weights: Any = torchvision.models.get_model_weights(name).DEFAULT
    size = weights.transforms().crop_size[0]

    def make(classes: int | None = None) -> nn.Module:
        sizes = {} if classes is None else {"num_classes": classes}
        return torchvision.models.get_model(name, weights=None, image_size=size, **sizes)

    def transform() -> Transform:
        steps = weights.transforms()
        return lambda image: steps(image.convert("RGB"))

    return Maker(make, lambda: torchvision.models.get_model(name, weights=weights), transform, TORCHVISION)


def _transformers(name: str) -> Maker:
    try:
        import transformers
    except ImportError:
        how = 'pip install "neuronpath[transformers]"'
        raise InputError(f"{name} is a name of transformers, which isn't installed; expected {how}") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    def kind(config: Any) -> Any:
        classifies = any(each.endswith("ForImageClassification") for each in config.architectures or ())
        return transformers.AutoModelForImageClassification if classifies else transformers.AutoModel

    def random(classes: int | None) -> nn.Module:
        config = transformers.AutoConfig.from_pretrained(name, **({} if classes is None else {"num_labels": classes}))
        return kind(config).from_config(config)

    def pretrained() -> nn.Module:
        maker = kind(transformers.AutoConfig.from_pretrained(name))
        model, report = maker.from_pretrained(name, output_loading_info=True)
        if missing := sorted(report["missing_keys"]):
            raise InputError(f"the weights of {name} lack {missing[0]}; expected all of {type(model).__name__}'s")
        return model

    def transform() -> Transform | None:
        try:
            processor: Any = transformers.AutoImageProcessor.from_pretrained(name)
        except (OSError, ValueError):  # it says nothing of its images
            return None

        def apply(image: Image.Image) -> torch.Tensor:
            return processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]

        return apply

    return Maker(random, pretrained, transform, None if os.path.isdir(name) else HUB, at_once=True)
