"""What units do on images: over the patches, on the tokens where they are read, and on which images they do most."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..checks import InputError, check_count, checked
from ..data.elements import parts
from ..data.given import Images, as_images, check_images
from ..data.source import Source
from ..models.hooks import at_rest
from ..models.outputs import run_model
from ..models.sites import visited
from ..models.view import view
from ..models.vit import ViT
from ..options import Token, Units
from ..paths.made_for import view_for
from ..paths.neuron_paths import NeuronPaths
from ..runs.clean import check_finite
from ..units import Unit, as_index, kinds_named, place_of
from .values import asked, named_units, values_of

WORST_ASPECT = 1.5  # how far a grid of patches may be from the image's own aspect


@contextmanager
def channels_seen(vit: ViT, see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Call ``see(site, channels)`` with every site's channels (B, N, C) on all tokens whenever the model runs."""
    with at_rest(vit.model), visited(vit.model, vit.sites, see):
        yield


@checked
def activation_maps(
    model: nn.Module | ViT,
    images: Images,
    path: NeuronPaths | Tensor | Sequence,
    *,
    units: Units | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Where units look: their activation on every patch of their image, (B, S, K, h, w), float32 on the CPU; of heads the norm.

    It is shown on the patches also where a path reads its units on the class token.

    Args:
        model: a vision transformer of a known family.
        images: (B, C, H, W), or a Dataset, DataLoader or Source of them, transformed as the model wants it.
        path: NeuronPaths, or units by site (S,), (S, K) or (B, S, K); S is the number of blocks, but for ``units="both"``. Or a list
            of units such as (block, neuron), as many of each site.
        units: what the numbers of ``path`` mean: "neurons" (None), "heads" or "both"; NeuronPaths know theirs.
        batch_size: images run at a time.

    Raises:
        InputError: for units that the model lacks, patches that form no grid of the image's aspect, or NaN.
    """
    vit = view_for(path, model) if isinstance(path, NeuronPaths) else view(model, None, units)
    images = as_images(images, model)
    check_count("batch_size", batch_size)
    index = as_index(path.units if isinstance(path, NeuronPaths) else path, len(images), vit.places)
    images_of, sites_of, _ = torch.meshgrid(*map(torch.arange, index.shape), indexing="ij")
    at = torch.stack([images_of, sites_of, index], -1).flatten(0, 2)
    return _maps(vit, images, at, batch_size).unflatten(0, index.shape)


def unit_maps(
    model: nn.Module | ViT, images: Tensor, units: Sequence[Sequence[Unit]], *, batch_size: int = 64
) -> list[Tensor]:
    """Where any units of each of B images look, a list of units an image: B tensors (n, h, w), as :func:`activation_maps` has them."""
    named = [unit for mine in units for unit in mine]
    vit = view(model, None, kinds_named(named) if named else None)
    at = (
        torch.tensor([(i, place_of(u, vit.places), u.index) for i, mine in enumerate(units) for u in mine])
        .reshape(-1, 3)
        .long()
    )
    return list(_maps(vit, images, at, batch_size).split([len(mine) for mine in units]))


def _maps(vit: ViT, images: Tensor, at: Tensor, batch_size: int) -> Tensor:
    """The activations (n, h, w) on the patches of n units, each named by its image, site and index, (n, 3)."""
    like = next(vit.model.parameters())
    found: list[Tensor] = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        here = at[(at[:, 0] >= start) & (at[:, 0] < start + len(batch))]
        seen: dict[int, Tensor] = {}  # a site: (n, patches) of the units there

        def see(site: int, channels: Tensor) -> None:
            rows, units = here[here[:, 1] == site][:, ::2].to(channels.device).unbind(1)
            patches = vit.sites[site].read(channels[:, vit.num_prefix_tokens :])
            seen[site] = patches[rows - start, :, units].float().cpu()

        with channels_seen(vit, see):
            run_model(vit.model, batch.to(like))
        each = [seen[site] for site in range(len(vit.sites))]
        check_finite(vit, each)
        order = torch.cat([(here[:, 1] == site).nonzero()[:, 0] for site in range(len(each))])
        found += torch.cat(each)[order.argsort()].unbind()
    grid = grid_of(found[0].shape[0], *images.shape[2:]) if found else (0, 0)
    return torch.stack(found).unflatten(1, grid) if found else torch.empty(0, *grid)


def grid_of(patches: int, height: int, width: int) -> tuple[int, int]:
    """The rows and columns of so many patches on an image of this size: those whose aspect is nearest."""

    def off(rows: int) -> float:
        ratio = (rows / (patches // rows)) / (height / width)
        return max(ratio, 1 / ratio)

    rows = min((r for r in range(1, patches + 1) if patches % r == 0), key=off, default=1)
    if not patches or off(rows) > WORST_ASPECT:
        raise InputError(f"{patches} patch tokens form no grid on images of {height} x {width} pixels; expected one")
    return rows, patches // rows


def activations_of(
    model: nn.Module | ViT, images: Tensor, units: Sequence[tuple], *, token: Token | None = None
) -> Tensor:
    """The activations (B, P) of P units on B images: means over the tokens named (see :func:`view`); of heads the norm."""
    check_images(images)
    ask = asked(model, units, token)
    with at_rest(ask.vit.model):
        return values_of(ask, images).cpu()


@checked
def most_active(
    model: nn.Module | ViT,
    images: Images | Iterable,
    units: Sequence[tuple],
    n: int = 6,
    *,
    token: Token | None = None,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
    """The ``n`` images on which each of P units is most active, the most active first.

    Args:
        model: a vision transformer of a known family.
        images: (N, C, H, W), a Dataset, DataLoader or Source of them, or any batches (of tuples the first is taken).
        units: P units: (block, neuron), ("head", block, index), or :class:`~neuronpath.Unit`.
        n: images a unit; fewer where there are fewer.
        token: the tokens whose mean is taken (see :func:`~neuronpath.view`).
        batch_size: images run at a time, where they don't come in batches.

    Returns:
        Activations (P, n), the images' numbers (P, n), and {number: image (C, H, W)}.
    """
    check_count("n", n)
    check_count("batch_size", batch_size)
    units = named_units(units)
    given = as_images(images, model) if isinstance(images, Tensor | DataLoader | Dataset | Source) else None
    best, numbers = torch.empty(len(units), 0), torch.empty(len(units), 0, dtype=torch.int64)
    kept: dict[int, Tensor] = {}
    seen = 0
    for batch in images if given is None else given.split(batch_size):  # type: ignore[union-attr]
        batch, _ = parts(batch)
        check_images(batch, "a batch of images")
        here = torch.arange(seen, seen + len(batch))
        best = torch.cat([best, activations_of(model, batch, units, token=token).T], 1)
        numbers = torch.cat([numbers, here.expand(len(units), -1)], 1)
        best, order = best.topk(min(n, best.shape[1]))
        numbers = numbers.gather(1, order)
        kept = {
            number: kept[number] if number < seen else batch[number - seen].clone()  # or it would keep its batch
            for number in numbers.unique().tolist()
        }
        seen += len(batch)
    if not seen:
        raise InputError("images holds no images; expected at least one")
    return best, numbers, kept


@checked
def mean_activations(
    model: nn.Module | ViT,
    images: Images,
    *,
    units: Units | None = None,
    token: Token | None = None,
    batch_size: int = 64,
) -> list[Tensor]:
    """The mean over images, and over the tokens named (see :func:`~neuronpath.view`), of every channel that a unit is made of.

    A site (C,), float32 on the CPU: of neurons (M,), a value each; of heads their channels, ``head_dim`` each, side by side. Where
    ``units`` is "both", each block's heads come before its neurons. Raises InputError for a model that gives NaN or infinity.
    """
    vit = view(model, token, units)
    images = as_images(images, model)
    check_count("batch_size", batch_size)
    sums = [torch.zeros(site.reader.in_features, dtype=torch.float64) for site in vit.sites]
    like = next(vit.model.parameters())

    def add(site: int, channels: Tensor) -> None:
        sums[site] += vit.split(channels)[0].double().mean(1).sum(0).cpu()

    with channels_seen(vit, add):
        for batch in images.split(batch_size):
            run_model(vit.model, batch.to(like))
    check_finite(vit, sums)
    return [total.float() / len(images) for total in sums]
