"""neuronpath: which neurons, block by block, carry a vision transformer's decision."""

from . import demo
from .data import load_images
from .errors import InputError, InputTypeError
from .influence import Influence, joint_influence
from .locators import find_path, list_methods, register_method
from .models import load_model
from .paths import NeuronPaths, concat
from .plots import plot_path
from .vit import Halves, ViT, register_vit, view

__all__ = [
    "Halves",
    "Influence",
    "InputError",
    "InputTypeError",
    "NeuronPaths",
    "ViT",
    "concat",
    "demo",
    "find_path",
    "joint_influence",
    "list_methods",
    "load_images",
    "load_model",
    "plot_path",
    "register_method",
    "register_vit",
    "view",
]
