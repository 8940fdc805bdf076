"""A model by name: timm's, torchvision's or transformers', with its published weights or one's own, or the embedded one."""

import os
import sys
from contextlib import redirect_stdout
from io import StringIO

import timm
import torch
from torch import nn

from .. import demo
from ..checks import InputError, checked
from .adapters import inside
from .checkpoint import classes_of, fit, image_size_of, read_checkpoint, weights_for
from .class_names import head_size
from .makers import Maker, maker_of
from .network import connected
from .transform import remember_transform
from .view import view


@checked
def load_model(
    name: str, pretrained: bool = True, checkpoint: str | os.PathLike | None = None, device: str = "auto"
) -> nn.Module:
    """The model ``name`` in eval mode on ``device`` ("auto", "cpu", "cuda", "cuda:1", ...).

    Args:
        name: timm's ("vit_base_patch16_224", "hf-hub:timm/...", "local-dir:FOLDER"), torchvision's ("vit_b_16"), transformers'
            ("google/vit-base-patch16-224"), a folder in which timm or transformers saved a model, or "demo" for the embedded one.
        pretrained: take the weights that the name stands for; False draws random ones, the same every time.
        checkpoint: weights of one's own in their place: safetensors, or a file that torch.load reads with weights_only=True, such as
            Lightning's .ckpt or timm's checkpoints. The model's weights may stand under a prefix ("state_dict", "model.", "module.",
            "backbone.", "_orig_mod."); of a model and its average over training (EMA) the average is taken. The numbers of classes
            and, of timm's models, of pixels are read from it.
        device: "auto" is CUDA where there is one.

    Raises:
        InputError: in one line, for a name that no library has, a model that is no ViT, weights that can't be had or don't fit.
    """
    place = find_device(device)
    if name == demo.NAME:
        if checkpoint is not None:
            raise InputError(f"--checkpoint {checkpoint} goes with a model of your own; name it with --model")
        return demo.load()[0].to(place)
    maker = maker_of(name)
    held = None if checkpoint is None else read_checkpoint(checkpoint)
    with connected(maker.address if maker.at_once or (pretrained and held is None) else None) as there:
        if held is None and pretrained and maker.at_once:
            model = _pretrained(name, maker, there)
            view(model)
        else:
            model = _random(name, maker, there)
            view(model)  # before any download: is it a ViT at all?
            if held is not None:
                weights = weights_for(model, held, checkpoint)
                classes, size = classes_of(weights), image_size_of(inside(model), weights)
                if classes not in (None, head_size(model)) or size is not None:
                    model = _random(name, maker, there, classes, size)
                fit(model, weights, checkpoint)
            elif pretrained:
                model = _pretrained(name, maker, there)
        if transform := maker.transform():
            remember_transform(inside(model), transform)
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


def _random(name: str, maker: Maker, there: bool, classes: int | None = None, size: int | None = None) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # the same weights every time; torch.manual_seed would seed GPUs too
            return maker.random(classes) if size is None else maker.random(classes, size)
    except Exception as error:  # of the tag of a name, of a folder's files, of the hub
        raise InputError(f"{name} can't be made ({_reason(error, maker, there)}); {_tags_of(name)}") from None


def _pretrained(name: str, maker: Maker, there: bool) -> nn.Module:
    try:
        with redirect_stdout(sys.stderr if there else StringIO()):  # where torchvision tells of a download
            return maker.pretrained()
    except InputError:
        raise
    except Exception as error:  # the hub's client raises its own, requests', httpx' and the system's errors
        reason = _reason(error, maker, there)
        raise InputError(
            f"the pretrained weights of {name} can't be had ({type(error).__name__}: {reason}); "
            "pass --checkpoint FILE, or --no-pretrained for random weights"
        ) from None


def _reason(error: Exception, maker: Maker, there: bool) -> str:
    if not there:
        return f"{maker.address} can't be reached, and nothing of it is in the cache"
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def _tags_of(name: str) -> str:
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{name.split('.')[0]}.*")]
    return f"expected no tag, or one of {', '.join(tags)}" if tags else "expected another model"
