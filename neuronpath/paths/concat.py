"""Several results as one."""

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

import torch

from ..checks import InputError, InputTypeError, checked
from .neuron_paths import TENSORS, NeuronPaths
from .settings import Settings
from .tables import names_apart


@checked
def concat(parts: Iterable[NeuronPaths]) -> NeuronPaths:
    """The paths of all parts as one; they must come from one model and one method.

    Names are kept apart: those that are only numbers go on counting, and one that was there before gets " (2)".
    """
    parts = list(parts)
    if not parts:
        raise InputError("concat got no paths; expected at least one NeuronPaths")
    for part in parts:
        if not isinstance(part, NeuronPaths):
            raise InputTypeError(f"concat got a {type(part).__name__}; expected NeuronPaths")
        if part.units.shape[1:] != parts[0].units.shape[1:]:
            raise InputError(
                f"concat got paths of {tuple(parts[0].units.shape[1:])} and of {tuple(part.units.shape[1:])} "
                "sites and units a site; expected the same in all"
            )
        if part.settings != parts[0].settings:
            names = sorted(f.name for f in fields(Settings))
            differ = [name for name in names if getattr(part.settings, name) != getattr(parts[0].settings, name)]
            raise InputError(
                f"concat got paths made in different ways ({', '.join(differ)}); expected the same settings in all"
            )
    merged: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in TENSORS}
    return replace(
        parts[0],
        names=names_apart([part.names for part in parts]),
        class_names={label: name for part in parts for label, name in part.class_names.items()},
        **merged,
    )
