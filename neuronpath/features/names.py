"""Names for units: the class that a unit tells from the others, or the word that its favourite images have in common."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import Tensor, nn

from ..checks import InputError, check_count, checked
from ..data.given import Images, as_images
from ..models.class_names import class_namer
from ..models.hooks import at_rest
from ..models.outputs import as_target
from ..models.vit import ViT
from ..options import Token
from ..paths.statistics import Labels
from ..units import Unit
from .values import Asked, asked, values_of

RANDOM = 100  # units of each kind that a name's score is compared with
SURE = 0.95  # of the control: a name must have a higher score than so many of it


@checked
def name_units(
    model: nn.Module | ViT,
    images: Images,
    units: Sequence[tuple],
    labels: Labels | None = None,
    *,
    words: Sequence[str] | None = None,
    image_text: Sequence[Callable] | None = None,
    n: int = 10,
    controls: int = 200,
    token: Token | None = None,
    batch_size: int = 64,
    seed: int = 0,
) -> pd.DataFrame:
    """A name for each unit, with its score and what chance gives: by the images' labels, or by words.

    By labels a unit's name is the class that its value tells best from all others on one half of the images; the score
    is the area under the ROC curve (AUROC) on the other half. The control is the same with labels dealt out anew at random.

    By words it is the word that is nearer to the ``n`` images which the unit likes best than to images in general: the
    mean over them of the similarity of image and word, less its mean over all images, in its deviations. The control is
    the best word of ``n`` random images.

    Args:
        model: a vision transformer of a known family; it is left exactly as it was.
        images: (N, C, H, W), or a Dataset, DataLoader or Source of them, transformed as the model wants it.
        units: P units: (block, neuron), ("head", block, index), or :class:`~neuronpath.Unit`. A unit's value is its
            mean over the tokens named; of a head it is the norm.
        labels: the images' classes (N,).
        words: or the words to choose from.
        image_text: and for these a joint image-text model as two functions, which make of images (B, C, H, W), and of
            the list of words, vectors (B, D) and (W, D): see :func:`~neuronpath.image_text_pair`.
        n: the unit's favourites that are looked at, of words.
        controls: how often the control is drawn.
        token: the tokens on which units are read (see :func:`~neuronpath.view`).
        batch_size: images run at a time.
        seed: of the halves and the control.

    Returns:
        A row a unit. Columns block, kind, unit; name, None where the score isn't above the control; best, the name it
        would have; score; control, which 95 % of the draws don't pass; and of labels random_units, the share of a hundred
        random units of its kind whose own best name has so high a score.

    Raises:
        InputError: for neither or both of labels and words, fewer than two classes or than four images, or units that
            the model lacks.

    Source: words after Oikarinen and Weng, "CLIP-Dissect" (ICLR 2023), with a plain mean in place of their soft-WPMI.
    """
    images = as_images(images, model)
    for name, value in (("n", n), ("controls", controls), ("batch_size", batch_size)):
        check_count(name, value)
    check_count("seed", seed, 0)
    if (labels is None) == (words is None):
        raise InputError("expected either labels or words, to name units by")
    ask = asked(model, units, token)
    draw = np.random.default_rng(seed)
    if words is None:
        truth = as_target(labels, len(images))
        assert truth is not None
        return names_by_labels(ask, truth.numpy(), lambda ask: _values(ask, images, batch_size)[0], controls, draw)
    if image_text is None or len(image_text) != 2 or not len(words):
        raise InputError(
            "words want image_text, two functions, and at least one word; expected a joint image-text model"
        )
    see, read = image_text
    values, seen = _values(ask, images, batch_size, see)
    found = _by_words(values, _similarity(torch.cat(seen), list(words), read, len(images)), n, controls, draw)
    return _table(ask, found, list(words).__getitem__)


def names_by_labels(
    ask: Asked, truth: np.ndarray, values: Callable[[Asked], np.ndarray], controls: int, draw: np.random.Generator
) -> pd.DataFrame:
    """The names of units by classes (N,), as :func:`name_units` gives them; ``values`` gives any units' values (N, P)."""
    classes, numbers = np.unique(truth, return_inverse=True)
    if len(classes) < 2 or len(truth) < 4:
        raise InputError(
            f"labels name {len(classes)} class(es) of {len(truth)} images; expected two classes, four images"
        )
    others = _random_units(ask, draw)
    both = ask._replace(units=[*ask.units, *others.units], places=[*ask.places, *others.places])
    kinds = np.array([unit.kind for unit in both.units])
    found = _by_labels(values(both), numbers, controls, draw)
    own, random = slice(None, len(ask.units)), slice(len(ask.units), None)
    higher = found["score"][random] >= found["score"][own, None]
    found = {name: each[own] for name, each in found.items()} | {
        "random_units": np.ma.array(higher, mask=kinds[random] != kinds[own, None]).mean(1).data
    }
    name_of = class_namer(ask.vit.model)
    return _table(ask, found, lambda best: name_of(int(classes[best])) or str(classes[best]))


def _table(ask: Asked, found: dict[str, np.ndarray], called: Callable[[int], str | None]) -> pd.DataFrame:
    best = [called(int(each)) for each in found["best"]]
    sure = found["score"] > found["control"]
    return pd.DataFrame(
        {
            "block": [unit.block for unit in ask.units],
            "kind": [unit.kind for unit in ask.units],
            "unit": [unit.index for unit in ask.units],
            "name": [word if yes else None for word, yes in zip(best, sure, strict=True)],
            **found,
            "best": best,
        }
    )


@checked
def image_text_pair(
    model: nn.Module, text: Callable, mean: Sequence[float], std: Sequence[float], size: int = 224
) -> tuple[Callable[[Tensor], Tensor], Callable[[list[str]], Tensor]]:
    """The two functions that :func:`name_units` wants, of a CLIP or SigLIP of transformers or open_clip.

    Images are normalised as the joint model wants them: open_clip's models know how, of transformers' all but SigLIP as CLIP does.

    Args:
        model: it: of transformers with ``get_image_features`` and ``get_text_features``, of open_clip with ``encode_image`` and
            ``encode_text``.
        text: its tokenizer.
        mean: of the normalisation of the images that ``name_units`` is given, a channel each, to be undone.
        std: and its standard deviation.
        size: the side of the images that the joint model wants.
    """
    hugging = hasattr(model, "get_image_features")
    if not hugging and not hasattr(model, "encode_image"):
        raise InputError(
            f"{type(model).__name__} is no joint image-text model; expected one of transformers or open_clip"
        )
    config: Any = getattr(model, "config", None)
    visual = getattr(model, "visual", None)
    sigmoid = hugging and str(getattr(config, "model_type", "")).startswith("siglip")
    plain = (0.5,) * 3 if sigmoid else None
    own_mean = torch.tensor(plain or getattr(visual, "image_mean", None) or OPENAI_CLIP_MEAN)[:, None, None]
    own_std = torch.tensor(plain or getattr(visual, "image_std", None) or OPENAI_CLIP_STD)[:, None, None]
    mean_, std_ = (torch.tensor(each)[:, None, None] for each in (mean, std))

    def see(images: Tensor) -> Tensor:
        pixels = (images.cpu() * std_ + mean_).clamp(0, 1)
        pixels = nn.functional.interpolate(pixels, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        seen = ((pixels.expand(-1, 3, -1, -1) - own_mean) / own_std).to(next(model.parameters()))
        return _vectors(model.get_image_features(pixel_values=seen) if hugging else model.encode_image(seen))  # type: ignore[operator]

    def read(words: list[str]) -> Tensor:
        device = next(model.parameters()).device
        if sigmoid:  # reads the last token, and was trained with padding to its full length, unmasked
            most = config.text_config.max_position_embeddings
            said = text(words, padding="max_length", truncation=True, max_length=most, return_tensors="pt")
            return _vectors(model.get_text_features(input_ids=said["input_ids"].to(device)))  # type: ignore[operator]
        if hugging:
            said = text(words, padding=True, truncation=True, return_tensors="pt")
            return _vectors(model.get_text_features(**said.to(device)))  # type: ignore[operator]
        return _vectors(model.encode_text(text(words).to(device)))  # type: ignore[operator]

    return see, read


def _vectors(found: object) -> Tensor:
    """Of what a joint model gives the vectors (B, D)."""
    pooled = getattr(found, "pooler_output", found)
    assert isinstance(pooled, Tensor)
    return pooled


def _values(
    ask: Asked, images: Tensor, batch_size: int, see: Callable | None = None
) -> tuple[np.ndarray, list[Tensor]]:
    """The units' values (N, P), and what a joint model makes of the images, from one reading of them."""
    values, seen = [], []
    for part in images.split(batch_size):
        with at_rest(ask.vit.model):
            values.append(values_of(ask, part).cpu())
        if see is not None:
            with torch.no_grad():
                seen.append(torch.as_tensor(see(part)).float().cpu())
    return torch.cat(values).double().numpy(), seen


def _random_units(ask: Asked, draw: np.random.Generator) -> Asked:
    """Random units of the kinds that are asked for, over all blocks, so many of each."""
    units, places = [], []
    for kind in sorted({unit.kind for unit in ask.units}):
        among = [s for s, place in enumerate(ask.vit.places) if place.kind == kind]
        for site in draw.choice(among, RANDOM):
            place = ask.vit.places[site]
            units.append(Unit(place.block, int(draw.integers(place.width)), kind))
            places.append(int(site))
    return ask._replace(units=units, places=places)


def _by_labels(
    values: np.ndarray, numbers: np.ndarray, controls: int, draw: np.random.Generator
) -> dict[str, np.ndarray]:
    """For each unit the class that it tells best, its AUROC on the other half, and what that is with labels dealt out anew."""
    first = np.zeros(len(numbers), dtype=bool)
    for label in np.unique(numbers):
        first[draw.permutation((numbers == label).nonzero()[0])[::2]] = True
    halves = (first, ~first)
    ranks = [rankdata(values[half], axis=0) for half in halves]

    def named(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        member = np.eye(numbers.max() + 1)[numbers]
        here, there = (_auroc(r, member[half]) for r, half in zip(ranks, halves, strict=True))
        best = np.where(member[~first].any(0), here, -1).argmax(1)  # a class that the other half lacks has no score
        return best, there[np.arange(len(best)), best]

    best, score = named(numbers)
    chance = np.stack([named(draw.permutation(numbers))[1] for _ in range(controls)])
    return {"best": best, "score": score, "control": np.quantile(chance, SURE, axis=0)}


def _auroc(ranks: np.ndarray, member: np.ndarray) -> np.ndarray:
    """The area under the ROC curve (P, classes) of each unit, ranked over images (N, P), for each class's members (N, classes)."""
    count = member.sum(0)
    pairs = count * (len(member) - count)
    area = (ranks.T @ member - count * (count + 1) / 2) / np.maximum(pairs, 1)
    return np.where(pairs, area, 0.5)


def _similarity(seen: Tensor, words: list[str], read: Callable, n_images: int) -> np.ndarray:
    """The cosine of every image's vector (N, D) and word (N, W), in deviations from each word's mean over images."""
    with torch.no_grad():
        said = torch.as_tensor(read(words)).float().cpu()
    if seen.ndim != 2 or said.shape != (len(words), seen.shape[1]) or len(seen) != n_images:
        raise InputError(
            f"image_text makes vectors of shapes {tuple(seen.shape)} and {tuple(said.shape)}; expected ({n_images}, D) and "
            f"({len(words)}, D)"
        )
    near = (nn.functional.normalize(seen, dim=1) @ nn.functional.normalize(said, dim=1).T).double().numpy()
    return (near - near.mean(0)) / np.maximum(near.std(0), 1e-12)


def _by_words(
    values: np.ndarray, near: np.ndarray, n: int, controls: int, draw: np.random.Generator
) -> dict[str, np.ndarray]:
    """For each unit the word nearest to its favourites, its score, and the best word's of as many random images."""
    n = min(n, len(near))
    scores = np.stack([near[np.argsort(-column, kind="stable")[:n]].mean(0) for column in values.T])
    chance = [near[draw.choice(len(near), n, replace=False)].mean(0).max() for _ in range(controls)]
    best = scores.argmax(1)
    return {
        "best": best,
        "score": scores.max(1),
        "control": np.full(len(best), np.quantile(chance, SURE)),
    }
