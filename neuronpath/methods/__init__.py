"""The ways to find a path, in one registry, and the one door to them: :func:`find_path`."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from tqdm.auto import tqdm as fitting_tqdm

from ..checks import InputError
from ..data.files import class_namer
from ..models.hooks import at_rest
from ..models.outputs import Output, likelihoods, output_name
from ..models.vit import view
from ..paths.neuron_paths import NeuronPaths, check_names, concat, versions
from ..runs.clean import CleanRun, check_images, clean_runs
from ..runs.influence import Influence, Quadrature, edited_output, influence_of, on_path
from . import activation, causal, conductance, influence_pattern, joint, knowledge, random  # noqa: F401  (they register)
from .progressive import locate_as_published, locate_progressive
from .registry import (
    EFFORTS,
    OBJECTIVES,
    Found,
    Method,
    Search,
    check_top_k,
    list_methods,
    method_named,
    register_method,
)

__all__ = ["Found", "Search", "find_path", "list_methods", "register_method"]

PAPER = Method(locate_as_published, "riemann_left")
PAPER_STEPS = 20
PROGRESSIVE = Method(locate_progressive, "gausslegendre")


def find_path(
    model: nn.Module,
    images: Tensor,
    target: int | Sequence[int] | Tensor | np.ndarray | None = None,
    *,
    method: str = "joint",
    objective: str = "joint",
    effort: str = "standard",
    locate: str | None = None,
    preset: str | None = None,
    top_k: int = 1,
    token: str = "auto",
    output: Output = "prob",
    quadrature: str | None = None,
    n_steps: int | None = None,
    precision: str | None = None,
    internal_batch_size: int | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    progress: bool | tqdm = False,
) -> NeuronPaths:
    """The neuron path of every image: which neuron of each block, from input to output, carries the decision.

    Args:
        model: a vision transformer of timm, torchvision or transformers, or of a registered class; also inside ``torch.compile``,
            ``DataParallel`` or ``DistributedDataParallel``. It is used as it is and left exactly as it was; in train mode it
            is run in eval mode and put back.
        images: (B, C, H, W), floating point, transformed as the model wants it. They are moved to the model's device.
        target: the class whose decision is explained: None for the predicted class, an int, or one an image (B,).
        method: "joint" maximises the joint attribution score over the whole path; "causal" takes the neurons whose removal
            the output feels most. For comparison: "activation", "knowledge", "influence_pattern", "conductance" and "random",
            each described where it is defined (``neuronpath/methods/``); :func:`list_methods` has them all.
        objective: what "joint" maximises: "joint", the joint attribution score, or "complete", the complete attribution.
        effort: "standard", or "thorough": "joint" refines several starts in place of one, "causal" refines its path.
        locate: "progressive" has "joint" choose block by block and not refine; None is the whole path at once.
        preset: "paper" is the published algorithm to the letter (block by block, whole blocks scaled, 20 left Riemann steps).
        top_k: neurons a block.
        token: the tokens on which neurons are read: "auto" is what the head pools; "cls", "patch" or "all".
        output: the output F that is explained: "prob", "logit", "sigmoid" (of heads with several labels), or a function of
            (the model's output (R, ...), target (R,)) that gives (R,), as for a model without a head (there target may be None).
        quadrature: the rule for the integral, by captum's names ("gausslegendre", "riemann_left", ...) or "gaussradau"; None
            is the method's own.
        n_steps: its nodes; None locates with few and gives the final figures as many as they need for |delta| <= 1e-3
            of |F(1) - F(0)|.
        precision: "bf16" runs the model in bfloat16 and accumulates in float32; None runs it as it is.
        internal_batch_size: rows (an image at a node) run at once; None fits them to the memory. It doesn't change the result.
        seed: of method "random".
        names: B names for the images; None numbers them.
        progress: True shows a bar; a tqdm bar of your own is moved on by one an image.

    Raises:
        InputError: (a ValueError, for wrong kinds of things also a TypeError) in one line, for anything that can't be used.

    Source: "Discovering Influential Neuron Path in Vision Transformers" (ICLR 2025), section 3 and algorithm 1.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load()
        >>> nph.find_path(model, images[:4])
        NeuronPaths(4 images, 8 blocks, 1 neurons a block, method='joint')
    """
    vit = view(model, token)
    way = method_named(method)
    check_images(images)
    if names is not None:
        check_names(names, len(images))
    one_of("objective", objective, OBJECTIVES)
    one_of("effort", effort, EFFORTS)
    one_of("locate", locate, (None, "progressive"))
    one_of("preset", preset, (None, "paper"))
    one_of("precision", precision, (None, "fp32", "bf16"))
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise InputError(f"seed is {seed!r}; expected a whole number")
    if method != "joint" and (locate or preset or objective != "joint"):
        raise InputError(
            f"locate, preset and objective are choices of method 'joint'; expected none of them with {method!r}"
        )
    if effort != "standard" and method not in ("joint", "causal"):
        raise InputError(
            f"effort {effort!r} is a choice of methods 'joint' and 'causal'; expected 'standard' with {method!r}"
        )
    if (locate or preset) and objective != "joint":
        raise InputError(
            f"objective {objective!r} is sought over the whole path; expected neither locate nor preset with it"
        )
    if preset == "paper":
        way, n_steps = PAPER, PAPER_STEPS if n_steps is None else n_steps
    elif locate == "progressive":
        way = PROGRESSIVE
    rule = Quadrature(quadrature or way.quadrature, n_steps)
    check_top_k(top_k, vit.widths)
    search = Search(rule, top_k, objective, effort, seed)
    settings = {
        "method": method,
        "objective": objective,
        "effort": effort,
        "locate": locate,
        "preset": preset,
        "top_k": search.top_k,
        "output": output_name(output),
        "token": vit.token,
        "quadrature": rule.method,
        "n_steps": rule.n_steps,
        "seed": seed,
        "precision": precision,
        "model": _architecture(vit.model),
        "widths": vit.widths,
        "fingerprint": vit.fingerprint,
        "versions": versions(),
    }
    parts: list[NeuronPaths] = []
    bar: tqdm = (
        progress if isinstance(progress, tqdm) else fitting_tqdm(total=len(images), unit="image", disable=not progress)
    )
    with at_rest(vit.model), nullcontext() if bar is progress else bar, in_precision(vit.model, precision):
        for run in clean_runs(vit, images, target, output, internal_batch_size, rule.fewest, way.live):
            found = way.locate(run, search)
            influence = influence_of(run, found.neurons, rule, found.gradients, found.n_steps)
            removal = run.value - edited_output(run, found.neurons, 0.0)
            parts.append(_as_paths(run, found, influence, removal, settings, sum(map(len, parts))))
            bar.update(len(found.neurons))
    paths = concat(parts)
    return paths if names is None else paths.renamed(names)


def _as_paths(
    run: CleanRun, found: Found, influence: Influence, removal: Tensor, settings: dict[str, Any], first: int
) -> NeuronPaths:
    neurons = found.neurons
    name_of = class_namer(run.vit.model)
    target, probability, predicted, predicted_probability = _decision(run)
    classes = sorted({*target.tolist(), *predicted.tolist()} - {-1})
    none = torch.zeros_like(run.images)
    return NeuronPaths(
        neurons=neurons.cpu(),
        activations=on_path(run.hidden, neurons).float().mean(2).cpu(),
        attribution=influence.attribution,
        score=influence.score,
        output_change=influence.output_change,
        delta=influence.delta,
        n_steps=influence.n_steps,
        removal=removal.float().cpu(),
        sweeps=(none if found.sweeps is None else found.sweeps).cpu(),
        converged=(none if found.converged is None else found.converged).bool().cpu(),
        target=target,
        probability=probability,
        predicted=predicted,
        predicted_probability=predicted_probability,
        names=tuple(str(first + i) for i in range(len(neurons))),
        settings=settings,
        class_names={label: name for label in classes if (name := name_of(label)) is not None},
    )


def _decision(run: CleanRun) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Target, its probability, the predicted class, its probability, each (B,); -1 and NaN where there are no classes."""
    unknown = torch.full_like(run.images, -1)
    target = unknown if run.target is None else run.target
    if not run.vit.has_head or run.answer.ndim != 2:
        return target.cpu(), (unknown * torch.nan).cpu(), unknown.cpu(), (unknown * torch.nan).cpu()
    # a function of the user's own says nothing of the head: probabilities are a softmax's
    shares = likelihoods(run.answer.float(), "sigmoid" if run.output == "sigmoid" else "prob")
    best = shares.max(-1)
    return target.cpu(), shares.gather(1, target[:, None])[:, 0].cpu(), best.indices.cpu(), best.values.cpu()


def one_of(argument: str, value: object, choices: Sequence[object]) -> None:
    if value not in choices:
        raise InputError(f"{argument} {value!r} is unknown; expected one of {', '.join(map(repr, choices))}")


def in_precision(model: nn.Module, precision: str | None) -> AbstractContextManager:
    """bfloat16 where the model runs, if asked for."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16)


def _architecture(model: nn.Module) -> str:
    config = getattr(model, "pretrained_cfg", None) or {}
    return str(config.get("architecture") or type(model).__name__)
