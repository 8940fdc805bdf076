"""What every unit is worth, a number for each: of paths, of a model and calibration images, or of its weights alone; a file each.

Pruning takes a unit from every token, so importances count every token, registers too, unless asked for other ``tokens``.
"""

import warnings

import torch
from torch import Tensor, nn

from ...checks import InputError, InputTypeError, check_count, checked
from ...data.given import Classes, Images, Target, as_images
from ...models.class_names import numbered
from ...models.outputs import Output
from ...models.view import check_model, view
from ...models.vit import ViT
from ...options import ImportanceName, Token, Units
from ...paths.neuron_paths import NeuronPaths, check_any
from . import activation, causal, complete, frequency, magnitude, path, random, taylor  # noqa: F401  (they register)
from .registry import Calibration, importance_named, list_importances, register_importance

__all__ = ["Calibration", "importance", "list_importances", "register_importance"]


@checked
def importance(
    source: NeuronPaths | nn.Module | ViT,
    images: Images | None = None,
    *,
    by: ImportanceName | None = None,
    units: Units | None = None,
    target: Target = None,
    tokens: Token = "all",
    output: Output = "prob",
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> list[Tensor]:
    """The importance of every unit, a site (U,), float32 on the CPU; more is worth more, and none is negative.

    Args:
        source: NeuronPaths, or a vision transformer of a known family.
        images: calibration images (B, C, H, W), or a Dataset, DataLoader or Source of them, transformed as the model wants it; for
            what is measured on images.
        by: of NeuronPaths "path" (the default) or "frequency"; of a model the others, "taylor" by default:

            - "path": \\|attribution\\| of the unit in the paths that it belongs to, averaged over all images: how often a path
              runs through it, weighted by what it carries there. Units on no path get 0.
            - "frequency": the share of images whose path it belongs to.
            - "complete": \\|complete attribution\\| averaged over images: its value times F's gradient to it, while all units are held
              and scaled by alpha together, averaged over alpha in [0, 1] by 2 Gauss-Legendre nodes. 2 forwards + backwards.
            - "causal": \\|value times F's gradient in the ordinary run\\|, summed over tokens, averaged over images: to first order
              what F loses with the unit, later blocks' answers included.
            - "taylor": the square of the same for the cross-entropy of the target in place of F; Molchanov et al., "Importance
              Estimation for Neural Network Pruning" (CVPR 2019), equation 8, one gate a unit.
            - "activation": \\|value\\| averaged over images and tokens; of a head its norm.
            - "magnitude": the norm of its outgoing weights times the norm of its incoming ones, biases aside; needs no images.
            - "random": uniform in [0, 1), by ``seed``; the control.

        units: of a model, "neurons" (None), "heads", or "both": then each block's heads come before its neurons.
        target: of NeuronPaths the one class whose images count; of a model the class of every image, an int, (B,) or "label". None
            counts all images, and takes each one's predicted class.
        tokens: "all": every token, on which pruning acts; "pooled": those that the head pools; "cls", "patch". Paths have their own.
        output: the F of "complete" and "causal": "prob", "logit", "sigmoid" or a function (see :func:`~neuronpath.find_path`).
        batch_size: images run at a time.
        progress: True shows a bar over the images.

    Units at several sites that share one layer (a model that loops over a block) are one unit: what they are worth adds up, and each
    site gets the sum.

    Raises:
        InputError: (a ValueError) in one line, for what can't be used.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load("train")
        >>> [tuple(block.shape) for block in nph.importance(model, images[:8])][:2]
        [(256,), (256,)]
        >>> [tuple(block.shape) for block in nph.importance(model, images[:8], units="heads")][:2]
        [(4,), (4,)]
    """
    if by == "joint":
        warnings.warn("importance(by='joint') is called by='complete' now", FutureWarning, stacklevel=2)
        by = "complete"
    if isinstance(source, NeuronPaths):
        found = importance_named("path" if by is None else by, "paths")
        return found.of(_of_class(source, target))
    found = importance_named("taylor" if by is None else by, "images", "weights")
    if found.source == "weights":
        vit = view(source, None, units)
        return _checked(vit, found.of(vit, seed))
    if images is None:
        raise InputError(
            f"importance by {found.name!r} is measured on images, and none were given; expected (B, C, H, W)"
        )
    vit = view(source, tokens, units)
    images = as_images(images, vit)
    check_count("batch_size", batch_size)
    target = numbered(target, vit.model)
    labels = target if isinstance(target, str) else Classes(images, target).known
    return _checked(vit, found.of(vit, Calibration(images, labels, output, batch_size, progress)))


def _of_class(paths: NeuronPaths, target: object) -> NeuronPaths:
    """The paths that explain a class, or all."""
    check_any(paths)
    if not paths.settings.sites:
        raise InputError("these paths don't say how wide their model's blocks are; expected paths that find_path made")
    if target is None:
        return paths
    if isinstance(target, bool) or not isinstance(target, int):
        raise InputTypeError(f"target is {target!r}; expected one class, for the images of paths have theirs")
    chosen = (paths.target == target).nonzero()[:, 0]
    if not len(chosen):
        raise InputError(f"no path explains class {target}; expected one of {sorted(set(paths.target.tolist()))}")
    return paths[chosen]


def _checked(vit: ViT, found: list[Tensor]) -> list[Tensor]:
    """All finite, and summed up over sites that share a layer."""
    for place, values in zip(vit.places, found, strict=True):
        if not torch.isfinite(values).all():
            check_model(vit.model)
            raise InputError(
                f"the {place.kind}s of block {place.block} have importances that are NaN or infinite; expected numbers"
            )
    for group in vit.tied:
        total = torch.stack([found[site] for site in group]).sum(0)
        for site in group:
            found[site] = total.clone()
    return found
