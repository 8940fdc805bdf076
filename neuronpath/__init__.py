"""neuronpath: which neurons, block by block, carry a vision transformer's decision."""

from . import demo
from .data import load_images
from .errors import InputError, InputTypeError
from .importances import importance
from .influence import Influence, joint_influence
from .intervention import enhance, keep, mean_activations, remove, set_to
from .locators import find_path, list_methods, register_method
from .models import load_model
from .paths import NeuronPaths, concat
from .plots import plot_path
from .pruned_files import load_pruned, save_pruned
from .pruning import mask, prune
from .recovery import recover
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
    "enhance",
    "find_path",
    "importance",
    "joint_influence",
    "keep",
    "list_methods",
    "load_images",
    "load_model",
    "load_pruned",
    "mask",
    "mean_activations",
    "plot_path",
    "prune",
    "recover",
    "register_method",
    "register_vit",
    "remove",
    "save_pruned",
    "set_to",
    "view",
]
