""":func:`find_path`: the arguments checked, the images run piece by piece, a method's units measured."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..checks import InputError, checked
from ..data.given import Images, Target, as_images, own_names
from ..models.class_names import Names, class_namer, numbered
from ..models.hooks import at_rest, in_precision
from ..models.outputs import Output, likelihoods, output_name
from ..models.view import NoHeads, view
from ..models.vit import ViT
from ..options import Baseline, Effort, MethodName, Objective, Precision, PresetName, Rule, Token, Units
from ..paths.concat import concat
from ..paths.neuron_paths import NeuronPaths, check_names, versions
from ..paths.settings import Settings
from ..runs.baselines import ablation, baseline_named
from ..runs.clean import CleanRun, clean_runs
from ..runs.gates import AblatedRun, ablated_run
from ..runs.influence import Influence, Quadrature, influence_of
from ..runs.live import live_influence_of
from ..runs.progress import bar_over
from ..units import on_path, units_named
from .presets import preset_named
from .random import locate_random
from .registry import Found, Search, check_top_k, method_named

DEFAULT = "live"


@checked
def find_path(
    model: nn.Module | ViT,
    images: Images,
    target: Target = None,
    *,
    units: Units | None = None,
    method: MethodName | None = None,
    objective: Objective | None = None,
    effort: Effort | None = None,
    preset: PresetName | None = None,
    top_k: int = 1,
    token: Token | None = None,
    baseline: Baseline | None = None,
    reference: Images | None = None,
    output: Output = "prob",
    quadrature: Rule | None = None,
    n_steps: int | None = None,
    precision: Precision | None = None,
    internal_batch_size: int | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    class_names: Sequence[str] | Mapping[int, str] | None = None,
    progress: bool | tqdm = False,
) -> NeuronPaths:
    """The path of every image: which head and which neuron of each block, from input to output, the decision hangs on.

    Args:
        model: a vision transformer of timm, torchvision or transformers, or of a registered class; also inside ``torch.compile``,
            ``DataParallel`` or ``DistributedDataParallel``. It is used as it is and left exactly as it was; in train mode it
            is run in eval mode and put back.
        images: (B, C, H, W), floating point, transformed as the model wants it; or a Dataset or DataLoader of such (of tuples the first
            counts), or a :class:`~neuronpath.Source`, read in order, as much at a time as is run. They are moved to the model's device.
        target: the class whose decision is explained: None for the predicted one, a class's number or name, one an image (B,), or
            "label": the labels that a Dataset, DataLoader or Source gives with its images.
        units: what a path is made of: "neurons", attention "heads", or "both", a head and a neuron in every block. None is what the
            method is made for: "both" for "live" (with a warning "neurons", where heads can't be reached), else "neurons".
        method: "live" (None) seeks the path whose joint ablation takes most, in attributions that sum to that; "joint" maximises
            the paper's joint attribution score over the whole path; "causal" takes the units whose removal the output feels most, to
            first order. For comparison: "activation", "knowledge", "influence_pattern", "conductance" and "random",
            each described where it is defined (``neuronpath/methods/``); :func:`list_methods` has them all.
        objective: what "joint" maximises: "joint", the joint attribution score, or "complete", the complete attribution. None is
            "joint", and "complete" for ``units="both"``: the score sums values, and those of heads and neurons differ in scale.
        effort: "standard" (None), or "thorough": "live" refines its path for longer, "joint" refines several starts in place of one.
        preset: a name for a choice of these: "paper" is the published algorithm to the letter (block by block, whole blocks scaled,
            20 left Riemann steps), "progressive" chooses block by block and doesn't refine; :func:`list_presets` has them all.
        top_k: units a site: neurons a block, or heads a block, or so many of each.
        token: the tokens on which units are read: "auto" (None) or "pooled" is what the model's head pools; "cls", "patch", or "all":
            every token, registers too, which is the default of "live".
        baseline: of "live": what units are ablated to: "zero"; "mean", position by position over ``reference``; "resample", the
            values on a reference image of another class; "paired", those on the reference image of the same number. None is "mean"
            where there is a reference, else "zero".
        reference: the images (R, C, H, W) for that, or a Dataset, DataLoader or Source of them.
        output: the output F that is explained: "prob", "logit", "sigmoid" (of heads with several labels), or a function of
            (the model's output (R, ...), target (R,)) that gives (R,), as for a model without a head (there target may be None).
        quadrature: the rule for the integral, by captum's names ("gausslegendre", "riemann_left", ...), "gaussradau" or
            "clenshawcurtis"; None is the method's own.
        n_steps: its nodes; None locates with few and gives the final figures as many as they need for |delta| <= 1e-3
            of |F(1) - F(0)|.
        precision: "bf16" runs the model in bfloat16 and accumulates in float32; None runs it as it is.
        internal_batch_size: rows (an image at a node) run at once; None fits them to the memory. It doesn't change the result.
        seed: of method "random", of the random path that is the control, and of "resample".
        names: B names for the images; None takes a Source's ids, and numbers others.
        class_names: a name for each class, or {class: name} for some; None are the model's own, or ImageNet's where it has as many.
        progress: True shows a bar; a tqdm bar of your own is moved on by one an image.

    Raises:
        InputError: (a ValueError, for wrong kinds of things also a TypeError) in one line, for anything that can't be used.

    Source: "Discovering Influential Neuron Path in Vision Transformers" (ICLR 2025), section 3 and algorithm 1.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load()
        >>> nph.find_path(model, images[:4])
        NeuronPaths(4 images, 8 blocks, 1 head and 1 neuron a block, method='live')
        >>> nph.find_path(model, images[:4], preset="paper").columns()["path"][0].split()[0]
        '232'
    """
    images = as_images(images, model)
    reference = as_images(reference, model, "reference")
    names = own_names(images) if names is None else names
    check_names(names, len(images))
    chosen = preset_named(preset)
    for name, value in (("method", method), ("objective", objective), ("effort", effort)):
        fixed = getattr(chosen, name)
        if fixed is not None and value not in (None, fixed):
            raise InputError(f"preset {preset!r} has {name} {fixed!r}; expected no other with it, not {value!r}")
    by_default = chosen.method is None and method is None
    method = chosen.method or (DEFAULT if method is None else method)
    effort = chosen.effort or effort or "standard"
    way = chosen.way or method_named(method)
    own = isinstance(model, ViT)  # a view says for itself what is read
    token = token or (None if own else way.token)
    if by_default and units is None and not own and (reason := heads_lack(model, token)):
        warnings.warn(f"{reason}: the path is of neurons alone", stacklevel=3)
        units = "neurons"
    vit = view(model, token, units or (None if own else way.units[0]))
    class_namer(vit.model, class_names)  # refuses names before the work, where it can
    target = numbered(target, vit.model, class_names)
    kinds = units_named(vit.places)
    if kinds not in way.units:
        raise InputError(
            f"{preset or method!r} finds paths of {' or '.join(way.units)}; expected units={way.units[0]!r}, not {kinds!r}"
        )
    objective = chosen.objective or _objective(objective, method, kinds)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise InputError(f"seed is {seed!r}; expected a whole number")
    if chosen.way is None and effort not in way.efforts:
        raise InputError(f"effort {effort!r} is none of method {method!r}; expected 'standard'")
    baseline = baseline_named(baseline, reference)
    if baseline != "zero" and not way.ablates:
        raise InputError(f"baseline is a choice of method 'live'; expected none with {method!r}")
    ablate = ablation(vit, baseline, reference, len(images), seed)
    rule = Quadrature(quadrature or way.quadrature, chosen.n_steps if n_steps is None else n_steps)
    check_top_k(top_k, vit.places)
    search = Search(rule, top_k, objective, effort, seed)
    settings = Settings(
        method=method,
        objective=objective,
        effort=effort,
        preset=preset,
        top_k=top_k,
        output=output_name(output),
        token=vit.token,
        baseline=baseline,
        influence="live" if way.ablates else "frozen",
        quadrature=rule.method,
        n_steps=rule.n_steps,
        seed=int(seed),
        precision=precision,
        model=architecture(vit.inner or vit.model),
        sites=tuple(vit.places),
        passes=tuple(vit.passes),
        fingerprint=vit.fingerprint,
        versions=versions(),
    )
    parts: list[NeuronPaths] = []
    with at_rest(vit.model), bar_over(progress, len(images)) as bar, in_precision(vit.model, precision):
        for run in clean_runs(vit, images, target, output, internal_batch_size, rule.fewest, way.live):
            first = sum(map(len, parts))
            search = replace(search, ablated=ablate(run, first))
            found = way.locate(run, search)
            control = locate_random(run, replace(search, seed=search.seed + 1)).units
            ablated = [
                ablated_run(run, units, factor, search.ablated)
                for units, factor in ((found.units, 0.0), (found.units, 2.0), (control, 0.0))
            ]
            if way.ablates:
                influence = live_influence_of(run, found.units, rule, search.ablated, ablated[0].value, found.clean)
            else:
                influence = influence_of(run, found.units, rule, found.gradients, found.n_steps)
            parts.append(_as_paths(run, found, influence, ablated, settings, first, namer_for(run, class_names)))
            bar.update(len(found.units))
    paths = concat(parts)
    return paths.renamed(names)


def _as_paths(
    run: CleanRun,
    found: Found,
    influence: Influence,
    ablated: Sequence[AblatedRun],
    settings: Settings,
    first: int,
    name_of: Callable[[int], str | None],
) -> NeuronPaths:
    without, twice, random = ablated
    none = torch.zeros_like(run.rows)
    target = torch.full_like(run.rows, -1) if run.target is None else run.target
    probability, predicted, predicted_probability = _decision(run, run.answer, target)
    left, predicted_without, _ = _decision(run, without.answer, target)
    classes = sorted({*target.tolist(), *predicted.tolist(), *predicted_without.tolist()} - {-1})
    return NeuronPaths(
        units=found.units.cpu(),
        activations=on_path(run.hidden, found.units).float().mean(2).cpu(),
        attribution=influence.attribution,
        score=influence.score,
        output_change=influence.output_change,
        delta=influence.delta,
        n_steps=influence.n_steps,
        removal=(run.value - without.value).float().cpu(),
        enhancement=(twice.value - run.value).float().cpu(),
        left=left,
        random_left=_decision(run, random.answer, target)[0],
        predicted_without=predicted_without,
        sweeps=(none if found.sweeps is None else found.sweeps).cpu(),
        converged=(none if found.converged is None else found.converged).bool().cpu(),
        target=target.cpu(),
        probability=probability,
        predicted=predicted,
        predicted_probability=predicted_probability,
        names=tuple(str(first + i) for i in range(len(found.units))),
        settings=settings,
        class_names={label: name for label in classes if (name := name_of(label)) is not None},
    )


def _decision(run: CleanRun, answer: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the model's output (B, ...): the target's probability, the class it says, and its probability, each (B,).

    NaN and -1 where there are no classes.
    """
    if not run.vit.has_head or answer.ndim != 2:
        unknown = torch.full_like(run.rows, -1).cpu()
        return unknown * torch.nan, unknown, unknown * torch.nan
    # a function of the user's own says nothing of the head: probabilities are a softmax's
    shares = likelihoods(answer.float(), "sigmoid" if run.output == "sigmoid" else "prob")
    said = answer.argmax(-1)  # not of the shares: those of large logits round to the same
    each = target.clamp(min=0)[:, None]
    return (
        torch.where(target < 0, torch.nan, shares.gather(1, each)[:, 0]).cpu(),
        said.cpu(),
        shares.gather(1, said[:, None])[:, 0].cpu(),
    )


def namer_for(run: CleanRun, class_names: Names | None = None) -> Callable[[int], str | None]:
    """What the classes of a run are called, of as many as the model really gives."""
    count = run.answer.shape[-1] if run.vit.has_head and run.answer.ndim == 2 else None
    return class_namer(run.vit.model, class_names, count)


def heads_lack(model: nn.Module | ViT, token: Token | None) -> str | None:
    """Why the model's heads can't be reached; None where they can."""
    try:
        view(model, token, "both")
    except NoHeads as error:
        view(model, token)  # what else is wrong isn't about heads
        return str(error).split("; expected")[0]
    return None


def _objective(objective: Objective | None, method: MethodName, kinds: Units) -> Objective:
    """What is maximised, of what was asked for."""
    if objective is None:
        return "complete" if method == "joint" and kinds == "both" else "joint"
    if method != "joint" and objective != "joint":
        raise InputError(f"objective is a choice of method 'joint'; expected none with {method!r}")
    if objective == "joint" and kinds == "both":
        raise InputError(
            "objective 'joint' sums values, and those of heads and neurons differ in scale; expected 'complete' with units='both'"
        )
    return objective


def architecture(model: nn.Module) -> str:
    """The architecture's name: timm's, or the class's."""
    config = getattr(model, "pretrained_cfg", None) or {}
    return str(config.get("architecture") or type(model).__name__)
