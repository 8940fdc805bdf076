"""NeuronPaths, the frozen result: which units each image's decision hangs on, and what they are worth."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from torch import Tensor

from ..checks import InputError, InputTypeError, check_count, check_index, checked
from ..units import Place, Unit
from ..version import __version__
from .columns import paths_of, paths_table, read_result, write_result
from .path_file import FORMAT, PER_UNIT, VERSIONS, as_document, from_document
from .settings import Settings
from .tables import as_html, as_text, names_of, of_passes, path_text, without_common_folder

ROWS = 20  # in a notebook, at most
DELTA = 1e-3  # what is aimed for


@dataclass(frozen=True, eq=False)
class NeuronPaths:
    """One path for each of B images: K units at each of S sites, from input to output. Tensors are on the CPU.

    With ``units="neurons"`` or ``"heads"`` the sites are the L blocks; with ``"both"`` each block's heads come before its neurons,
    S = 2 L.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load()
        >>> paths = nph.find_path(model, images[:2])
        >>> tuple(paths.neurons.shape)
        (2, 8, 1)
    """

    units: Tensor
    """(B, S, K), int64: the units, by their index at their site: of neurons in the block's hidden layer (the input of ``mlp.fc2``)."""
    activations: Tensor
    """(B, S, K): their values in the clean run, averaged over the tokens on which they are read; of a head its norm."""
    attribution: Tensor
    """(B, S, K): the complete attribution of every unit, in units of the output; sums to ``output_change`` + ``delta``."""
    score: Tensor
    """(B,): the joint attribution score; NaN for live influence, which has none."""
    output_change: Tensor
    """(B,): F(1) - F(0): of live influence ``removal``, else what the output loses while all other units are held."""
    delta: Tensor
    """(B,): the quadrature's error."""
    n_steps: Tensor
    """(B,), int64: the nodes of the quadrature that these figures took."""
    removal: Tensor
    """(B,): what the output loses when the path's units are really ablated and all else follows; measured."""
    enhancement: Tensor
    """(B,): what the output gains when what the units differ by from their ablated values is really doubled; NaN where unknown."""
    left: Tensor
    """(B,): the target's probability with the path ablated; NaN for a model without classes."""
    random_left: Tensor
    """(B,): the control: that probability with a random path of as many units ablated in its place; NaN where unknown."""
    predicted_without: Tensor
    """(B,), int64: what the model says with the path ablated; -1 for a model without classes."""
    sweeps: Tensor
    """(B,), int64: how often the whole path was computed anew in the search; 0 for methods that don't refine."""
    converged: Tensor
    """(B,), bool: whether the refinement ended because no change promised anything any more."""
    target: Tensor
    """(B,), int64: the explained class; -1 where there is none."""
    probability: Tensor
    """(B,): the model's probability of the target, in the clean run; NaN for a model without classes."""
    predicted: Tensor
    """(B,), int64: the model's own choice; -1 for a model without classes."""
    predicted_probability: Tensor
    """(B,): and its probability; NaN for a model without classes."""
    names: tuple[str, ...]
    """B names, of files as a rule."""
    settings: Settings = Settings()  # noqa: RUF009  (frozen)
    """What made the paths: method, quadrature, output, tokens, the model's name and sites, versions."""
    class_names: Mapping[int, str] = field(default_factory=dict)
    """Names of the classes that occur, where they are known."""

    def __len__(self) -> int:
        return len(self.target)

    def __iter__(self) -> Iterator["NeuronPaths"]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor | np.ndarray) -> "NeuronPaths":
        """Some of the images, as NeuronPaths again; a single index gives one image's (B = 1)."""
        try:
            chosen = np.atleast_1d(np.arange(len(self))[index.cpu().numpy() if isinstance(index, Tensor) else index])
        except IndexError as error:
            raise IndexError(f"{error}; there are {len(self)} paths") from None
        rows = torch.from_numpy(chosen)
        return replace(
            self,
            names=tuple(self.names[i] for i in chosen),
            **{name: getattr(self, name)[rows] for name in TENSORS},
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NeuronPaths) and as_document(self) == as_document(other)

    def __repr__(self) -> str:
        blocks = len({place.block for place in self.places})
        k = self.units.shape[2]
        each = " and ".join(f"{k} {kind}{'s' * (k > 1)}" for kind in dict.fromkeys(p.kind for p in self.places))
        return f"NeuronPaths({len(self)} images, {blocks} blocks, {each} a block, method={self.settings.method!r})"

    def _repr_html_(self) -> str:
        """How a notebook shows it: a row an image."""
        left_out = f"and {len(self) - ROWS} more images" if len(self) > ROWS else ""
        return as_html(self[:ROWS].columns(), repr(self), left_out)

    @property
    def places(self) -> list[Place]:
        """The S sites: block, kind, and how many units there are, as far as it is known (at least those that occur)."""
        occur = enumerate(self.units.unbind(1))
        return list(self.settings.sites) or [Place(block, "neuron", int(found.max()) + 1) for block, found in occur]

    @property
    def neurons(self) -> Tensor:
        """(B, L, K): of ``units`` the neurons, block by block; L is 0 for paths of heads alone."""
        return self._of_kind("neuron")

    @property
    def heads(self) -> Tensor:
        """(B, L, K): of ``units`` the heads, block by block; L is 0 for paths of neurons alone."""
        return self._of_kind("head")

    def _of_kind(self, kind: str) -> Tensor:
        return self.units[:, [site for site, place in enumerate(self.places) if place.kind == kind]]

    @checked
    def units_of(self, index: int) -> list[Unit]:
        """The units of one image's path by their names, site by site."""
        check_index("index", index, len(self))
        return [
            Unit(p.block, i, p.kind)
            for p, row in zip(self.places, self.units[index].tolist(), strict=True)
            for i in row
        ]

    def columns(self) -> dict[str, list[str]]:
        """What a person reads first: a small table's columns by their titles, a cell an image.

        In "path" a block's neurons stand as numbers, its heads as h0, h1, ..., several units of one block are joined by "+", and
        those of negative attribution stand in brackets; "|" is between two loops of a recursive model. "without it" is the target's
        probability with the path ablated, "without random" with a random path in its place, "flips" what the model says without
        the path. A relative delta above 0.1 % is marked "!".
        """
        columns = {
            "image": without_common_folder(self.names),
            "predicted": self._with_probability(self.predicted, self.predicted_probability),
            "target": [self.name_of(c) if c >= 0 else "" for c in self.target.tolist()],
            "path": [
                path_text(self.places, *path, self.settings.passes)
                for path in zip(self.units.tolist(), self.attribution.tolist(), strict=True)
            ],
            "score": ["" if math.isnan(score) else f"{score:.4g}" for score in self.score.tolist()],
            "attribution": [f"{a:.4g}" for a in self.attribution.sum((1, 2)).tolist()],
            "without it": ["" if math.isnan(p) else f"{p:.3f}" for p in self.left.tolist()],
            "without random": ["" if math.isnan(p) else f"{p:.3f}" for p in self.random_left.tolist()],
            "flips": [self._said(i) for i in range(len(self))],
            "relative delta": [f"{d:.0e}{' !' if d > DELTA else ''}" for d in self.relative_delta.tolist()],
        }
        left_out = {
            "target": torch.equal(self.predicted, self.target),
            "score": bool(self.score.isnan().all()),
            "attribution": self.settings.influence == "live",  # sums to what removal takes
        }
        return {title: cells for title, cells in columns.items() if not left_out.get(title)}

    def _with_probability(self, classes: Tensor, probabilities: Tensor) -> list[str]:
        both = zip(classes.tolist(), probabilities.tolist(), strict=True)
        return [f"{self.name_of(c)} {p:.3f}" if c >= 0 else "" for c, p in both]

    def _said(self, index: int) -> str:
        """Whether the decision changes without the path, and to what."""
        if self.predicted_without[index] < 0:
            return ""
        return f"to {self.name_of(int(self.predicted_without[index]))}" if self.decision_flipped[index] else "no"

    @checked
    def to_text(self, width: int | None = None) -> str:
        """One line an image, under its titles; of no more than ``width`` letters where the paths have lines of their own instead."""
        if width is not None:
            check_count("width", width)
        return as_text(self.columns(), width)

    def summary(self) -> str:
        """What really removing the paths does, in one sentence."""
        known = ~self.left.isnan()
        of = f"{len(self)} image{'s' * (len(self) != 1)}, {self.settings.ablated}"
        if not known.any():
            return f"{of}: removing the path takes {float(self.removal.mean()):.4g} from the output on average"
        taken, control = (
            round(float((1 - p[known] / self.probability[known]).mean()), 2) + 0.0  # no "-0%"
            for p in (self.left, self.random_left)
        )
        return (
            f"{of}: removing the path takes {taken:.0%} of the target's probability on average (a random path: {control:.0%}) "
            f"and changes {int(self.decision_flipped.sum())} of {len(self)} decisions"
        )

    @property
    def decision_flipped(self) -> Tensor:
        """(B,), bool: whether the model says another class with the path ablated."""
        return (self.predicted_without >= 0) & (self.predicted_without != self.predicted)

    @property
    def relative_delta(self) -> Tensor:
        """(B,): \\|delta\\| as a share of \\|output_change\\|, or of 1e-6 where the change is less, which is rounding."""
        return self.delta.abs() / self.output_change.abs().clamp(min=1e-6)

    @checked
    def name_of(self, label: int | Tensor) -> str:
        """A class's name where it is known, else its number."""
        if isinstance(label, Tensor) and (label.numel() != 1 or label.is_floating_point() or label.is_complex()):
            raise InputTypeError(f"label is a tensor of shape {tuple(label.shape)}, {label.dtype}; expected one class")
        return self.class_names.get(int(label), str(int(label)))

    @checked
    def renamed(self, names: Sequence[str]) -> "NeuronPaths":
        """The same paths with other names of the images."""
        check_names(names, len(self))
        return replace(self, names=tuple(map(str, names)))

    def to_frame(self) -> pd.DataFrame:
        """One row for every unit of every path: image, block (recursive: its loop too), kind, rank (0 .. K - 1), unit and its worth.

        With the names of the classes, where they are known: target_name, predicted_name and predicted_without_name.
        """
        index = np.indices(tuple(self.units.shape)).reshape(3, -1)
        blocks, kinds, _ = (np.array(column) for column in zip(*self.places, strict=True))
        per_image = {name: getattr(self, name).numpy()[index[0]] for name in _PER_IMAGE}
        return pd.DataFrame(
            {
                "image": index[0],
                "name": names_of(index[0], self.names),
                "block": blocks[index[1]],
                **of_passes(self.settings.passes, blocks[index[1]]),
                "kind": kinds[index[1]],
                "rank": index[2],
                "unit": self.units.flatten().numpy(),
                "activation": self.activations.flatten().numpy(),
                "attribution": self.attribution.flatten().numpy(),
                **per_image,
                **self._class_names(per_image),
            }
        )

    def _class_names(self, columns: Mapping[str, np.ndarray]) -> dict[str, pd.Series]:
        """Of a table's columns of classes those of their names, where any is known."""
        known = {
            name: [self.class_names.get(c) for c in columns[name].tolist()] for name in _CLASSES if self.class_names
        }
        return {f"{name}_name": pd.Series(names, dtype=object) for name, names in known.items()}

    @checked
    def save(self, path: str | os.PathLike, overwrite: bool = False) -> Path:
        """Write as JSON, or as Parquet (``.parquet``), whole or not at all; refuses an existing file unless ``overwrite``."""
        return write_result(path, self, paths_table, as_document, overwrite)

    @classmethod
    @checked
    def load(cls, path: str | os.PathLike) -> "NeuronPaths":
        """Read what :meth:`save` wrote; raises InputError for another version or a damaged file."""
        return read_result(path, paths_of, FORMAT, VERSIONS, "NeuronPaths.save", partial(from_document, cls))


def check_as_many(paths: NeuronPaths, images: Tensor) -> None:
    if len(images) != len(paths):
        raise InputError(f"images holds {len(images)} images for {len(paths)} paths; expected as many")


def check_any(paths: NeuronPaths) -> None:
    if not len(paths):
        raise InputError("these paths are of no image; expected at least one")


def versions() -> dict[str, str]:
    """Of what makes a result, for the record."""
    return {"neuronpath": __version__, "timm": timm.__version__, "torch": str(torch.__version__)}


def check_names(names: Sequence[str], count: int, each: str = "an image") -> None:
    if isinstance(names, str):
        raise InputTypeError(f"names is a single text, {names!r}; expected one {each}")
    if len(names) != count:
        raise InputError(f"names holds {len(names)} names for {count} {each.split()[1]}s; expected one {each}")


TENSORS = tuple(f.name for f in fields(NeuronPaths) if f.type is Tensor)
_CLASSES = ("target", "predicted", "predicted_without")
_PER_IMAGE = tuple(name for name in TENSORS if name not in PER_UNIT)
