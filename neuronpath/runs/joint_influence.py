"""The joint influence of units that are given, frozen or live."""

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor, nn

from ..checks import InputError, checked
from ..data.given import Images, Target, as_images
from ..models.hooks import at_rest
from ..models.outputs import Output
from ..models.view import view
from ..models.vit import ViT
from ..options import Baseline, Influenced, Rule, Token, Units
from ..units import as_index
from .baselines import ablation, baseline_named
from .clean import clean_runs
from .influence import Influence, Quadrature, influence_of
from .live import live_influence_of


@checked
def joint_influence(
    model: nn.Module | ViT,
    images: Images,
    path: Tensor | Sequence,
    target: Target = None,
    *,
    units: Units | None = None,
    token: Token | None = None,
    influence: Influenced = "frozen",
    baseline: Baseline | None = None,
    reference: Images | None = None,
    output: Output = "prob",
    quadrature: Rule | None = None,
    n_steps: int | None = None,
    internal_batch_size: int | None = None,
    seed: int = 0,
) -> Influence:
    """Score, attribution and delta of any given units.

    Args:
        model: a vision transformer of a known family; it is left exactly as it was.
        images: (B, C, H, W), or a Dataset, DataLoader or Source of them, transformed as the model wants it.
        path: (B, S, K) for each image its own, or (S, K) or (S,) for all alike; S is the number of sites: of blocks, but for
            ``units="both"``, where each block's heads come before its neurons.
        target: the class whose output is explained; None is the predicted one; an int or (B,).
        units: what the numbers of ``path`` mean: "neurons" (None), "heads" or "both".
        token: the tokens on which units are read (see :func:`~neuronpath.view`).
        influence: "frozen": all other units are held (the paper's); attributions sum to what the output loses in that run.
            "live": all else follows; they sum to what ablating the path really takes, and there is no score (NaN).
        baseline: of "live", what units are ablated to: "zero", "mean", "resample" or "paired" (see :func:`~neuronpath.find_path`); None
            is "mean" where there is a reference, else "zero".
        reference: the images (R, C, H, W) for that, or a Dataset, DataLoader or Source of them.
        output: "prob", "logit", "sigmoid", or a function of (the model's output (R, ...), target (R,)) that gives (R,).
        quadrature: a rule of captum's name ("gausslegendre", "riemann_left", ...), or "clenshawcurtis" or "gaussradau"; None is
            "gausslegendre" for frozen influence, "clenshawcurtis" for live.
        n_steps: nodes of the rule; None adds nodes until |delta| is at most 1e-3 of |F(1) - F(0)| (50 of the Riemann rules).
        internal_batch_size: rows (an image at a node) run at once; bounds the memory, doesn't change the result.
        seed: of "resample".

    Raises:
        InputError: (a ValueError) for an argument that can't be used, in one line.
    """
    vit = view(model, token, units)
    images = as_images(images, model)
    reference = as_images(reference, model, "reference")
    rule = Quadrature(quadrature or ("clenshawcurtis" if influence == "live" else "gausslegendre"), n_steps)
    baseline = baseline_named(baseline, reference)
    if influence == "frozen" and baseline != "zero":
        raise InputError("baseline is a choice of influence 'live'; expected none with 'frozen'")
    ablate = ablation(vit, baseline, reference, len(images), seed)
    with at_rest(vit.model):
        index = as_index(path, len(images), vit.places)
        parts, start = [], 0
        for run in clean_runs(vit, images, target, output, internal_batch_size, rule.fewest):
            chosen = index[start : start + len(run.rows)].to(run.rows.device)
            if influence == "live":
                parts.append(live_influence_of(run, chosen, rule, ablate(run, start)))
            else:
                parts.append(influence_of(run, chosen, rule))
            start += len(run.rows)
    return Influence(
        **{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Influence)}
    )
