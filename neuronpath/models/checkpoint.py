"""Files of weights: whoever wrote them, under whichever names the model's own stand in them."""

import argparse
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from ..checks import InputError, odd_tensor
from ..files import not_readable

EXPECTED = "expected safetensors, or weights that torch.load reads with weights_only=True"
COMPILED = "_orig_mod."  # what torch.compile puts into names
AVERAGED = (
    "ema",
    "model_ema",
    "state_dict_ema",
    "ema_model",
)  # averages over training, which are taken before the weights themselves
NOT_WEIGHTS = ("optim", "lr_sched", "scaler", "scheduler", "callbacks", "loops")  # parts of training's own state


def read_checkpoint(path: str | os.PathLike) -> dict[str, Tensor]:
    """All tensors in a file, by their names there: safetensors, or what torch.load reads with weights_only=True.

    Dictionaries in dictionaries ("state_dict", "model", "teacher") become parts of the names.
    """
    if reason := not_readable(path, "a file of weights"):
        raise InputError(f"checkpoint {reason}")
    try:
        found = _read(path)
    except (
        Exception
    ) as error:  # a damaged file can raise nearly anything on its way through zip, pickle and safetensors
        why = f"{type(error).__name__}{_objects_in(path)}"
        raise InputError(f"checkpoint {path} can't be read ({why}); {EXPECTED}") from None
    for name, value in found.items():
        if odd := odd_tensor(value) or (f"a tensor of {value.dtype}" if value.is_complex() else None):
            raise InputError(f"checkpoint {path} holds {name}, which is {odd}; expected ordinary tensors")
    return found


def _read(path: str | os.PathLike) -> dict[str, Tensor]:
    if str(path).endswith(".safetensors"):
        held: Any = safetensors.torch.load_file(path)
    else:
        trusted = getattr(torch.serialization, "safe_globals", None)  # torch 2.5 and later
        with (
            trusted([argparse.Namespace]) if trusted else warnings.catch_warnings()
        ):  # timm's training notes its options in one
            held = torch.load(path, map_location="cpu", weights_only=True)
    found = dict(_tensors(held))
    if not found:
        raise TypeError("no weights")
    return found


def _tensors(held: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for key, value in held.items() if isinstance(held, Mapping) else ():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}".replace(COMPILED, ""), value
        elif not str(key).startswith(NOT_WEIGHTS):
            yield from _tensors(value, f"{prefix}{key}.")


def _objects_in(path: str | os.PathLike) -> str:
    """What a torch file holds beside tensors, that isn't read."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # no such file, or torch before 2.6
        return ""
    names = [name for name in names if name != "argparse.Namespace"]
    return f": it holds {', '.join(sorted(names)[:3])}, and save only model.state_dict()" if names else ""


def weights_for(model: nn.Module, held: Mapping[str, Tensor], path: object) -> dict[str, Tensor]:
    """Of a file's tensors the model's own weights, by the model's names: they may all stand behind a prefix ("model.", "module.").

    Where several prefixes serve alike the one of an average (EMA) is taken. A warning says so when others are left out.

    Raises InputError where several serve and none is an average.
    """
    own = model.state_dict().keys()
    serves: Counter[str] = Counter()
    for name in held:
        parts = name.split(".")
        starts = (".".join(parts[i:]) for i in range(len(parts)))
        serves.update(name.removesuffix(rest) for rest in starts if rest in own)
    most = max(serves.values(), default=0)
    alike = [prefix for prefix, count in serves.items() if count == most] or [""]
    chosen = [prefix for prefix in alike if set(prefix.split(".")) & set(AVERAGED)] if len(alike) > 1 else alike
    if len(chosen) != 1:
        names = ", ".join(repr(prefix.rstrip(".")) for prefix in (chosen or alike)[:5])
        raise InputError(f"checkpoint {path} holds {len(chosen or alike)} models that fit, {names}; expected one")
    prefix = chosen[0]
    found = {name.removeprefix(prefix): value for name, value in held.items() if name.startswith(prefix)}
    if rest := [name for name in held if not name.startswith(prefix)]:
        left = f"{len(rest)} others are left out: {', '.join(rest[:2])}{', ...' if len(rest) > 2 else ''}"
        warnings.warn(f"checkpoint {path}: the weights under {prefix.rstrip('.')!r} are taken, {left}", stacklevel=3)
    return found


def fit(model: nn.Module, weights: Mapping[str, Tensor], path: object) -> None:
    """Load weights whose names and shapes must all match."""
    own = model.state_dict()
    missing = [key for key in own if key not in weights]
    problems = [f"{key} is missing" for key in missing]
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
        only_head = len(missing) == len(problems) and all("head" in key or "classifier" in key for key in missing)
        hint = (
            "; a head of your own can't be made of a file: make the module in Python and pass that" if only_head else ""
        )
        raise InputError(f"checkpoint {path} doesn't fit {type(model).__name__}: {'; '.join(problems[:3])}{more}{hint}")
    model.load_state_dict(dict(weights))


def image_size_of(model: nn.Module, weights: Mapping[str, Tensor]) -> int | None:
    """The side of the images that the weights were trained on, by their position embedding, where it isn't the model's (of timm)."""
    own, held = getattr(model, "pos_embed", None), weights.get("pos_embed")
    patches: Any = getattr(model, "patch_embed", None)
    if own is None or held is None or held.ndim != 3 or own.shape[2:] != held.shape[2:] or held.shape == own.shape:
        return None
    many = held.shape[1] - (own.shape[1] - patches.num_patches)  # less the class token and others that stand before
    side = math.isqrt(max(0, many))
    return side * patches.patch_size[0] if side and side**2 == many else None


def classes_of(weights: Mapping[str, Tensor]) -> int | None:
    """How many classes the weights' head has; None where there is no head, or what is no head (the weights won't fit)."""
    heads = (weights.get(name) for name in ("head.weight", "heads.head.weight", "classifier.weight"))
    head = next((head for head in heads if head is not None), None)
    if head is None or head.ndim != 2 or head.untyped_storage().nbytes() < head.numel() * head.element_size():
        return None  # in the last case one row of the file is a thousand million rows
    return len(head)
