"""Images as a caller gives them."""

import torch
from torch import Tensor

from ..checks import InputError, InputTypeError, odd_tensor


def check_images(images: Tensor, name: str = "images") -> None:
    """Refuse what is no batch of images (B, C, H, W)."""
    if not isinstance(images, Tensor):
        raise InputTypeError(f"{name} is a {type(images).__name__}; expected a tensor of shape (B, C, H, W)")
    if odd := odd_tensor(images):
        raise InputTypeError(f"{name} is {odd}; expected an ordinary tensor of shape (B, C, H, W)")
    if not images.is_floating_point():
        raise InputTypeError(
            f"{name} has dtype {images.dtype}; expected floating point, transformed as the model wants it"
        )
    if images.ndim != 4:
        raise InputError(f"{name} has shape {tuple(images.shape)}; expected (B, C, H, W)")
    if not len(images):
        raise InputError(f"{name} is an empty batch; expected at least one image")
    if not images.numel():
        raise InputError(f"{name} has shape {tuple(images.shape)}; expected images with pixels")
    for index, image in enumerate(images):
        if not torch.isfinite(image).all():
            raise InputError(f"image {index} of the batch holds NaN or infinity; expected finite pixels")
