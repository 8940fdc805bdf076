"""neuronpath: which neurons, block by block, carry a vision transformer's decision."""

from . import demo, plots
from .activations import activation_maps, most_active
from .classes import ClassPath, class_path, cluster, consensus, frequency, similarity, stability
from .comparison import find_paths
from .data import load_images
from .errors import InputError, InputTypeError
from .evaluation import evaluate
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
from .report import report
from .vit import Halves, ViT, register_vit, view

__all__ = [
    "ClassPath",
    "Halves",
    "Influence",
    "InputError",
    "InputTypeError",
    "NeuronPaths",
    "ViT",
    "activation_maps",
    "class_path",
    "cluster",
    "concat",
    "consensus",
    "demo",
    "enhance",
    "evaluate",
    "find_path",
    "find_paths",
    "frequency",
    "importance",
    "joint_influence",
    "keep",
    "list_methods",
    "load_images",
    "load_model",
    "load_pruned",
    "mask",
    "mean_activations",
    "most_active",
    "plot_path",
    "plots",
    "prune",
    "recover",
    "register_method",
    "register_vit",
    "remove",
    "report",
    "save_pruned",
    "set_to",
    "similarity",
    "stability",
    "view",
]
