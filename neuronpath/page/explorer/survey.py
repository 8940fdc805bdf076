"""What every unit does on the images given, read in the background: favourites, means and names come from here."""

from collections import Counter
from collections.abc import Sequence
from threading import Event
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...checks import InputError
from ...features.names import names_by_labels
from ...features.values import Asked, asked
from ...models.hooks import at_rest
from ...models.outputs import run_model
from ...models.sites import visited
from ...models.vit import ViT
from ...units import Unit, place_of
from .gallery import Gallery
from .turns import Turns

BATCH = 8  # images at a time: between two of them others have the model
FAVOURITES = 8


class Survey:
    """Of one model's units: their values on each image, and the means of their channels.

    ``values`` a site (n, U), means over all tokens, of heads the norm; ``means`` a site (C,). Both of the ``done`` images read so far.
    """

    def __init__(self, vit: ViT, gallery: Gallery, model: int, limit: int) -> None:
        self.vit, self.gallery, self.model = vit, gallery, model
        self.numbers = spread(len(gallery.given.names), gallery.given.labels, limit)
        self.done = 0
        self.unread: set[int] = set()
        self.problem: str | None = None
        """Why they can't all be read, where it ended by that."""
        self._values = [torch.zeros(len(self.numbers), width) for width in vit.widths]
        self._sums = [torch.zeros(site.reader.in_features, dtype=torch.float64) for site in vit.sites]
        self._ended = Event()

    def run(self, turns: Turns, ended: Event) -> None:
        """Read all images, unless it is to end before; one that the model refuses ends it too."""
        try:
            self._read_all(turns, ended)
        except InputError as error:
            self.problem = str(error)
        except Exception as error:
            self.problem = f"this failed ({type(error).__name__}); the terminal says more"
            raise

    def _read_all(self, turns: Turns, ended: Event) -> None:
        like = next(self.vit.model.parameters())
        for start in range(0, len(self.numbers), BATCH):
            if ended.is_set():
                return
            batch: list[Tensor | None] = []
            for number in self.numbers[start : start + BATCH]:
                try:
                    batch.append(self.gallery.seen_by(self.gallery.given.read(number))[self.model])
                except InputError:
                    self.unread.add(number)
                    batch.append(None)
            there = [pixels for pixels in batch if pixels is not None]
            if there:
                with turns.spare():
                    self._read(torch.stack(there).to(like), [start + i for i, p in enumerate(batch) if p is not None])
            self.done = start + len(batch)
        self._ended.set()

    def _read(self, images: Tensor, rows: list[int]) -> None:
        def see(site: int, channels: Tensor) -> None:
            channels = self.vit.split(channels)[0]
            self._values[site][rows] = self.vit.sites[site].read(channels).float().mean(1).cpu()
            self._sums[site] += channels.double().mean(1).sum(0).cpu()

        with at_rest(self.vit.model), visited(self.vit.model, self.vit.sites, see):
            run_model(self.vit.model, images)

    @property
    def complete(self) -> bool:
        """Whether all images have been read, and there are any."""
        return self._ended.is_set() and self.done > len(self.unread)

    def check_complete(self, what: str) -> None:
        """Refuse what needs all images before they are read."""
        if not self.numbers:
            raise InputError(f"{what} wants images; expected neuronpath explore --images or --reference FOLDER")
        if self.problem:
            raise InputError(f"{what} wants all images, which can't be read: {self.problem}")
        if not self.complete:
            raise InputError(
                f"{what} wants all images: {self.done} of {len(self.numbers)} are read so far; try again soon"
            )

    def means(self) -> list[Tensor]:
        """The mean channels, a site (C,), of all images."""
        self.check_complete("a mean")
        return [total.float() / (self.done - len(self.unread)) for total in self._sums]

    def values_of(self, unit: Unit) -> Tensor:
        """A unit's values (n,) on the images read so far; those that couldn't be read are -infinity."""
        values = self._values[place_of(unit, self.vit.places)][: self.done, unit.index].clone()
        values[[at for at, number in enumerate(self.numbers[: self.done]) if number in self.unread]] = -torch.inf
        return values

    def favourites(self, unit: Unit) -> dict[str, Any]:
        """The images on which a unit is most active with its values, and how alike their classes are, beside other units'."""
        values = self.values_of(unit)
        best, at = values.topk(min(FAVOURITES, len(values)))
        found = [[self.numbers[i], float(f"{v:.4g}")] for i, v in zip(at.tolist(), best.tolist(), strict=True)]
        return {
            "images": [pair for pair in found if pair[1] > -np.inf],
            "read": self.done,
            "of": len(self.numbers),
            **self._purity(unit, at),
        }

    def _purity(self, unit: Unit, at: Tensor) -> dict[str, float | None]:
        """The share of the commonest class among favourites, and its mean over all units of the same site."""
        labels = self.gallery.given.labels
        if labels is None or not self.done:
            return {"purity": None, "random_purity": None}
        truth = np.array([labels[number] for number in self.numbers[: self.done]])
        site = self._values[place_of(unit, self.vit.places)][: self.done]
        best = site.topk(min(FAVOURITES, len(site)), dim=0).indices.numpy()
        return {
            "purity": _purest(truth[at.numpy()]),
            "random_purity": round(float(np.mean([_purest(truth[column]) for column in best.T[:200]])), 3),
        }

    def name(self, unit: Unit) -> dict[str, Any] | None:
        """The class that the unit tells best, as :func:`~neuronpath.name_units` has it; None where that can't be told."""
        labels = self.gallery.given.labels
        if labels is None or not self.complete:
            return None
        rows = [at for at, number in enumerate(self.numbers) if number not in self.unread]
        truth = np.array([labels[self.numbers[at]] for at in rows])
        if len(np.unique(truth)) < 2 or len(truth) < 4:
            return None

        def values(ask: Asked) -> np.ndarray:
            return torch.stack([self.values_of(each)[rows] for each in ask.units], 1).double().numpy()

        found = names_by_labels(asked(self.vit, [unit], "all"), truth, values, 200, np.random.default_rng(0)).iloc[0]
        keys = ("score", "control", "random_units")
        return {"name": found["name"], "best": found["best"], **{key: round(float(found[key]), 3) for key in keys}}


def _purest(labels: np.ndarray) -> float:
    return round(Counter(labels.tolist()).most_common(1)[0][1] / len(labels), 3)


def spread(count: int, labels: Sequence[int] | None, limit: int) -> list[int]:
    """The numbers of at most ``limit`` of so many images: of each class as many as there are, else evenly."""
    if count <= limit:
        return list(range(count))
    if labels is None:
        return [i * count // limit for i in range(limit)]
    turn: Counter[int] = Counter()
    order = []
    for number, label in enumerate(labels):
        order.append((turn[label], label, number))
        turn[label] += 1
    return sorted(number for _, _, number in sorted(order)[:limit])
