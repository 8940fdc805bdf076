"""Presets: names for a choice of :func:`find_path`'s options."""

from dataclasses import dataclass

from ..checks import check_one_of
from ..options import Effort, MethodName, Objective
from . import progressive
from .registry import Method


@dataclass(frozen=True)
class Preset:
    """What it settles; None leaves the choice open."""

    method: MethodName | None = None
    objective: Objective | None = None
    effort: Effort | None = None
    n_steps: int | None = None
    way: Method | None = None  # in place of the method that the registry has


PRESETS = {
    "complete": Preset("joint", "complete"),
    "joint-thorough": Preset("joint", effort="thorough"),
    "paper": Preset(
        "joint",
        "joint",
        "standard",
        20,
        Method(progressive.locate_as_published, "riemann_left", units=progressive.UNITS),
    ),
    "progressive": Preset(
        "joint",
        "joint",
        "standard",
        way=Method(progressive.locate_progressive, "gausslegendre", units=progressive.UNITS),
    ),
}


def list_presets() -> list[str]:
    """The names that ``find_path(preset=...)`` takes."""
    return sorted(PRESETS)


def preset_named(name: str | None) -> Preset:
    """The preset; of None the one that leaves all open."""
    if name is None:
        return Preset()
    check_one_of("preset", name, list_presets())
    return PRESETS[name]
