"""What a unit stands for: its value and map on the image, its favourites, its name, its pixels, an image made for it."""

import base64

import torch
from torch import Tensor

from ...checks import InputError
from ...data.pixels import data_uri, to_pixels
from ...features.activations import unit_maps
from ...features.pixel_attribution import pixel_attribution
from ...features.values import asked, values_of
from ...features.visualise import visualise
from ...models.hooks import at_rest
from ..scene import encoded
from .explorer import Ask, Plain

NODES, STEPS = 32, 128  # of pixels' integral, and of the image that is made
MOST = 0.995  # of the pixels: beyond their size the colours don't deepen


def face(ask: Ask) -> Plain:
    """A unit's value and map on the image, the images given that it likes best, and the class that it tells."""
    unit, survey, vit = ask.unit, ask.survey, ask.model.vit
    pixels = ask.image.pixels[ask.number][None]

    def look() -> Plain:
        with at_rest(vit.model):
            value = float(values_of(asked(vit, [unit], "all"), pixels)[0, 0])
        maps = unit_maps(vit, pixels, [[unit]])[0]
        return {"value": _short(value), "grid": list(maps.shape[1:]), **encoded(maps)}

    def named() -> Plain | None:
        return survey.name(unit)

    found = ask.once(("face", unit), look)
    name = ask.once(("name", unit), named, slow=True, image=False) if survey.complete else None
    likes = survey.favourites(unit) if survey.done else None
    return {**found, "title": str(unit), "likes": likes, "name": name}


def pixels(ask: Ask) -> Plain:
    """What each pixel of the image adds to the unit's value."""
    unit, vit = ask.unit, ask.model.apart
    image = ask.image.pixels[ask.number][None]

    def attribute() -> Plain:
        found = pixel_attribution(vit, image, [unit], token="all", n_steps=NODES)
        added = found.attribution[0, 0].sum(0)  # over channels
        most = float(added.abs().flatten().quantile(MOST)) if added.numel() < 1e7 else float(added.abs().max())
        change = float(found.change[0, 0])
        return {
            "size": list(added.shape),
            "pixels": _bytes(added, most or 1.0),
            "change": _short(change),
            "missing": _short(abs(float(found.delta[0, 0])) / max(abs(change), 1e-12)),
        }

    return ask.once(("pixels", unit), attribute, slow=True)


def made(ask: Ask) -> Plain:
    """An image made to excite the unit, and the most that the images given do."""
    unit, vit, survey = ask.unit, ask.model.apart, ask.survey

    def make() -> Plain:
        found = visualise(vit, [unit], steps=STEPS, token="all")
        return {"picture": data_uri(to_pixels(found.images[0], vit.model)), "value": _short(float(found.values[0]))}

    picture = ask.once(("made", unit), make, slow=True, image=False)
    best = float(survey.values_of(unit).max()) if survey.done > len(survey.unread) else None
    return {**picture, "best": None if best is None else _short(best)}


def _bytes(values: Tensor, most: float) -> str:
    """Values as bytes -127 to 127 of ``most``, row by row, in base64."""
    return base64.b64encode((127 * values / most).clamp(-127, 127).round().to(torch.int8).numpy().tobytes()).decode()


def _short(value: float) -> float:
    if value != value or abs(value) == float("inf"):
        raise InputError("the unit's value is NaN or infinity here")
    return float(f"{value:.4g}")
