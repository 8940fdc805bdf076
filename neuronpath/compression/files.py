"""A smaller model as one file: safetensors with its architecture's name, arguments and widths, enough to build it again from, and what
its images and classes are.

Weights that several layers share are in it once. The file is read without the original model, and nothing in it is executed: weights
are safetensors, the rest is JSON.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from .. import demo
from ..checks import InputError, checked, fits, printable, shown, words
from ..files import check_readable, check_writable, write_whole
from ..models.adapters import is_adapter, merged
from ..models.checkpoint import fit
from ..models.hooks import at_rest
from ..models.outputs import run_model
from ..models.transform import transform_of
from ..models.view import unwrapped, view
from ..options import Units
from .cut import part_of
from .structure import described, restructure, weights_once

FORMAT = "neuronpath.pruned"
LARGEST = 1000  # times what a file holds: as large may a model have been before it was cut
VERSIONS = ("1", "2", "3")  # read; the last is written. 1 knew no heads, 2 no parts and ties
NOT_SHAPE = {
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint_path",
    "cache_dir",
}  # reach for files
DATA: dict[str, tuple[Any, float, float]] = {
    "input_size": (Sequence[int], 1, 10_000),
    "mean": (Sequence[float], -1e6, 1e6),
    "std": (Sequence[float], 1e-6, 1e6),
    "interpolation": (str, 0, 0),
    "crop_pct": (float, 0.05, 2),
    "crop_mode": (str, 0, 0),
    "label_names": (Sequence[str], 0, 0),
}  # what timm's pretrained_cfg says of images and classes, by tag and not by architecture: kinds, and numbers' bounds


@checked
def save_compressed(
    model: nn.Module, path: str | os.PathLike, arguments: Mapping[str, Any] | None = None, overwrite: bool = False
) -> Path:
    """Write a timm model (or the demo's), whole or not at all; refuses an existing file unless ``overwrite``.

    Args:
        model: a model that timm.create_model made, pruned, low-rank, recursive, all of it or nothing. LoRA of peft is merged into what
            is written; what :func:`merge_` added up isn't written.
        path: the file, by custom .safetensors.
        arguments: what create_model was given beside the name, the number of classes and the images' size (global_pool, depth, ...), as
            JSON has it.

    Raises:
        InputError: for a model that can't be built again from its name and arguments; that is tried before anything is written.
    """
    check_writable(path, overwrite)
    model = unwrapped(model)
    if any(map(is_adapter, model.modules())):
        model = merged(model)
    vit = view(model)
    name = str((getattr(model, "pretrained_cfg", None) or {}).get("architecture"))
    if name != demo.ARCHITECTURE and not timm.is_model(name):
        raise InputError(
            f"{type(model).__name__} carries no name that timm knows; expected a model of timm.create_model "
            "(others: save their state_dict, and make them smaller again to load it)"
        )
    given = {} if name == demo.ARCHITECTURE else {"num_classes": model.num_classes}
    arguments = {**given, **(arguments or {})}
    arguments |= _image_size(model, name, arguments)
    about = {
        "architecture": name,
        "arguments": arguments,
        "widths": vit.widths,
        "heads": _heads(model),
        "data": _data_of(model),
        **described(model),
    }
    weights = weights_once(model, about["same"])
    try:
        text = json.dumps(about)
    except TypeError as error:
        raise InputError(
            f"arguments, or pretrained_cfg, can't be written as JSON ({error}); expected numbers, strings, lists"
        ) from None
    try:
        again = _build(json.loads(text), weights, f"the file for {name}")
    except InputError:
        raise
    except Exception as error:  # whatever arguments of no sense do in timm
        raise InputError(
            f"{name} can't be built again ({type(error).__name__}: {error}); expected arguments= as create_model was given them"
        ) from None
    _check_same(model, again, name)
    metadata = {"format": FORMAT, "version": VERSIONS[-1], "about": text, "digest": _digest(text, weights)}

    def write(part: Path) -> None:
        try:
            save_file(weights, part, metadata)
        except SafetensorError as error:  # what it makes of the system's errors, such as a full disk
            raise OSError(str(error)) from None

    return write_whole(path, write, overwrite)


@checked
def load_compressed(path: str | os.PathLike) -> nn.Module:
    """The model that :func:`save_compressed` wrote, in eval mode on the CPU; raises InputError for a damaged or newer file."""
    path = check_readable(path, "a file that save_compressed wrote")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from None
    except SafetensorError:
        raise InputError(f"{path} is damaged or no safetensors; expected a file that save_compressed wrote") from None
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path} holds no model; expected a file that save_compressed wrote")
    if metadata.get("version") not in VERSIONS:
        raise InputError(
            f"{path} is of version {metadata.get('version')!r}; this neuronpath reads versions {VERSIONS[0]} to {VERSIONS[-1]}"
        )
    text = metadata.get("about", "")
    if metadata.get("digest") != _digest(text, weights):
        raise InputError(f"{path} is damaged: its contents have changed since they were written")
    try:
        about = json.loads(text)
        _check_sizes(about, weights, path)
        model = _build(about, weights, path)
        transform_of(model)  # can be made of what the file says
        return model
    except Exception as error:  # whatever arguments of no sense, in a file forged, do in timm
        if isinstance(error, InputError) and str(error).startswith(printable(path)):
            raise
        raise InputError(
            f"{path} can't be built by timm {timm.__version__} ({type(error).__name__}: {error})"
        ) from None


def _check_sizes(about: dict[str, Any], weights: Mapping[str, Tensor], path: object) -> None:
    """Refuse an architecture out of all proportion to the file before memory is taken for it."""
    depth = about["arguments"].get("depth", 0)
    if not isinstance(depth, int) or depth > len(weights):
        raise InputError(f"{path} holds {len(weights)} tensors for a depth of {shown(depth)}; expected no more blocks")
    with torch.device("meta"):
        size = sum(value.numel() for value in _fresh(about, path).parameters())
    if size > LARGEST * (1 + sum(value.numel() for value in weights.values())):
        raise InputError(
            f"{path} is of a model with {size:,} weights, far more than it holds; expected what it was cut to"
        )


def _build(about: dict[str, Any], weights: dict[str, Tensor], path: object) -> nn.Module:
    """The architecture, as narrow as the file says, with the file's weights."""
    model = _fresh(about, path)
    config: Any = model.pretrained_cfg
    config.update(_checked_data(about.get("data", {}), path))
    names = {module: key for key, module in model.named_modules()}
    kinds: dict[Units, Any] = {"neurons": about["widths"], "heads": about.get("heads")}
    for units, widths in kinds.items():
        if widths is None:
            continue
        vit = view(model, None, units)
        if len(widths) != len(vit.widths) or not all(0 < n <= m for n, m in zip(widths, vit.widths, strict=True)):
            raise InputError(
                f"{path} has {units} {shown(widths)} for {about['architecture']} with {vit.widths}; expected as many blocks, none wider"
            )
        for site, width in enumerate(widths):
            if width == vit.widths[site]:
                continue
            part = part_of(vit, site)
            part.cut(torch.arange(width))
            if part.down.bias is None and f"{names[part.down]}.bias" in weights:  # compensation left one
                part.down.bias = nn.Parameter(torch.zeros(part.down.out_features))
    model.to(next(value.dtype for value in weights.values() if value.is_floating_point()))
    fit(model, restructure(model, about, weights, path), path)
    return model.eval()


def _fresh(about: dict[str, Any], path: object) -> nn.Module:
    """The architecture before any cut, with weights of no meaning."""
    name, arguments = about["architecture"], about["arguments"]
    if NOT_SHAPE & set(arguments):
        raise InputError(f"{path} names the arguments {sorted(NOT_SHAPE & set(arguments))}; expected none of them")
    if name == demo.ARCHITECTURE:
        return demo.create_model(**arguments)
    if not timm.is_model(name):
        raise InputError(f"{path} is of architecture {name!r}, which timm {timm.__version__} doesn't have")
    with torch.random.fork_rng(devices=[]):  # fresh weights, soon replaced, shall not move the caller's random numbers
        return timm.create_model(name, pretrained=False, **arguments)


def _image_size(model: nn.Module, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The argument for images of another size than the architecture's, where the model was made with it."""
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if size is None or "img_size" in arguments or name == demo.ARCHITECTURE:
        return {}
    try:
        with torch.device("meta"):
            plain: Any = _fresh({"architecture": name, "arguments": arguments}, name)
        usual = tuple(plain.patch_embed.img_size)
    except Exception:  # it is tried again, and told, when the file's model is built
        return {}
    return {} if usual == tuple(size) else {"img_size": list(size)}


def _data_of(model: nn.Module) -> dict[str, Any]:
    """What the model says of its images and classes, as far as it does."""
    config: Any = model.pretrained_cfg
    found = {name: config[name] for name in DATA if config.get(name)}
    if names := found.get("label_names"):
        found["label_names"] = [str(names[label]) for label in range(len(names))]
    return found


def _checked_data(data: dict[str, Any], path: object) -> dict[str, Any]:
    """The same as read from a file, lists as tuples; refuses what no transform could be made of, or one that would fill the memory."""
    for name, value in data.items():
        if name not in DATA:
            raise InputError(f"{path} says {shown(name)} of its images; expected one of {', '.join(DATA)}")
        kind, low, high = DATA[name]
        each = value if isinstance(value, list) else [value]
        right = fits(value, kind) and all(isinstance(one, str) or low <= one <= high for one in each)
        if not right or not each or (name == "input_size" and len(each) != 3):
            raise InputError(f"{path} has {shown(value)} for {name}; expected {words(kind)}, as timm has it")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


def _heads(model: nn.Module) -> list[int] | None:
    """How many heads every block has; None where they can't be reached."""
    try:
        return view(model, None, "heads").widths
    except InputError:
        return None


def _check_same(model: nn.Module, again: nn.Module, name: str) -> None:
    """Refuse to save what would be another model once loaded: weights don't show every argument."""
    like = next(model.parameters())
    config = resolve_model_data_config(model)
    size = getattr(getattr(model, "patch_embed", None), "img_size", None) or config["input_size"][1:]
    draw = torch.Generator().manual_seed(0)
    image = torch.randn(1, getattr(model, "in_chans", config["input_size"][0]), *size, generator=draw).to(like)
    with at_rest(model), at_rest(again.to(like.device)):
        expected, found = run_model(model, image), run_model(again, image)
    if expected.shape != found.shape or not torch.allclose(found.float(), expected.float(), rtol=1e-3, atol=1e-3):
        raise InputError(
            f"{name} built again gives other logits than the model; expected arguments= to hold all that create_model was given"
        )


save_pruned, load_pruned = save_compressed, load_compressed  # what they were called when models were pruned only


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A name for weights or images, made of their every bit."""
    return _digest("", {name: value.detach().cpu().contiguous() for name, value in tensors.items()})[:16]


def _digest(text: str, weights: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256(text.encode())
    for name, value in sorted(weights.items()):
        found.update(name.encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
