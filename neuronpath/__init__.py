"""neuronpath: which neurons, block by block, carry a vision transformer's decision."""

from . import demo, plots
from .checks import InputError, InputTypeError
from .compression.files import load_pruned, save_pruned
from .compression.importances import importance
from .compression.prune import mask, prune
from .compression.recover import recover
from .data.files import load_images
from .evaluation.classes import ClassPath, class_path, cluster, consensus, frequency, similarity, stability
from .evaluation.evaluate import evaluate
from .evaluation.interventions import enhance, keep, mean_activations, remove, set_to
from .features.activations import activation_maps, most_active
from .jobs.evaluate import find_paths
from .methods import find_path, list_methods, register_method
from .models.load import load_model
from .models.vit import Halves, ViT, register_vit, view
from .page.report import report
from .paths.neuron_paths import NeuronPaths, concat
from .plots import plot_path
from .runs.influence import Influence, joint_influence

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
