"""Units changed by hand: what the model says then, what it says with random units changed alike, and the same in Python."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
from torch import Tensor

from ...checks import InputError, shown
from ...evaluation.interventions import enhance, remove, set_to
from ...models.hooks import alone
from ...models.vit import ViT
from ...units import Unit, as_unit, place_of, units_named

WAYS = {"off": "off", "double": "doubled", "mean": "at its mean"}  # in words
MOST = 4096  # units changed at once
Changes = Mapping[Unit, str]


def as_changes(given: object, vit: ViT) -> dict[Unit, str]:
    """What a request says is changed, [[kind, block, index, way], ...]; refuses units that the model lacks."""
    if not isinstance(given, list) or len(given) > MOST:
        raise InputError(f"changes is no list of at most {MOST}; expected [kind, block, index, way] each")
    found: dict[Unit, str] = {}
    for each in given:
        if not isinstance(each, list) or len(each) != 4 or not isinstance(each[3], str) or each[3] not in WAYS:
            raise InputError(f"changes holds {shown(each)}; expected [kind, block, index, one of {', '.join(WAYS)}]")
        unit = as_unit(tuple(each[:3]))
        place_of(unit, vit.places)
        found[unit] = each[3]
    return dict(sorted(found.items()))


@contextmanager
def changed(vit: ViT, changes: Changes, means: Sequence[Tensor] | None) -> Iterator[None]:
    """The model with units changed, on all tokens: off is 0, double twice what they are, mean that of ``means``."""
    with ExitStack() as stack:
        stack.enter_context(alone(vit.model))
        for way, units in _by_way(changes).items():
            if way == "mean":
                assert means is not None
                stack.enter_context(set_to(vit, units, means, units=units_named(vit.places), tokens="all"))
            elif way == "double":
                stack.enter_context(enhance(vit, units, 2.0, tokens="all"))
            else:
                stack.enter_context(remove(vit, units, tokens="all"))
        yield


def control_of(changes: Changes, vit: ViT) -> dict[Unit, str]:
    """Random units changed in the same ways: as many of each block and kind, none of those that are changed."""
    draw = np.random.default_rng(zlib.crc32(repr([tuple(unit) for unit in changes]).encode()))
    found: dict[Unit, str] = {}
    for place in vit.places:
        mine = [unit for unit in changes if (unit.block, unit.kind) == (place.block, place.kind)]
        others = np.setdiff1d(np.arange(place.width), [unit.index for unit in mine])
        drawn = draw.permutation(others)[: len(mine)]  # fewer where more than half are changed
        found |= {Unit(place.block, int(i), place.kind): changes[unit] for i, unit in zip(drawn, mine, strict=False)}
    return found


def _by_way(changes: Changes) -> dict[str, list[Unit]]:
    return {way: units for way in WAYS if (units := [unit for unit, how in changes.items() if how == way])}


def code_of(changes: Changes, kinds: str, all_code: str) -> str:
    """The lines of Python that do the same to ``model`` and ``images``."""
    lines, before = [], []
    for way, units in _by_way(changes).items():
        named = ", ".join(
            f"({unit.block}, {unit.index})" if unit.kind == "neuron" else f"('head', {unit.block}, {unit.index})"
            for unit in units
        )
        if way == "mean":
            others = ", ".join(["others", *all_code.split(" = ")[0].split(", ")[1:]])
            before = [
                f"{others} = {all_code.split(' = ', 1)[1]}",
                f"means = nph.mean_activations(model, others, units={kinds!r}, token='all')",
            ]
            lines.append(f"nph.set_to(model, [{named}], means, units={kinds!r}, tokens='all')")
        else:
            lines.append(
                f"nph.{'remove' if way == 'off' else 'enhance'}(model, [{named}]{', 2.0' if way == 'double' else ''}, tokens='all')"
            )
    head = f"with {lines[0]}:" if len(lines) == 1 else "with (\n" + "".join(f"    {each},\n" for each in lines) + "):"
    inside = ["    probabilities = model(images).softmax(1)"]
    return "\n".join([*before, head, *inside] if lines else ["probabilities = model(images).softmax(1)"])
