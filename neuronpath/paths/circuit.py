"""Circuit, the frozen result: for each image the few units that keep its decision alone, or break it when they go."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch
from torch import Tensor

from ..checks import InputError, check_index, check_number, check_one_of, checked
from ..options import CriterionName
from ..units import Unit, as_unit
from .columns import circuits_of, circuits_table, read_result, write_result
from .documents import check_circuit, class_names_of, figures, texts, without_nan
from .settings import Settings
from .tables import as_html, as_text, names_apart, names_of, of_passes, without_common_folder

FORMAT, VERSION = "neuronpath.circuit", 1
ROWS = 20  # in a notebook, at most


@dataclass(frozen=True, eq=False)
class Circuit:
    """A circuit for each of B images: some units, wherever they are. Tensors (B,) are on the CPU.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load()
        >>> circuit = nph.find_circuit(model, images[:2], reference=nph.demo.load("train")[1][:200])
        >>> len(circuit), bool((circuit.kept >= 0.9 * circuit.probability).all())
        (2, True)
    """

    units: tuple[tuple[Unit, ...], ...]
    """For each image its units, the most important first: by the log-odds' derivative to their gates when they were chosen."""
    found: Tensor
    """bool: whether the circuit does what was asked for; else it is the best that was found."""
    probability: Tensor
    """The model's probability of the target."""
    kept: Tensor
    """The probability that the circuit alone leaves: all other units are ablated."""
    left: Tensor
    """The probability without the circuit: its own units are ablated."""
    decision_kept: Tensor
    """bool: whether the circuit alone still decides for the target."""
    decision_flipped: Tensor
    """bool: whether the model without the circuit decides otherwise."""
    random_kept: Tensor
    """The control: the probability that a random circuit leaves alone, of as many heads and as many neurons."""
    random_left: Tensor
    """And without the random circuit."""
    rechecked: Tensor
    """With baseline "mean": ``kept`` with the mean over the other half of the references; else NaN."""
    wrong_class_size: Tensor
    """int64, of criterion "keep": the units that the same search needs to have the model say the runner-up with as much probability;
    -1 where it can't, or wasn't asked."""
    cost: Tensor
    """What the search took, in forward + backward passes; controls not counted."""
    target: Tensor
    """int64: the class that is kept or broken."""
    names: tuple[str, ...]
    """B names, of files as a rule."""
    criterion: CriterionName
    """ "keep", "break" or "both"."""
    keep: float
    """The share of the probability that counts as kept."""
    settings: Settings = Settings()  # noqa: RUF009  (frozen)
    """What made it: baseline, tokens, the model's name and sites, versions."""
    class_names: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    @checked
    def concat(cls, parts: Sequence["Circuit"]) -> "Circuit":
        """The circuits of all parts as one; they must have been sought in one way."""
        if not parts:
            raise InputError("concat got no circuits; expected at least one Circuit")
        for part in parts:
            if (part.criterion, part.keep, part.settings) != (parts[0].criterion, parts[0].keep, parts[0].settings):
                raise InputError(
                    "concat got circuits sought in different ways; expected the same criterion and settings in all"
                )
        merged: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in TENSORS}
        return replace(
            parts[0],
            units=tuple(units for part in parts for units in part.units),
            names=names_apart([part.names for part in parts]),
            class_names={label: name for part in parts for label, name in part.class_names.items()},
            **merged,
        )

    def __len__(self) -> int:
        return len(self.units)

    def __iter__(self) -> Iterator["Circuit"]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> "Circuit":
        """One image's, as a Circuit again (B = 1)."""
        row = range(len(self))[index]
        tensors: dict[str, Any] = {name: getattr(self, name)[row : row + 1] for name in TENSORS}
        return replace(self, units=(self.units[row],), names=(self.names[row],), **tensors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Circuit) and self._document() == other._document()

    def __repr__(self) -> str:
        sizes = f"{int(self.size.median())} units in the median" if len(self) else "empty"
        return f"Circuit({len(self)} images, criterion={self.criterion!r}, {sizes})"

    def _repr_html_(self) -> str:
        """How a notebook shows it: a row an image."""
        columns = {title: cells[:ROWS] for title, cells in self.columns().items()}
        return as_html(columns, repr(self), f"and {len(self) - ROWS} more images" if len(self) > ROWS else "")

    @property
    def size(self) -> Tensor:
        """(B,), int64: the number of units."""
        return torch.tensor([len(units) for units in self.units], dtype=torch.int64)

    @property
    def heads(self) -> Tensor:
        """(B,), int64: how many of them are heads."""
        return torch.tensor([sum(u.kind == "head" for u in units) for units in self.units], dtype=torch.int64)

    @checked
    def units_of(self, index: int) -> list[Unit]:
        """One image's units, the most important first."""
        check_index("index", index, len(self))
        return list(self.units[index])

    def masks(self) -> list[Tensor]:
        """Which units are the circuits', a site (B, U), bool; the sites are those of ``settings.sites``."""
        site = {(place.block, place.kind): s for s, place in enumerate(self.settings.sites)}
        masks = [torch.zeros(len(self), place.width, dtype=torch.bool) for place in self.settings.sites]
        for image, units in enumerate(self.units):
            for unit in units:
                masks[site[unit.block, unit.kind]][image, unit.index] = True
        return masks

    def columns(self) -> dict[str, list[str]]:
        """What a person reads first: a small table's columns by their titles, a cell an image."""
        return {
            "image": without_common_folder(self.names),
            "target": [self.class_names.get(c, str(c)) for c in self.target.tolist()],
            "found": ["yes" if found else "no" for found in self.found.tolist()],
            "units": [f"{n} ({h} heads)" for n, h in zip(self.size.tolist(), self.heads.tolist(), strict=True)],
            **{
                title: ["" if math.isnan(p) else f"{p:.3f}" for p in getattr(self, name).tolist()]
                for title, name in _SHOWN.items()
            },
            "flips": ["yes" if flips else "no" for flips in self.decision_flipped.tolist()],
        }

    def summary(self) -> str:
        """What circuits do, in one sentence, with their control."""
        of = f"{len(self)} image{'s' * (len(self) != 1)}, {self.settings.ablated}"
        kept = self.criterion != "break"
        figure, control = (self.kept, self.random_kept) if kept else (self.left, self.random_left)
        share, random = (float((each / self.probability).nanmean()) for each in (figure, control))
        compared = "" if math.isnan(random) else f" (random units of the same make-up: {random:.0%})"
        does = "the circuit alone keeps" if kept else "without the circuit there is"
        return (
            f"{of}: {int(self.size.median())} units in the median; {does} {share:.0%} of the target's probability on average"
            f"{compared}; without it {int(self.decision_flipped.sum())} of {len(self)} decisions change"
        )

    def to_text(self) -> str:
        """One line an image, under its titles."""
        return as_text(self.columns())

    def to_frame(self) -> pd.DataFrame:
        """One row for every unit of every image: image, name, block, kind, unit, rank (0 is the most important), and the figures."""
        rows = [
            (image, u.block, u.kind, u.index, rank)
            for image, units in enumerate(self.units)
            for rank, u in enumerate(units)
        ]
        frame = pd.DataFrame(rows, columns=["image", "block", "kind", "unit", "rank"])
        frame.insert(1, "name", names_of(frame["image"], self.names))
        frame = frame.assign(**of_passes(self.settings.passes, frame["block"]))
        return frame.assign(**{name: getattr(self, name).numpy()[frame["image"]] for name in TENSORS})

    @checked
    def save(self, path: str | os.PathLike, overwrite: bool = False) -> Path:
        """Write as JSON, or as Parquet (``.parquet``), whole or not at all; refuses an existing file unless ``overwrite``."""
        return write_result(path, self, circuits_table, Circuit._document, overwrite)

    @classmethod
    @checked
    def load(cls, path: str | os.PathLike) -> "Circuit":
        """Read what :meth:`save` wrote; raises InputError for another version or a damaged file."""
        return read_result(path, circuits_of, FORMAT, (VERSION,), "Circuit.save", cls._from_document)

    def _document(self) -> dict[str, Any]:
        columns = {name: without_nan(getattr(self, name).tolist()) for name in TENSORS}
        return {
            "format": FORMAT,
            "version": VERSION,
            "criterion": self.criterion,
            "keep": self.keep,
            "settings": self.settings.to_dict(),
            "class_names": {str(label): name for label, name in self.class_names.items()},
            "circuits": [
                {"name": name, "units": [list(unit) for unit in self.units[i]], **{c: v[i] for c, v in columns.items()}}
                for i, name in enumerate(self.names)
            ],
        }

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> "Circuit":
        circuits = document["circuits"]
        check_one_of("criterion", document["criterion"], get_args(CriterionName))
        check_number("keep", document["keep"], 0, 1)
        tensors = {
            name: figures(name, [c[name] for c in circuits], _KINDS.get(name, torch.float32)) for name in TENSORS
        }
        if any(values.shape != (len(circuits),) for values in tensors.values()):
            raise ValueError("a circuit's figure is no number")
        settings = Settings.from_dict(document["settings"])
        if not settings.sites:
            raise ValueError("the settings name no sites")
        units = tuple(tuple(as_unit(tuple(unit)) for unit in c["units"]) for c in circuits)
        for each in units:
            check_circuit(each, settings.sites)
        return cls(
            units=units,
            names=texts("name", [c["name"] for c in circuits]),
            criterion=document["criterion"],
            keep=document["keep"],
            settings=settings,
            class_names=class_names_of(document),
            **tensors,
        )


_SHOWN = {
    "probability": "probability",
    "circuit alone": "kept",
    "random alone": "random_kept",
    "without it": "left",
    "without random": "random_left",
}
TENSORS = tuple(f.name for f in fields(Circuit) if f.type is Tensor)
_KINDS = dict.fromkeys(("wrong_class_size", "target"), torch.int64) | dict.fromkeys(
    ("found", "decision_kept", "decision_flipped"), torch.bool
)
