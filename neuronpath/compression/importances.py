"""What every neuron is worth, a number for each: of neuron paths, of a model and calibration images, or of its weights alone.

Pruning takes a neuron from every token, so importances count every token, registers too, unless asked for ``tokens="path"``.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..checks import InputError, InputTypeError
from ..features.activations import neurons_seen
from ..models.hooks import at_rest, eager, input_replaced
from ..models.outputs import Output, as_target, check_output, check_range, measure, run_model
from ..models.vit import ViT, view
from ..paths.neuron_paths import NeuronPaths, check_any
from ..runs.clean import check_finite, check_images
from ..runs.quadrature import nodes_and_weights
from .mlps import mlp_of

OF_PATHS = ("path", "frequency")
OF_IMAGES = ("joint", "causal", "taylor", "activation")
OF_WEIGHTS = ("magnitude", "random")
JOINT_STEPS = 2  # Gauss-Legendre nodes of the complete attribution; more change no ranking that matters
TOKENS = ("all", "path")


def importance(
    source: NeuronPaths | nn.Module,
    images: Tensor | None = None,
    *,
    by: str | None = None,
    target: int | Sequence[int] | Tensor | None = None,
    tokens: str = "all",
    output: Output = "prob",
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> list[Tensor]:
    """The importance of every neuron, a block (M,), float32 on the CPU; more is worth more, and none is negative.

    Args:
        source: NeuronPaths, or a vision transformer of a known family.
        images: calibration images (B, C, H, W), transformed as the model wants it; for what is measured on images.
        by: of NeuronPaths "path" (the default) or "frequency"; of a model the others, "taylor" by default:

            - "path": \\|attribution\\| of the neuron in the paths that it belongs to, averaged over all images: how often a path
              runs through it, weighted by what it carries there. Neurons on no path get 0.
            - "frequency": the share of images whose path it belongs to.
            - "joint": \\|complete attribution\\| averaged over images: its value times F's gradient to it, while all neurons are held
              and scaled by alpha together, averaged over alpha in [0, 1] by 2 Gauss-Legendre nodes. 2 forwards + backwards.
            - "causal": \\|value times F's gradient in the ordinary run\\|, summed over tokens, averaged over images: to first order
              what F loses with the neuron, later blocks' answers included.
            - "taylor": the square of the same for the cross-entropy of the target in place of F; Molchanov et al., "Importance
              Estimation for Neural Network Pruning" (CVPR 2019), equation 8, one gate a neuron.
            - "activation": \\|value\\| averaged over images and tokens.
            - "magnitude": the norm of its outgoing weights times the norm of its incoming ones, biases aside; needs no images.
            - "random": uniform in [0, 1), by ``seed``; the control.

        target: of NeuronPaths the one class whose images count; of a model the class of every image, an int or (B,). None
            counts all images, and takes each one's predicted class.
        tokens: "all": every token, on which pruning acts; "path": those that the head pools. Paths have their own already.
        output: the F of "joint" and "causal": "prob", "logit", "sigmoid" or a function (see :func:`~neuronpath.find_path`).
        batch_size: images run at a time.
        progress: True shows a bar over the images.

    Raises:
        InputError: (a ValueError) in one line, for what can't be used.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load("train")
        >>> [tuple(block.shape) for block in nph.importance(model, images[:8])][:2]
        [(256,), (256,)]
    """
    if tokens not in TOKENS:
        raise InputError(f"tokens {tokens!r} is unknown; expected one of {', '.join(map(repr, TOKENS))}")
    if isinstance(source, NeuronPaths):
        return _of_paths(source, _known(by or "path", OF_PATHS, "neuron paths"), target)
    by = _known(by or "taylor", OF_IMAGES + OF_WEIGHTS, "a model")
    vit = view(source)
    if by == "random":
        draw = torch.Generator().manual_seed(seed)
        return [torch.rand(width, generator=draw) for width in vit.widths]
    if by == "magnitude":
        return [_magnitude(vit, block) for block in range(len(vit.blocks))]
    if images is None:
        raise InputError(f"importance by {by!r} is measured on images, and none were given; expected (B, C, H, W)")
    check_images(images)
    labels = as_target(target, len(images))
    check_output("prob" if by == "taylor" else output, vit.has_head or by == "activation", type(vit.model).__name__)
    return _of_images(vit, images, labels, by, tokens, output, batch_size, progress)


def _known(by: str, choices: Sequence[str], source: str) -> str:
    if by not in choices:
        raise InputError(f"importance by {by!r} is none of {source}; expected one of {', '.join(choices)}")
    return by


def _of_paths(paths: NeuronPaths, by: str, target: object) -> list[Tensor]:
    check_any(paths)
    widths = paths.settings.get("widths")
    if not widths:
        raise InputError("these paths don't say how wide their model's blocks are; expected paths that find_path made")
    if target is not None:
        if isinstance(target, bool) or not isinstance(target, int):
            raise InputTypeError(f"target is {target!r}; expected one class, for the images of paths have theirs")
        chosen = (paths.target == target).nonzero()[:, 0]
        if not len(chosen):
            raise InputError(f"no path explains class {target}; expected one of {sorted(set(paths.target.tolist()))}")
        paths = paths[chosen]
    carried = paths.attribution.abs() if by == "path" else torch.ones_like(paths.attribution)
    found = []
    for block, width in enumerate(widths):
        sums = torch.zeros(width, dtype=torch.float64)
        sums.index_add_(0, paths.neurons[:, block].flatten(), carried[:, block].double().flatten())
        found.append((sums / len(paths)).float())
    return found


def _magnitude(vit: ViT, block: int) -> Tensor:
    mlp = mlp_of(vit, block)
    width = mlp.down.in_features
    incoming = sum(
        up.weight.detach().double().reshape(-1, width, up.in_features).square().sum((0, 2)) for up in mlp.ups
    )
    return (torch.as_tensor(incoming).sqrt() * mlp.down.weight.detach().double().norm(dim=0)).float().cpu()


def _of_images(
    vit: ViT,
    images: Tensor,
    labels: Tensor | None,
    by: str,
    tokens: str,
    output: Output,
    batch_size: int,
    progress: bool,
) -> list[Tensor]:
    sums = [torch.zeros(width, dtype=torch.float64) for width in vit.widths]
    like = next(vit.model.parameters())
    with at_rest(vit.model), tqdm(total=len(images), unit="image", disable=not progress) as bar:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].to(like)
            clean, answer = clean_values(vit, batch)
            check_finite(vit, clean, answer)
            target = None if labels is None else labels[start : start + batch_size].to(like.device)
            if target is None and answer.ndim == 2 and vit.has_head:
                target = answer.argmax(-1)
            elif target is not None and answer.ndim == 2:
                check_range(target, answer.shape[-1])
            for total, effect in zip(sums, _effects(vit, batch, target, by, tokens, output, clean), strict=True):
                total += effect.double().sum(0).cpu()
            bar.update(len(batch))
    return [(total / len(images)).float() for total in sums]


def _effects(
    vit: ViT, images: Tensor, target: Tensor | None, by: str, tokens: str, output: Output, clean: list[Tensor]
) -> list[Tensor]:
    """What every neuron is worth to every image, a block (B, M)."""
    if by == "activation":
        return [(v if tokens == "all" else vit.split(v)[0]).abs().mean(1) for v in clean]
    if by == "joint":
        total = [torch.zeros_like(values[:, 0]) for values in clean]
        for alpha, weight in zip(*nodes_and_weights("gausslegendre", JOINT_STEPS), strict=True):
            for sums, gradient in zip(
                total, gate_gradients(vit, images, target, output, tokens, [v * alpha for v in clean]), strict=True
            ):
                sums += gradient * (weight / alpha)
        return [sums.abs() for sums in total]
    loss = _log_likelihood if by == "taylor" else output
    found = gate_gradients(vit, images, target, loss, tokens)
    return [gradient.square() if by == "taylor" else gradient.abs() for gradient in found]


def _log_likelihood(answer: Tensor, target: Tensor | None) -> Tensor:
    """Minus the cross-entropy (R,) of logits (R, classes)."""
    if target is None or answer.ndim != 2:
        raise InputError(f"the model's output has shape {tuple(answer.shape)}; 'taylor' expected logits (B, classes)")
    return answer.log_softmax(-1).gather(1, target[:, None])[:, 0]


def clean_values(vit: ViT, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Every neuron's value on every token, a block (B, N, M), and the model's output."""
    found: list[Tensor] = []
    with neurons_seen(vit, lambda _, values: found.append(values)):
        return found, run_model(vit.model, images)


def gate_gradients(
    vit: ViT, images: Tensor, target: Tensor | None, output: Output, tokens: str, held: list[Tensor] | None = None
) -> list[Tensor]:
    """F's gradient to a gate at 1 that multiplies a neuron on all of the tokens, a block (B, M): sum_t value * gradient.

    With ``held``, a block (B, N, M), neurons are held at these values on the gated tokens; without, all follows live.
    """
    gates = [torch.ones(len(images), 1, width, device=images.device, dtype=images.dtype) for width in vit.widths]

    def gated(block: int, values: Tensor) -> Tensor:
        if tokens == "all":
            return (values if held is None else held[block]) * gates[block]
        here, others = vit.split(values)
        return vit.join((here if held is None else vit.split(held[block])[0]) * gates[block], others)

    with ExitStack() as stack, torch.enable_grad(), eager():
        for block, fc2 in enumerate(vit.neurons):
            gates[block].requires_grad_()
            stack.enter_context(input_replaced(fc2, partial(gated, block)))
        value = measure(run_model(vit.model, images), target, output)
        return [gradient[:, 0] for gradient in torch.autograd.grad(value.sum(), gates)]
