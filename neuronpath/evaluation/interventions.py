"""Interventions: the model runs as ever, but for some units that are removed, enhanced, kept alone or set, inside a ``with``.

    with nph.remove(model, paths):
        logits = model(images)

Everything behind the units follows, live. A :class:`NeuronPaths` acts on the tokens that its units were read on, image by image,
so it wants a batch of as many images, in the same order; a plain list of units acts on every image alike. ``with`` blocks nest: the
outer one acts first. Behind them the model is as it was, also after an exception.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from ..checks import InputError, InputTypeError, checked, shown
from ..data.given import Images, as_images
from ..models.hooks import eager
from ..models.outputs import logits_of
from ..models.sites import visited
from ..models.view import view
from ..models.vit import ViT
from ..options import Baseline, Token, Units
from ..paths.made_for import view_for
from ..paths.neuron_paths import NeuronPaths
from ..runs.baselines import ablated_by, baseline_named
from ..runs.gates import Ablated
from ..units import as_index, as_unit, is_unit_list, kinds_named, place_of

Path = NeuronPaths | Tensor | Sequence
Edit = Callable[[int, Tensor, Tensor], Tensor]  # site, channels (B, T, C), chosen (B or 1, 1, C) -> channels


@checked
def edited(
    model: nn.Module | ViT, path: Path, edit: Edit, *, units: Units | None = None, tokens: Token | None = None
) -> AbstractContextManager[None]:
    """Have every site's channels pass through ``edit`` while the model runs.

    Args:
        model: a vision transformer of a known family.
        path: NeuronPaths; or a list of tuples, each a unit: (block, neuron), ("head", block, index), or a
            :class:`~neuronpath.Unit`; or units by site, (S,), (S, K) or (B, S, K), S being the number of blocks.
        edit: gets the site's number, its channels (B, T, C) and which of them are of the units chosen (B or 1, 1, C); gives new ones.
        units: whose channels pass, "neurons", "heads" or "both" (each block's heads before its neurons); None is what ``path`` holds.
        tokens: on which tokens: "cls", "patch", "pooled", or "all", registers too (see :func:`~neuronpath.view`). None is those
            that the paths' units are read on; of a list those that the model's head pools.

    Raises:
        InputError: (a ValueError) for units that the model lacks, or, while it runs, for a batch of another length.
    """

    def edit_checked(site: int, channels: Tensor, chosen: Tensor) -> Tensor:
        try:
            new = edit(site, channels, chosen)
        except TypeError as error:
            raise InputTypeError(f"edit can't be called with (site, channels, chosen): {error}") from error
        if not isinstance(new, Tensor) or new.shape != channels.shape:
            got = tuple(new.shape) if isinstance(new, Tensor) else f"a {type(new).__name__}"
            raise InputError(f"edit gave {got}; expected channels of shape {tuple(channels.shape)}")
        return new

    return _edited(*units_chosen(model, path, units, tokens), edit_checked)


def units_chosen(
    model: nn.Module | ViT, path: Path, units: Units | None = None, tokens: Token | None = None
) -> tuple[ViT, list[Tensor]]:
    """The view, and which units are meant, a site (B or 1, U)."""
    if isinstance(path, NeuronPaths):
        vit = view_for(path, model)
        vit, path = view(vit, tokens or vit.token), path.units
    elif is_unit_list(path):
        named = [as_unit(unit) for unit in path]
        vit = view(model, tokens, units or kinds_named(named))
        masks = [torch.zeros(1, width, dtype=torch.bool) for width in vit.widths]
        for unit in named:
            masks[place_of(unit, vit.places)][0, unit.index] = True
        return vit, masks
    else:
        vit = view(model, tokens, units)
    try:
        index = torch.as_tensor(path)
    except (TypeError, ValueError, RuntimeError):
        raise InputTypeError(
            f"path is {shown(path)}; expected NeuronPaths, units such as (block, neuron), or whole numbers a site"
        ) from None
    index = as_index(index, len(index) if index.ndim == 3 else 1, vit.places)
    return vit, [
        torch.zeros(len(index), width, dtype=torch.bool).scatter_(1, here, True)
        for width, here in zip(vit.widths, index.unbind(1), strict=True)
    ]


@contextmanager
def _edited(vit: ViT, masks: list[Tensor], edit: Edit) -> Iterator[None]:
    def visit(s: int, channels: Tensor) -> Tensor:
        if len(masks[s]) not in (1, len(channels)):
            raise InputError(
                f"the batch has {len(channels)} images, but there are {len(masks[s])} paths; expected as many"
            )
        chosen = vit.sites[s].spread(masks[s])[:, None].to(channels.device)
        return vit.on_tokens(channels, lambda here: edit(s, here, chosen))

    with eager(), visited(vit.model, vit.sites, visit):
        yield


@checked
def remove(
    model: nn.Module | ViT,
    path: Path,
    *,
    units: Units | None = None,
    tokens: Token | None = None,
    baseline: Baseline | None = None,
    reference: Images | None = None,
    images: Images | None = None,
) -> AbstractContextManager[None]:
    """The units ablated: at 0, or at what they are on other images.

    Args:
        model: and ``path``, ``units``, ``tokens`` as of :func:`~neuronpath.evaluation.interventions.edited`.
        baseline: what units are ablated to: "zero"; "mean", position by position over ``reference``; "resample" or "paired" (see
            :func:`~neuronpath.find_path`). None is "mean" where there is a reference, else "zero".
        reference: the images (R, C, H, W) for that, or a Dataset, DataLoader or Source of them.
        images: the images (B, C, H, W) that will be run; "resample" draws by their pixels, and by the paths' own seed.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load()
        >>> with nph.remove(model, [(4, 163), ("head", 7, 2)]):  # a neuron of block 4 and a head of block 7
        ...     logits = model(images[:4])
        >>> with nph.remove(model, [(4, 163)], reference=images[4:]):  # at its mean over the other images
        ...     logits = model(images[:4])
    """
    return enhance(model, path, 0.0, units=units, tokens=tokens, baseline=baseline, reference=reference, images=images)


@checked
def enhance(
    model: nn.Module | ViT,
    path: Path,
    factor: float = 2.0,
    *,
    units: Units | None = None,
    tokens: Token | None = None,
    baseline: Baseline | None = None,
    reference: Images | None = None,
    images: Images | None = None,
) -> AbstractContextManager[None]:
    """What the units differ by from their ablated values multiplied by ``factor``: of baseline "zero" the units themselves.

    See :func:`~neuronpath.remove` for the other arguments.
    """
    vit, masks = units_chosen(model, path, units, tokens)
    return scaled(vit, masks, factor, _ablated(vit, path, baseline, reference, images))


def scaled(vit: ViT, masks: list[Tensor], factor: float, gone: Ablated) -> AbstractContextManager[None]:
    """The units in ``masks``, a site (B or 1, U), at ``factor`` times what they differ by from their ablated values."""

    def multiplied(site: int, channels: Tensor, here: Tensor) -> Tensor:
        new = channels * factor if gone is None else torch.lerp(_gone(gone[site], channels), channels, factor)
        return torch.where(here, new, channels)

    return _edited(vit, masks, multiplied)


@checked
def keep(
    model: nn.Module | ViT,
    path: Path,
    *,
    units: Units | None = None,
    tokens: Token | None = None,
    baseline: Baseline | None = None,
    reference: Images | None = None,
    images: Images | None = None,
) -> AbstractContextManager[None]:
    """All but the units ablated: all other neurons for neurons, all other heads for heads, or both by ``units="both"``.

    See :func:`~neuronpath.remove` for the arguments.
    """
    vit, masks = units_chosen(model, path, units, tokens)
    gone = _ablated(vit, path, baseline, reference, images)

    def kept(site: int, channels: Tensor, here: Tensor) -> Tensor:
        return torch.where(here, channels, 0.0 if gone is None else _gone(gone[site], channels))

    return _edited(vit, masks, kept)


def _gone(ablated: Tensor, channels: Tensor) -> Tensor:
    """A site's ablated channels (B or 1, T, C), like those of the batch that runs."""
    if len(ablated) not in (1, len(channels)):
        raise InputError(
            f"the batch has {len(channels)} images, but units are ablated as on {len(ablated)}; expected as many"
        )
    return ablated.to(channels)


def _ablated(
    vit: ViT, path: Path, baseline: Baseline | None, reference: Images | None, images: Images | None
) -> Ablated:
    """The channels of units that are gone, a site (B or 1, T, C); None is 0."""
    baseline = baseline_named(baseline, reference)
    if reference is not None:
        reference = as_images(reference, vit, "reference")
    if reference is None or baseline != "resample":
        n_images = len(path) if isinstance(path, NeuronPaths) else 0 if reference is None else len(reference)
        given = torch.empty(n_images)
        return ablated_by(vit, baseline, reference, n_images)(given, given, 0)
    if images is None:
        raise InputError("baseline 'resample' draws by the images' pixels; expected images=, those that will be run")
    images = as_images(images, vit)
    like = next(vit.model.parameters())
    target = path.target if isinstance(path, NeuronPaths) else logits_of(vit.model, images).argmax(-1)
    seed = path.settings.seed if isinstance(path, NeuronPaths) else 0
    return ablated_by(vit, baseline, reference, len(images), seed)(images[:].to(like), target, 0)


@checked
def set_to(
    model: nn.Module | ViT,
    path: Path,
    value: float | Sequence[Tensor],
    *,
    units: Units | None = None,
    tokens: Token | None = None,
) -> AbstractContextManager[None]:
    """The units at ``value``: a number, or their channels (C,) a site, such as :func:`mean_activations` gives them.

    A number is what a neuron's value becomes, and a head's norm. See :func:`~neuronpath.evaluation.interventions.edited` for the other
    arguments.
    """
    vit, masks = units_chosen(model, path, units, tokens)
    if not isinstance(value, int | float):
        shapes, expected = [tuple(part.shape) for part in value], [(site.reader.in_features,) for site in vit.sites]
        if shapes != expected:
            raise InputError(
                f"value holds tensors of shapes {shapes}; expected a number, or channels a site: {expected}"
            )

    def edit(s: int, channels: Tensor, chosen: Tensor) -> Tensor:
        if isinstance(value, int | float):
            site = vit.sites[s]
            new = site.write(torch.full_like(site.read(channels), value), channels)
        else:
            new = value[s].to(channels)
        return torch.where(chosen, new, channels)

    return _edited(vit, masks, edit)
