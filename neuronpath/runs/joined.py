"""One clean run of many images, put together from the runs of as many as memory holds at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..models.vit import Extra
from .clean import CleanRun


def joined(runs: Iterable[CleanRun]) -> CleanRun:
    """All images of these runs as one, for gated runs alone: the sites' values, which take most of the memory, are left out."""
    parts = [replace(run, channels=[], hidden=[], live_gradients=[]) for run in runs]
    first = parts[0]
    target = None if first.target is None else torch.cat([run.target for run in parts if run.target is not None])
    extras = [_extra([run.extras[block] for run in parts], len(first.answer)) for block in range(len(first.extras))]
    return replace(
        first,
        target=target,
        extras=extras,
        pixels=torch.cat([run.pixels for run in parts]),
        answer=torch.cat([run.answer for run in parts]),
        entering=torch.cat([run.entering for run in parts]),
        middle=torch.cat([run.middle for run in parts]),
        others=torch.cat([run.others for run in parts]),
    )


def _extra(extras: Sequence[Extra], n_images: int) -> Extra:
    """What the blocks were called with, of all images; ``n_images`` are the first run's (see :meth:`CleanRun.extra`)."""
    names = extras[0].kwargs
    return Extra(
        _of_all([extra.args for extra in extras], n_images),
        {name: _of_all([extra.kwargs[name] for extra in extras], n_images) for name in names},
    )


def _of_all(values: Sequence[Any], n_images: int) -> Any:
    first = values[0]
    if isinstance(first, Tensor) and first.ndim == 4 and len(first) == n_images:
        return torch.cat(list(values))
    return tuple(_of_all(each, n_images) for each in zip(*values, strict=True)) if isinstance(first, tuple) else first
