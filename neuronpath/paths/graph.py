"""PathGraph, the frozen result: what each unit of a path or circuit does directly on later ones, and straight on the output."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from ..checks import InputError, checked
from ..units import Unit, as_unit, place_of
from .documents import class_names_of, figures, read_document, texts, without_nan, write_document
from .settings import Settings
from .tables import as_html, as_text, names_of, without_common_folder

FORMAT, VERSION = "neuronpath.graph", 1
ROWS = 20  # in a notebook, at most
OUTPUT = "output"


class Edge(NamedTuple):
    """A direct effect: what the output loses when the receiver alone doesn't get what the sender writes."""

    sender: Unit
    receiver: Unit | None
    """None is the output."""
    effect: float

    def __str__(self) -> str:
        return f"{_short(self.sender)} > {_short(self.receiver)} {self.effect:+.3g}"


@dataclass(frozen=True, eq=False)
class PathGraph:
    """A graph for each of B images, between the n units of its path or circuit; n may differ. Tensors are on the CPU.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load()
        >>> paths = nph.find_path(model, images[:2], units="heads")
        >>> graph = nph.path_graph(model, images[:2], paths)
        >>> len(graph), tuple(graph.effects[0].shape)
        (2, (8, 9))
    """

    units: tuple[tuple[Unit, ...], ...]
    """For each image its units, in the order in which the model runs: of a block first the heads."""
    effects: tuple[Tensor, ...]
    """For each image (n, n + 1): row i is what unit i does on each unit, and last straight on the output; NaN on units that aren't
    later. Positive effects raise F."""
    total: tuple[Tensor, ...]
    """For each image (n,): what F loses when the unit is ablated and all else follows, also through units that aren't in the graph."""
    value: Tensor
    """(B,): F, without anything taken away."""
    pearson: Tensor
    """(B,): the correlation of the estimates with real patching, over the edges between units; NaN where it wasn't asked for."""
    target: Tensor
    """(B,), int64: the class that is explained; -1 where there is none."""
    probability: Tensor
    """(B,): the model's probability of the target, in the clean run; NaN for a model without classes."""
    names: tuple[str, ...]
    """B names, of files as a rule."""
    inside: bool = False
    """Whether all other units were ablated."""
    patched: bool = False
    """Whether the effects between units are of real patching; else they are estimates."""
    settings: Settings = Settings()  # noqa: RUF009  (frozen)
    """What made the path or circuit, but for baseline, output, seed, precision and versions, which are the graph's."""
    class_names: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.units)

    def __iter__(self) -> Iterator["PathGraph"]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> "PathGraph":
        """One image's, as a PathGraph again (B = 1)."""
        row = range(len(self))[index]
        several: dict[str, Any] = {name: (getattr(self, name)[row],) for name in ("units", "effects", "total", "names")}
        tensors: dict[str, Any] = {name: getattr(self, name)[row : row + 1] for name in _PER_IMAGE}
        return replace(self, **several, **tensors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathGraph) and self._document() == other._document()

    def __repr__(self) -> str:
        how = "patched" if self.patched else "estimated"
        where = ", all other units ablated" if self.inside else ""
        return f"PathGraph({len(self)} images, {sum(map(len, self.units))} units, effects {how}{where})"

    def _repr_html_(self) -> str:
        """How a notebook shows it: a row an image."""
        columns = {title: cells[:ROWS] for title, cells in self.columns().items()}
        return as_html(columns, repr(self), f"and {len(self) - ROWS} more images" if len(self) > ROWS else "")

    def edges_of(self, index: int) -> list[Edge]:
        """One image's edges, the largest effect, of either sign, first; those straight to the output among them."""
        units, receivers = self.units[index], (*self.units[index], None)
        edges = [
            Edge(sender, receiver, effect)
            for sender, row in zip(units, self.effects[index].tolist(), strict=True)
            for receiver, effect in zip(receivers, row, strict=True)
            if not math.isnan(effect)
        ]
        return sorted(edges, key=lambda edge: -abs(edge.effect))

    @property
    def straight(self) -> Tensor:
        """(B,): of the sum of all effects' sizes the share that goes straight to the output."""
        sizes = [effects.abs() for effects in self.effects]
        return torch.tensor([float(size[:, -1].sum() / size.nansum()) if size.numel() else math.nan for size in sizes])

    def columns(self) -> dict[str, list[str]]:
        """What a person reads first: a small table's columns by their titles, a cell an image.

        In "strongest" 4h2 is head 2 of block 4, 4.163 its neuron 163.
        """
        edges = [[edge for edge in self.edges_of(i) if edge.receiver] for i in range(len(self))]
        columns = {
            "image": without_common_folder(self.names),
            "target": [self.class_names.get(c, str(c)) if c >= 0 else "" for c in self.target.tolist()],
            "units": [str(len(units)) for units in self.units],
            "edges": [str(len(each)) for each in edges],
            "straight to the output": ["" if math.isnan(share) else f"{share:.0%}" for share in self.straight.tolist()],
            "strongest": [", ".join(map(str, each[:3])) for each in edges],
        }
        if self.patched:
            columns["pearson"] = ["" if math.isnan(r) else f"{r:.3f}" for r in self.pearson.tolist()]
        return columns

    def to_text(self) -> str:
        """One line an image, under its titles."""
        return as_text(self.columns())

    def to_frame(self) -> pd.DataFrame:
        """One row an edge, the largest effect of each image first. The output is of kind "output" and has no block and unit (NA)."""
        rows = [
            (i, *_cells(edge.sender), *_cells(edge.receiver), edge.effect)
            for i in range(len(self))
            for edge in self.edges_of(i)
        ]
        ends = [f"{end}_{part}" for end in ("sender", "receiver") for part in ("block", "kind", "unit")]
        frame = pd.DataFrame(rows, columns=["image", *ends, "effect"])
        frame.insert(1, "name", names_of(frame["image"], self.names))
        return frame.astype({f"receiver_{part}": "Int64" for part in ("block", "unit")})

    def to_networkx(self, index: int) -> Any:
        """One image's graph as a ``networkx.DiGraph``.

        Its nodes are :class:`~neuronpath.Unit` and "output", with the attributes block, kind, unit and total; its edges have the
        attribute effect, and weight, its size. Raises InputError where networkx isn't installed.
        """
        try:
            import networkx
        except ImportError:
            raise InputError("networkx isn't installed; expected it for to_networkx: pip install networkx") from None
        graph = networkx.DiGraph(name=self.names[index])
        for unit, total in zip(self.units[index], self.total[index].tolist(), strict=True):
            graph.add_node(unit, block=unit.block, kind=unit.kind, unit=unit.index, total=total)
        graph.add_node(OUTPUT, kind=OUTPUT)
        for sender, receiver, effect in self.edges_of(index):
            graph.add_edge(sender, receiver or OUTPUT, effect=effect, weight=abs(effect))
        return graph

    @checked
    def save(self, path: str | os.PathLike, overwrite: bool = False) -> Path:
        """Write as JSON, whole or not at all; refuses an existing file unless ``overwrite``."""
        return write_document(path, self._document(), overwrite)

    @classmethod
    @checked
    def load(cls, path: str | os.PathLike) -> "PathGraph":
        """Read what :meth:`save` wrote; raises InputError for another version or a damaged file."""
        return read_document(path, FORMAT, (VERSION,), "PathGraph.save", cls._from_document)

    def _document(self) -> dict[str, Any]:
        per_image = {name: without_nan(getattr(self, name).tolist()) for name in _PER_IMAGE}
        return {
            "format": FORMAT,
            "version": VERSION,
            "inside": self.inside,
            "patched": self.patched,
            "settings": self.settings.to_dict(),
            "class_names": {str(label): name for label, name in self.class_names.items()},
            "graphs": [
                {
                    "name": name,
                    "units": [list(unit) for unit in self.units[i]],
                    "effects": without_nan(self.effects[i].tolist()),
                    "total": self.total[i].tolist(),
                    **{column: values[i] for column, values in per_image.items()},
                }
                for i, name in enumerate(self.names)
            ],
        }

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> "PathGraph":
        graphs = document["graphs"]
        units = [tuple(as_unit(tuple(unit)) for unit in graph["units"]) for graph in graphs]
        settings, wide = Settings.from_dict(document["settings"]), [len(mine) for mine in units]
        for unit in (unit for mine in units for unit in mine if settings.sites):
            place_of(unit, settings.sites)  # refuses a unit that isn't there
        tensors: dict[str, Any] = {
            name: figures(name, [graph[name] for graph in graphs], _KINDS.get(name, torch.float32))
            for name in _PER_IMAGE
        }
        if any(values.shape != (len(graphs),) for values in tensors.values()):
            raise ValueError("a graph's figure is no number")
        if not all(isinstance(document[name], bool) for name in ("inside", "patched")):
            raise ValueError("inside and patched are neither true nor false")
        return cls(
            units=tuple(units),
            effects=tuple(_filled("effects", graph, n, n + 1) for graph, n in zip(graphs, wide, strict=True)),
            total=tuple(_filled("total", graph, n) for graph, n in zip(graphs, wide, strict=True)),
            names=texts("name", [graph["name"] for graph in graphs]),
            inside=document["inside"],
            patched=document["patched"],
            settings=settings,
            class_names=class_names_of(document),
            **tensors,
        )


def _short(unit: Unit | None) -> str:
    """A unit in few letters: 4.163 is neuron 163 of block 4, 4h2 its head 2."""
    if unit is None:
        return OUTPUT
    return f"{unit.block}{'h' if unit.kind == 'head' else '.'}{unit.index}"


def _cells(unit: Unit | None) -> tuple[int | None, str, int | None]:
    return (None, OUTPUT, None) if unit is None else (unit.block, unit.kind, unit.index)


def _filled(name: str, graph: dict[str, Any], *shape: int) -> Tensor:
    """A tensor of this shape; where it has no rows, lists don't say how wide it is."""
    found = figures(name, graph[name], maybe_unknown=name == "effects") if graph[name] else torch.zeros(0, *shape[1:])
    if found.shape != shape:
        raise ValueError(f"{shape[0]} units, and {name} of another number")
    return found


_PER_IMAGE = ("value", "pearson", "target", "probability")
_KINDS = {"target": torch.int64}
