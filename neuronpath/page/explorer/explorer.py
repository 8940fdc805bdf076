"""What the explorer knows and does: each question of the page is answered by a function, of plain data to plain data."""

import copy
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Event, Thread
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import InputError, InputTypeError, shown
from ...methods.find import heads_lack
from ...models.class_names import Names, class_namer
from ...models.hooks import alone
from ...models.outputs import logits_of
from ...models.view import view
from ...models.vit import ViT
from ...units import Unit, as_unit, place_of, units_named
from .gallery import Gallery, Given, Held
from .survey import Survey
from .turns import Kept, Turns

MOST_KEPT = 256  # answers
LIMIT = 500  # images read for favourites, means and names

Plain = dict[str, Any]


@dataclass(eq=False)
class Explored:
    """A model that is explored: what it is called, and how it is had in Python, as ``model``."""

    name: str
    model: nn.Module
    code: str
    class_names: Names | None = None
    seconds: float = 0.0
    """What a forward took, the last time."""

    @cached_property
    def vit(self) -> ViT:
        """The view, on all tokens, with heads where these can be reached."""
        vit = view(self.model, "all", "neurons" if heads_lack(self.model, "all") else "both")
        if not vit.has_head:
            raise InputTypeError(f"{self.name} has no classes, so no decision; expected a model with a head")
        return vit

    @cached_property
    def apart(self) -> ViT:
        """The view on a copy, on which slow work is done, so that who switches a unit needn't wait for it."""
        with alone(self.vit.model):  # or hooks of another's would be copied along
            return view(copy.deepcopy(self.vit.model), "all", units_named(self.vit.places))

    def name_of(self, label: int) -> str:
        """What a class is called."""
        return self._namer(label) or str(label)

    @cached_property
    def _namer(self) -> Callable[[int], str | None]:
        return class_namer(self.model, self.class_names)


@dataclass(eq=False)
class Explorer:
    """One or two models, the images, who may use the models, and what was found lately."""

    models: Sequence[Explored]
    given: Given
    limit: int = LIMIT
    reference: Given | None = None
    """Images over which means are taken; None is those that are given."""
    turns: Turns = field(default_factory=Turns)
    slow: Turns = field(default_factory=Turns)
    """Who may use the models' copies."""
    kept: Kept = field(default_factory=lambda: Kept(MOST_KEPT))

    def __post_init__(self) -> None:
        self.gallery = Gallery(self.given, [each.model for each in self.models])
        self.surveys = self.read = self._surveys(self.gallery)
        self.references = self.surveys
        if self.reference is not None:
            self.references = self._surveys(Gallery(self.reference, [each.model for each in self.models]))
            self.read = [*self.surveys, *self.references]
        self.ended = Event()

    def _surveys(self, gallery: Gallery) -> list[Survey]:
        return [Survey(each.vit, gallery, i, self.limit) for i, each in enumerate(self.models)]

    def begin(self) -> None:
        """Read the images in the background."""
        for survey in self.read:
            Thread(target=survey.run, args=(self.turns, self.ended), daemon=True).start()

    def once(self, key: Hashable, make: Callable[[], Any], turns: Turns, gone: Callable[[], bool]) -> Any:
        """What was found before, else what ``make`` finds when it is its turn."""
        if (found := self.kept.get(key)) is not None:
            return found
        with turns.turn(gone):
            found = self.kept.get(key)  # another may have asked the same meanwhile
            return self.kept.put(key, make()) if found is None else found


class Ask:
    """A question about an image and a model, its parts checked when they are looked at."""

    def __init__(self, explorer: Explorer, body: Any, gone: Callable[[], bool] = lambda: False) -> None:
        if not isinstance(body, dict):
            raise InputError("the question is no JSON object")
        self.explorer, self.body, self.gone = explorer, body, gone

    def text(self, name: str, choices: Sequence[str] = ()) -> str:
        """A text, one of the choices if there are any."""
        value = self.body.get(name)
        if not isinstance(value, str) or (choices and value not in choices):
            raise InputError(f"{name} is {shown(value)}; expected {' or '.join(choices) or 'a text'}")
        return value

    @property
    def number(self) -> int:
        """The model's."""
        value = self.body.get("model", 0)
        if type(value) is not int or not 0 <= value < len(self.explorer.models):
            raise InputError(f"model is {shown(value)}; expected 0 to {len(self.explorer.models) - 1}")
        return value

    @property
    def model(self) -> Explored:
        """The model."""
        return self.explorer.models[self.number]

    @property
    def survey(self) -> Survey:
        """The model's."""
        return self.explorer.surveys[self.number]

    @property
    def image(self) -> Held:
        """The image."""
        return self.explorer.gallery.image(self.text("image"))

    @property
    def unit(self) -> Unit:
        """The unit, of [kind, block, index]."""
        value = self.body.get("unit")
        if not isinstance(value, list) or len(value) != 3:
            raise InputError(f"unit is {shown(value)}; expected [kind, block, index]")
        unit = as_unit(tuple(value))
        place_of(unit, self.model.vit.places)
        return unit

    def about(self, other: Plain) -> "Ask":
        """The same question about another image or model."""
        return Ask(self.explorer, {**self.body, **other}, self.gone)

    def known(self, what: Hashable, image: bool = True) -> Any:
        """What was found of this model, and of this image, before; None where it wasn't."""
        return self.explorer.kept.get((self.image.id if image else None, self.number, what))

    def once(self, what: Hashable, make: Callable[[], Any], slow: bool = False, image: bool = True) -> Any:
        """What was found of this model, and of this image, before, else what ``make`` finds: alone at the model, or at its copy."""
        key = (self.image.id if image else None, self.number, what)
        return self.explorer.once(key, make, self.explorer.slow if slow else self.explorer.turns, self.gone)


def run(ask: Ask) -> Tensor:
    """The probabilities (classes,) of the image by the model as it is now; it takes the time."""
    model, pixels = ask.model, ask.image.pixels[ask.number]
    begun = time.perf_counter()
    logits = logits_of(model.model, pixels[None])[0]
    model.seconds = time.perf_counter() - begun
    if not torch.isfinite(logits).all():
        raise InputError(f"{model.name} gives NaN or infinity for this image")
    return logits.softmax(0)


def clean(ask: Ask) -> Tensor:
    """The probabilities (classes,) of the model as it is."""
    return ask.once("clean", lambda: run(ask))


def about(explorer: Explorer) -> Plain:
    """The models and how many images there are, for the page."""
    return {
        "models": [
            {
                "name": each.name,
                "blocks": len(each.vit.blocks),
                "kinds": units_named(each.vit.places),
                "places": [list(place) for place in each.vit.places],
            }
            for each in explorer.models
        ],
        "images": len(explorer.given.names),
        "labelled": explorer.given.labels is not None,
    }
