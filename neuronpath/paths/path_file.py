"""The file of :class:`NeuronPaths`: JSON, and what earlier versions of it lacked."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .documents import check_units, class_names_of, figures, texts, without_nan
from .settings import Settings

if TYPE_CHECKING:
    from .neuron_paths import NeuronPaths

FORMAT, VERSIONS = "neuronpath.paths", (1, 2, 3)  # the last is written
PER_UNIT = ("units", "activations", "attribution")
_WHOLE = ("units", "target", "predicted", "predicted_without", "n_steps", "sweeps")
_KINDS = {"converged": torch.bool} | dict.fromkeys(_WHOLE, torch.int64)
_MAYBE_NAN = ("probability", "predicted_probability", "score", "left", "random_left", "enhancement")
_UNKNOWN = {"left": None, "random_left": None, "enhancement": None, "predicted_without": -1}  # to versions before 3


def as_document(paths: "NeuronPaths") -> dict[str, Any]:
    """The paths as JSON has them."""
    columns = {name: getattr(paths, name).tolist() for name in _tensors(type(paths))}
    for name in _MAYBE_NAN:  # JSON has no NaN
        columns[name] = without_nan(columns[name])
    return {
        "format": FORMAT,
        "version": VERSIONS[-1],
        "settings": paths.settings.to_dict(),
        "class_names": {str(label): name for label, name in paths.class_names.items()},
        "paths": [
            {"name": name, **{column: values[i] for column, values in columns.items()}}
            for i, name in enumerate(paths.names)
        ],
    }


def from_document(cls: type["NeuronPaths"], document: dict[str, Any]) -> "NeuronPaths":
    """What :func:`as_document` gave, of any version; raises ValueError, TypeError or KeyError for anything else."""
    paths, settings = document["paths"], document["settings"]
    if document["version"] == 1:
        paths = [{**path, "units": path["neurons"]} for path in paths]
        settings = Settings.from_version_1(settings)
    else:
        settings = Settings.from_dict(settings)
    if document["version"] < VERSIONS[-1]:
        paths = [_UNKNOWN | path for path in paths]
    tensors = {
        name: figures(name, [path[name] for path in paths], _KINDS.get(name, torch.float32), name in _MAYBE_NAN)
        for name in _tensors(cls)
    }
    shape = tensors["units"].shape
    if len(shape) != 3 or any(tensors[n].shape != shape for n in PER_UNIT):
        raise ValueError("units, activations and attribution differ in shape")
    if settings.sites and len(settings.sites) != shape[1]:
        raise ValueError(f"{shape[1]} sites of units where the settings name {len(settings.sites)}")
    check_units(tensors["units"], settings.sites)
    if any(values.shape != shape[:1] for name, values in tensors.items() if name not in PER_UNIT):
        raise ValueError("a path lacks a number")
    return cls(
        **tensors,
        names=texts("name", [path["name"] for path in paths]),
        settings=settings,
        class_names=class_names_of(document),
    )


def _tensors(cls: type["NeuronPaths"]) -> list[str]:
    return [f.name for f in fields(cls) if f.type is Tensor]
