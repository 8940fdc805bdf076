"""The transform that a model was trained with, for any image."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn

from ..checks import InputTypeError
from .adapters import inside
from .view import inner_of, unwrapped

Transform = Callable[[Image.Image], Tensor]
_KNOWN: WeakKeyDictionary[nn.Module, Transform] = WeakKeyDictionary()


def remember_transform(model: nn.Module, transform: Transform) -> None:
    """Note the transform of a model that doesn't carry its own."""
    _KNOWN[model] = transform


def transform_of(model: nn.Module) -> Transform:
    """The model's own evaluation transform (timm's data config: size, crop, interpolation, mean and std), for any image.

    Of a model of torchvision or transformers that :func:`~neuronpath.load_model` made that of its weights, or of its folder.

    Raises InputTypeError for any other that isn't timm's: they don't carry their transform with them, and one that holds a timm
    model may do a part of it by itself.
    """
    model = inside(unwrapped(model))
    if model in _KNOWN:
        return _KNOWN[model]
    if (inner := inner_of(model)) is not model:
        raise InputTypeError(
            f"{type(model).__name__} doesn't say how its images are transformed, only the {type(inner).__name__} in it does; expected "
            "images that you have transformed, or that model, where the one around it doesn't touch the images"
        )
    if not any(cls.__module__.startswith("timm.") for cls in type(model).__mro__):
        raise InputTypeError(
            f"{type(model).__name__} doesn't say how its images are transformed; expected a timm model, one of load_model, or "
            "images that you have transformed (torchvision: weights.transforms(); transformers: AutoImageProcessor)"
        )
    config = data_config(model)
    transform = create_transform(**config, is_training=False)
    mode = "L" if config["input_size"][0] == 1 else "RGB"
    return lambda image: transform(image.convert(mode))


def data_config(model: nn.Module) -> dict[str, Any]:
    """What timm says of the images of one of its models: input_size (C, H, W), mean and std, a number a channel, and more."""
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
    return config
