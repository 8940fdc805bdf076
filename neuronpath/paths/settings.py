"""What made a result: every choice of the call, the model's sites, the versions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_type_hints

from ..checks import fits, shown, words
from ..options import Baseline, Influenced, Precision, Rule, Token, Units
from ..units import KINDS, Place, Unit, units_named


@dataclass(frozen=True)
class Settings:
    """What made paths: :func:`~neuronpath.find_path`'s arguments as they were taken, and what model they were taken to."""

    method: str = "unknown"
    objective: str = "joint"
    effort: str = "standard"
    preset: str | None = None
    top_k: int = 1
    output: str = "prob"
    """The output's name; of a function of the user's own its qualified name."""
    token: Token = "pooled"
    """The tokens that units are read on: "cls", "patch", "all" or "pooled"."""
    baseline: Baseline = "zero"
    """What units are ablated to in live runs."""
    influence: Influenced = "frozen"
    """What the attributions are of: "frozen", all other units held; "live", nothing held."""
    quadrature: Rule = "gausslegendre"
    n_steps: int | None = None
    seed: int = 0
    precision: Precision | None = None
    model: str = "unknown"
    """The architecture's name."""
    sites: tuple[Place, ...] = field(default=(), repr=False)
    """(block, kind, width) of every site; empty where it isn't known."""
    passes: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    """Of a model whose blocks share weights the (loop, shared block) of every block; empty for any other."""
    fingerprint: str | None = None
    """A name for the names and shapes of the model's weights."""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def units(self) -> Units:
        """ "neurons", "heads" or "both"."""
        return units_named(self.sites) if self.sites else "neurons"

    @property
    def ablated(self) -> str:
        """What units are ablated to, in words."""
        return {
            "zero": "units ablated to 0",
            "mean": "units ablated to their mean over the reference",
            "resample": "units ablated to those of other images",
            "paired": "units ablated to those of the paired images",
        }[self.baseline]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        found = {**asdict(self), "sites": [list(place) for place in self.sites], "versions": dict(self.versions)}
        if not self.passes:  # as files were before models could loop
            del found["passes"]
        return found

    def name_of(self, unit: Unit) -> str:
        """A unit's name: by its block, or by loop and shared block where the model's blocks share weights."""
        if not self.passes:
            return str(unit)
        loop, shared = self.passes[unit.block]
        return f"loop {loop}, block {shared}, {unit.kind} {unit.index}"

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Settings":
        """What :meth:`to_dict` gave; raises ValueError or TypeError for anything else."""
        found, hints = dict(found), get_type_hints(cls)
        unknown = found.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"settings hold {min(unknown)!r}")
        for name, value in found.items():
            if name not in ("sites", "passes") and not fits(value, hints[name]):
                raise ValueError(f"settings hold {shown(value)} as {name}; expected {words(hints[name])}")
        sites = tuple(Place(block, kind, width) for block, kind, width in found.get("sites", ()))
        if any(type(place.block) is not int or type(place.width) is not int for place in sites):
            raise ValueError("settings hold a site whose block and width are no whole numbers")
        if any(place.kind not in KINDS["both"] or place.width < 1 or place.block < 0 for place in sites):
            raise ValueError("settings hold a site of no kind that is known")
        passes = tuple((loop, shared) for loop, shared in found.get("passes", ()))
        if passes and {type(number) for each in passes for number in each} != {int}:
            raise ValueError("settings hold passes that are no whole numbers")
        if passes and len(passes) <= max((place.block for place in sites), default=0):
            raise ValueError("settings hold fewer passes than blocks")
        return cls(**{**found, "sites": sites, "passes": passes, "versions": dict(found.get("versions", {}))})

    @classmethod
    def from_version_1(cls, found: Mapping[str, Any]) -> "Settings":
        """Of files that knew neurons only, their sites by the blocks' widths, and ``locate`` beside ``preset``."""
        found = dict(found)
        widths = found.pop("widths", None) or []
        found["preset"] = found.get("preset") or found.get("locate")
        known = {key: value for key, value in found.items() if key in {f.name for f in fields(cls)}}
        return cls.from_dict({**known, "sites": [(block, "neuron", width) for block, width in enumerate(widths)]})
