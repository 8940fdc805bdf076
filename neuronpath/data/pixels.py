"""Images out: what the model sees, (C, H, W), back to pixels that a person can look at."""

import base64
import io

import numpy as np
from PIL import Image
from torch import Tensor, nn

from ..checks import printable
from ..models.adapters import inside
from ..models.transform import data_config
from ..models.view import unwrapped

SMALL = 64  # pixels: up to here a picture is kept as it is, lossless


def to_pixels(image: Tensor, model: nn.Module | None = None) -> np.ndarray:
    """An image (C, H, W) as the model sees it to uint8 pixels, (H, W) for grey and (H, W, 3) for colour.

    With a timm ``model`` its mean and standard deviation are undone; without, or where that leaves 0 to 1, the values are
    stretched to what can be shown. Channels other than 1 or 3 become their mean.
    """
    values = image.detach().float().cpu().permute(1, 2, 0).numpy()
    if values.shape[2] not in (1, 3):
        values, model = values.mean(2, keepdims=True), None
    restored = None if model is None else _restored(values, model)
    if restored is None:
        low, high = values.min(), values.max()
        restored = (values - low) / ((high - low) or 1)
    pixels = (restored.clip(0, 1) * 255).round().astype(np.uint8)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def normalisation_of(model: nn.Module) -> tuple[tuple[int, int, int], tuple[float, ...], tuple[float, ...]] | None:
    """The shape (C, H, W) of a timm model's images, and their mean and deviation, a number a channel; None of others."""
    model = inside(unwrapped(model))
    if not getattr(model, "pretrained_cfg", None):
        return None
    config = data_config(model)
    return config["input_size"], config["mean"], config["std"]


def _restored(values: np.ndarray, model: nn.Module) -> np.ndarray | None:
    """Values (H, W, C) before the model's own normalisation, or None where they don't come from there."""
    known = normalisation_of(model)
    if known is None:
        return None
    mean, deviation = np.asarray(known[1]), np.asarray(known[2])
    if values.shape[2] not in (mean.size, 1) or mean.size != deviation.size:
        return None
    if values.shape[2] < mean.size:
        mean, deviation = mean.mean(), deviation.mean()
    found = values * deviation + mean
    return found if found.min() > -0.05 and found.max() < 1.05 else None


def packed(pixels: np.ndarray, longest: int = 256) -> tuple[str, bytes]:
    """Pixels (H, W) or (H, W, 3), uint8, as a file: "png" up to 64 pixels, else "jpeg" of at most ``longest`` pixels a side."""
    picture = Image.fromarray(pixels)
    kind = "png" if max(picture.size) <= SMALL else "jpeg"
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, kind, optimize=True, quality=82)
    return kind, file.getvalue()


def data_uri(pixels: np.ndarray, longest: int = 256) -> str:
    """As :func:`packed`, as a data URI."""
    return as_uri(*packed(pixels, longest))


def as_uri(kind: str, content: bytes) -> str:
    """A picture's file as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def short_name(name: str, longest: int = 28) -> str:
    """A file's name without its folders, its middle left out where it is long."""
    return shortened(name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1], longest)


def shortened(text: str, longest: int) -> str:
    """A text fit to be shown, without its middle where it is long."""
    text = printable(text)
    return text if len(text) <= longest else f"{text[: longest - 9]}…{text[-8:]}"
