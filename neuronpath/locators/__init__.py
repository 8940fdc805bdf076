"""The ways to find a path, in one registry, and the one door to them: :func:`find_path`."""

from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from tqdm import tqdm
from tqdm.auto import tqdm as fitting_tqdm

from ..data import class_namer
from ..errors import InputError
from ..hooks import at_rest
from ..influence import Influence, Quadrature, at_neurons, images_at_once, influence_of, rows_at_once
from ..paths import NeuronPaths, concat
from ..runs import CleanRun, clean_runs
from ..vit import ViT, view
from . import joint  # noqa: F401  (registers its method)
from .registry import Search, list_methods, method_named, register_method

__all__ = ["Search", "find_path", "list_methods", "register_method"]

PAPER = {"quadrature": "riemann_left", "n_steps": 20}


def find_path(
    model: nn.Module,
    images: Tensor,
    target: int | Sequence[int] | Tensor | np.ndarray | None = None,
    *,
    method: str = "joint",
    preset: str | None = None,
    top_k: int = 1,
    output: str = "prob",
    quadrature: str | None = None,
    n_steps: int | None = None,
    internal_batch_size: int | None = None,
    names: Sequence[str] | None = None,
    progress: bool | tqdm = False,
) -> NeuronPaths:
    """The neuron path of every image: which neuron of each block, from input to output, carries the decision.

    Args:
        model: a vision transformer of a known family (timm ``VisionTransformer``). It is used as it is and left exactly as it was;
            in train mode it is run in eval mode and put back.
        images: (B, C, H, W), floating point, transformed as the model wants it. They are moved to the model's device.
        target: the class whose decision is explained: None for the predicted class, an int, or one an image (B,).
        method: how to locate; see :func:`list_methods`.
        preset: "paper" is the published algorithm to the letter (whole blocks scaled, 20 left Riemann steps); None is the
            default: candidates anchored at their clean values, Gauss-Legendre.
        top_k: neurons a block.
        output: "prob" or "logit", the output F that is explained.
        quadrature: the rule for the integral, by captum's names; None is "gausslegendre" (or the preset's).
        n_steps: its nodes; None locates with few and gives the final figures as many as they need for |delta| <= 1e-3
            of |F(1) - F(0)| (or the preset's).
        internal_batch_size: rows (an image at a node) run at once. It bounds the memory and doesn't change the result.
        names: B names for the images; None numbers them.
        progress: True shows a bar; a tqdm bar of your own is moved on by one an image.

    Raises:
        InputError: (a ValueError, for wrong kinds of things also a TypeError) in one line, for anything that can't be used.

    Source: "Discovering Influential Neuron Path in Vision Transformers" (ICLR 2025), section 3 and algorithm 1.

    >>> import neuronpath as nph
    >>> model, images, labels = nph.demo.load()
    >>> nph.find_path(model, images[:4])
    NeuronPaths(4 images, 8 blocks, 1 neurons a block, method='joint')
    """
    vit = view(model)
    locate = method_named(method)
    if preset not in (None, "paper"):
        raise InputError(f"preset {preset!r} is unknown; expected 'paper' or None")
    chosen: dict[str, Any] = PAPER if preset else {"quadrature": "gausslegendre", "n_steps": None}
    rule = Quadrature(quadrature or chosen["quadrature"], chosen["n_steps"] if n_steps is None else n_steps)
    search = Search(rule, _top_k(top_k, vit), rows_at_once(vit, internal_batch_size), anchor=preset is None)
    settings = {
        "method": method,
        "preset": preset,
        "top_k": search.top_k,
        "output": output,
        "token": vit.token,
        "quadrature": rule.method,
        "n_steps": rule.n_steps,
        "model": _architecture(model),
        "widths": vit.widths,
        "versions": {"neuronpath": version("neuronpath"), "timm": timm.__version__, "torch": str(torch.__version__)},
    }
    parts: list[NeuronPaths] = []
    bar: tqdm = progress if isinstance(progress, tqdm) else fitting_tqdm(total=len(images), unit="image", disable=not progress)
    with at_rest(model), nullcontext() if bar is progress else bar:
        for run in clean_runs(vit, images, target, output, images_at_once(search.at_once, rule)):
            neurons = locate(run, search)
            influence = influence_of(run, neurons, rule, search.at_once)
            parts.append(_as_paths(run, neurons, influence, settings, sum(map(len, parts))))
            bar.update(len(neurons))
    paths = concat(parts)
    return paths if names is None else paths.renamed(names)


def _as_paths(
    run: CleanRun, neurons: Tensor, influence: Influence, settings: dict[str, Any], first: int
) -> NeuronPaths:
    probabilities = run.logits.float().softmax(-1)
    best = probabilities.max(-1)
    values = [at_neurons(hidden, neurons[:, block]).float().mean(1) for block, hidden in enumerate(run.hidden)]
    name_of = class_namer(run.vit.model)
    classes = sorted(set(run.target.tolist() + best.indices.tolist()))
    return NeuronPaths(
        neurons=neurons.cpu(),
        activations=torch.stack(values, 1).cpu(),
        attribution=influence.attribution,
        score=influence.score,
        output_change=influence.output_change,
        delta=influence.delta,
        target=run.target.cpu(),
        probability=probabilities.gather(1, run.target[:, None])[:, 0].cpu(),
        predicted=best.indices.cpu(),
        predicted_probability=best.values.cpu(),
        names=tuple(str(first + i) for i in range(len(neurons))),
        settings=settings,
        class_names={label: name for label in classes if (name := name_of(label)) is not None},
    )


def _top_k(top_k: int, vit: ViT) -> int:
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= min(vit.widths):
        raise InputError(
            f"top_k is {top_k!r}; expected a whole number from 1 to {min(vit.widths)}, the neurons of a block"
        )
    return top_k


def _architecture(model: nn.Module) -> str:
    config = getattr(model, "pretrained_cfg", None) or {}
    return str(config.get("architecture") or type(model).__name__)
