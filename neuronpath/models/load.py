"""A model by name: timm's, with timm's weights or one's own, or the embedded one."""

import difflib
import logging
import os
from typing import Any

import timm
import torch
from timm.models import load_state_dict
from torch import nn

from .. import demo
from ..checks import InputError, checked, odd_tensor
from ..files import not_readable
from .view import view


@checked
def load_model(
    name: str, pretrained: bool = True, checkpoint: str | os.PathLike | None = None, device: str = "auto"
) -> nn.Module:
    """The model ``name`` in eval mode on ``device`` ("auto", "cpu", "cuda", "cuda:1", ...).

    ``name`` is timm's, or "demo" for the embedded model. ``checkpoint`` (safetensors, or a file that torch.load reads with
    weights_only=True) takes the place of timm's weights; the number of classes is read from it.

    Raises InputError, in one line, for a name that timm lacks, a model that is no ViT, weights that can't be had or don't fit.
    """
    place = find_device(device)
    if name == demo.NAME:
        if checkpoint is not None:
            raise InputError(f"--checkpoint {checkpoint} goes with a timm model; name it with --model")
        return demo.load()[0].to(place)
    if not timm.is_model(name.split(".")[0]):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
        hint = f"near names: {', '.join(near)}" if near else "see timm.list_models()"
        raise InputError(f"timm {timm.__version__} has no model {name!r}; {hint}")
    weights = None if checkpoint is None else read_checkpoint(checkpoint)
    classes = {} if weights is None else _classes(weights)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # so that random weights are the same ones every time
            model = timm.create_model(name, pretrained=False, **classes)
    except RuntimeError as error:
        tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{name.split('.')[0]}.*")]
        known = f"one of {', '.join(tags)}" if tags else "another model"
        raise InputError(f"{name} can't be made ({error}); expected no tag, or {known}") from None
    view(model)  # before any download: is it a ViT at all?
    if weights is not None:
        fit(model, weights, checkpoint)
    elif pretrained:
        model = _pretrained(name)
    return model.eval().to(place)


def find_device(device: str) -> torch.device:
    """ "auto" is CUDA where there is one. Raises InputError for a device that isn't there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.zeros(1, device=place).cpu()  # on "meta" there is nothing to bring back
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise InputError(f"device {device!r} isn't there; expected auto or one of {', '.join(there)}") from None
    return place


def read_checkpoint(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """The weights in a file, by timm's rules (safetensors; else torch.load with weights_only=True; EMA and wrappers unpacked)."""
    if reason := not_readable(path, "a file of weights"):
        raise InputError(f"checkpoint {reason}")
    try:
        weights = load_state_dict(str(path), device="cpu", weights_only=True)
        if not weights or not all(isinstance(value, torch.Tensor) for value in weights.values()):
            raise TypeError("no weights")
        for key, value in weights.items():
            if odd := odd_tensor(value) or (f"a tensor of {value.dtype}" if value.is_complex() else None):
                raise InputError(f"checkpoint {path} holds {key}, which is {odd}; expected ordinary tensors")
    except InputError:
        raise
    except (
        Exception
    ) as error:  # a damaged file can raise nearly anything on its way through zip, pickle and safetensors
        raise InputError(
            f"checkpoint {path} can't be read ({type(error).__name__}); "
            "expected safetensors, or weights that torch.load reads with weights_only=True"
        ) from None
    return weights


def fit(model: nn.Module, weights: dict[str, torch.Tensor], path: object) -> None:
    """Load weights whose names and shapes must all match."""
    own = model.state_dict()
    problems = [f"{key} is missing" for key in own if key not in weights]
    problems += [f"{key} is not the model's" for key in weights if key not in own]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    problems += [
        f"{key} holds {weights[key].dtype} for {own[key].dtype}"
        for key in own
        if key in weights and weights[key].is_floating_point() != own[key].is_floating_point()
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise InputError(f"checkpoint {path} doesn't fit {type(model).__name__}: {'; '.join(problems[:3])}{more}")
    model.load_state_dict(weights)


def _classes(weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The head's size as the file has it; nothing where that is no head, and the weights won't fit."""
    head = weights.get("head.weight")
    if head is None or head.ndim != 2 or head.untyped_storage().nbytes() < head.numel() * head.element_size():
        return {}  # in the last case one row of the file is a thousand million rows
    return {"num_classes": len(head)}


def _pretrained(name: str) -> nn.Module:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's client raises its own, requests', httpx' and the system's errors
        reason = (str(error).splitlines() or [""])[0][:120]
        raise InputError(
            f"the pretrained weights of {name} can't be had ({type(error).__name__}: {reason}); "
            "pass --checkpoint FILE, or --no-pretrained for random weights"
        ) from None
