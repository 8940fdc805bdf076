"""NeuronPaths, the frozen result: which neurons carry each image's decision, and what they are worth."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from torch import Tensor

from ..checks import InputError, InputTypeError
from ..files import write_whole
from ..models.vit import ViT
from .tables import html_table

FORMAT, VERSION = "neuronpath.paths.neuron_paths", 1


@dataclass(frozen=True, eq=False)
class NeuronPaths:
    """One path for each of B images: K neurons in each of L blocks, from input to output. Tensors are on the CPU.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load()
        >>> paths = nph.find_path(model, images[:2])
        >>> tuple(paths.neurons.shape)
        (2, 8, 1)
    """

    neurons: Tensor
    """(B, L, K), int64: the neurons, by their index in the block's hidden layer (the input of ``mlp.fc2``)."""
    activations: Tensor
    """(B, L, K): their values in the clean run, averaged over the tokens on which they are read."""
    attribution: Tensor
    """(B, L, K): the complete attribution of every neuron, in units of the output; sums to ``output_change`` + ``delta``."""
    score: Tensor
    """(B,): the joint attribution score."""
    output_change: Tensor
    """(B,): F(1) - F(0), what the output loses when the path's neurons go to 0 while all others are held."""
    delta: Tensor
    """(B,): the quadrature's error."""
    n_steps: Tensor
    """(B,), int64: the nodes of the quadrature that these figures took."""
    removal: Tensor
    """(B,): what the output loses when the path's neurons are really set to 0 and all else follows; measured."""
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
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What made the paths: method, quadrature, output, tokens, the model's name and widths, versions."""
    class_names: Mapping[int, str] = field(default_factory=dict)
    """Names of the classes that occur, where they are known."""

    def __len__(self) -> int:
        return len(self.target)

    def __iter__(self) -> Iterator["NeuronPaths"]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor | np.ndarray) -> "NeuronPaths":
        """Some of the images, as NeuronPaths again; a single index gives one image's (B = 1)."""
        try:
            chosen = np.atleast_1d(np.arange(len(self))[index if not isinstance(index, Tensor) else index.numpy()])
        except IndexError as error:
            raise IndexError(f"{error}; there are {len(self)} paths") from None
        rows = torch.from_numpy(chosen)
        return replace(
            self,
            names=tuple(self.names[i] for i in chosen),
            **{name: getattr(self, name)[rows] for name in _TENSORS},
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NeuronPaths) and self._document() == other._document()

    def __repr__(self) -> str:
        images, blocks, k = self.neurons.shape
        method = self.settings.get("method", "?")
        return f"NeuronPaths({images} images, {blocks} blocks, {k} neurons a block, method={method!r})"

    def _repr_html_(self) -> str:
        """How a notebook shows it: a row an image."""
        return html_table(self)

    @property
    def widths(self) -> list[int]:
        """The number of neurons of every block, as far as it is known: at least those that occur."""
        return list(self.settings.get("widths") or [int(block.max()) + 1 for block in self.neurons.unbind(1)])

    @property
    def relative_delta(self) -> Tensor:
        """(B,): \\|delta\\| as a share of \\|output_change\\|, or of 1e-6 where the change is less, which is rounding."""
        return self.delta.abs() / self.output_change.abs().clamp(min=1e-6)

    def name_of(self, label: int) -> str:
        """A class's name where it is known, else its number."""
        return self.class_names.get(int(label), str(int(label)))

    def renamed(self, names: Sequence[str]) -> "NeuronPaths":
        """The same paths with other names of the images."""
        check_names(names, len(self))
        return replace(self, names=tuple(map(str, names)))

    def to_frame(self) -> pd.DataFrame:
        """One row for every neuron of every path: image, block, rank (0 .. K - 1), neuron and what it is worth."""
        images, blocks, k = self.neurons.shape
        index = np.indices((images, blocks, k)).reshape(3, -1)
        per_image = {name: getattr(self, name).numpy()[index[0]] for name in _PER_IMAGE}
        return pd.DataFrame(
            {
                "image": index[0],
                "name": np.array(self.names, dtype=object)[index[0]],
                "block": index[1],
                "rank": index[2],
                "neuron": self.neurons.flatten().numpy(),
                "activation": self.activations.flatten().numpy(),
                "attribution": self.attribution.flatten().numpy(),
                **per_image,
            }
        )

    def save(self, path: str | os.PathLike, overwrite: bool = False) -> Path:
        """Write as JSON, whole or not at all; refuses an existing file unless ``overwrite``."""
        text = json.dumps(self._document(), indent=1, allow_nan=False)
        return write_whole(path, lambda part: part.write_text(text + "\n", encoding="utf-8"), overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "NeuronPaths":
        """Read what :meth:`save` wrote; raises InputError for another version or a damaged file."""
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path} can't be read: {error.strerror}") from None
        except ValueError:
            raise InputError(
                f"{path} is damaged or no JSON at all; expected a file that NeuronPaths.save wrote"
            ) from None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise InputError(f"{path} holds no neuron paths; expected a file that NeuronPaths.save wrote")
        if document.get("version") != VERSION:
            raise InputError(
                f"{path} is of version {document.get('version')!r}; this neuronpath reads version {VERSION}"
            )
        try:
            return cls._from_document(document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} is damaged ({type(error).__name__}: {error}); expected a whole file") from None

    def _document(self) -> dict[str, Any]:
        columns = {name: getattr(self, name).tolist() for name in _TENSORS}
        for name in _PROBABILITIES:  # JSON has no NaN
            columns[name] = [None if math.isnan(value) else value for value in columns[name]]
        return {
            "format": FORMAT,
            "version": VERSION,
            "settings": dict(self.settings),
            "class_names": {str(label): name for label, name in self.class_names.items()},
            "paths": [
                {"name": name, **{column: values[i] for column, values in columns.items()}}
                for i, name in enumerate(self.names)
            ],
        }

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> "NeuronPaths":
        paths = document["paths"]
        unknown = dict.fromkeys(_PROBABILITIES, math.nan)
        tensors = {
            name: torch.tensor(
                [unknown[name] if path[name] is None and name in unknown else path[name] for path in paths],
                dtype=_KINDS.get(name, torch.float32),
            )
            for name in _TENSORS
        }
        shape = tensors["neurons"].shape
        if len(shape) != 3 or any(tensors[n].shape != shape for n in _PER_NEURON):
            raise ValueError("neurons, activations and attribution differ in shape")
        if any(tensors[n].shape != shape[:1] for n in _PER_IMAGE):
            raise ValueError("a path lacks a number")
        return cls(
            **tensors,
            names=tuple(str(path["name"]) for path in paths),
            settings=dict(document["settings"]),
            class_names={int(label): str(name) for label, name in document["class_names"].items()},
        )


def check_made_for(paths: NeuronPaths, vit: ViT) -> None:
    """Refuse paths of a model with other weights' names or shapes."""
    made, widths = paths.settings.get("fingerprint"), paths.settings.get("widths")
    if (made or vit.fingerprint) != vit.fingerprint or (widths or vit.widths) != vit.widths:
        raise InputError(
            f"these paths were made for another model ({paths.settings.get('model', 'unknown')}, {len(widths or [])} blocks); "
            f"{type(vit.model).__name__} has {len(vit.widths)} blocks of {vit.widths[0]} neurons, or weights of other shapes"
        )


def check_as_many(paths: NeuronPaths, images: Tensor) -> None:
    if len(images) != len(paths):
        raise InputError(f"images holds {len(images)} images for {len(paths)} paths; expected as many")


def check_any(paths: NeuronPaths) -> None:
    if not len(paths):
        raise InputError("these paths are of no image; expected at least one")


def versions() -> dict[str, str]:
    """Of what makes a result, for the record."""
    return {"neuronpath": version("neuronpath"), "timm": timm.__version__, "torch": str(torch.__version__)}


def check_names(names: Sequence[str], n_images: int) -> None:
    if isinstance(names, str):
        raise InputTypeError(f"names is a single text, {names!r}; expected one an image")
    if len(names) != n_images:
        raise InputError(f"names holds {len(names)} names for {n_images} images; expected one an image")


_TENSORS = tuple(f.name for f in fields(NeuronPaths) if f.type is Tensor)
_KINDS = dict.fromkeys(("neurons", "target", "predicted", "n_steps", "sweeps"), torch.int64) | {"converged": torch.bool}
_PROBABILITIES = ("probability", "predicted_probability")
_PER_NEURON = ("neurons", "activations", "attribution")
_PER_IMAGE = tuple(name for name in _TENSORS if name not in _PER_NEURON)


def concat(parts: Iterable[NeuronPaths]) -> NeuronPaths:
    """The paths of all parts as one; they must come from one model and one method."""
    parts = list(parts)
    if not parts:
        raise InputError("concat got no paths; expected at least one NeuronPaths")
    for part in parts:
        if not isinstance(part, NeuronPaths):
            raise InputTypeError(f"concat got a {type(part).__name__}; expected NeuronPaths")
        if part.neurons.shape[1:] != parts[0].neurons.shape[1:]:
            raise InputError(
                f"concat got paths of {tuple(parts[0].neurons.shape[1:])} and of {tuple(part.neurons.shape[1:])} "
                "blocks and neurons a block; expected the same in all"
            )
        if part.settings != parts[0].settings:
            keys = sorted(set(part.settings) | set(parts[0].settings))
            differ = [k for k in keys if part.settings.get(k) != parts[0].settings.get(k)]
            raise InputError(
                f"concat got paths made in different ways ({', '.join(differ)}); expected the same settings in all"
            )
    merged: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in _TENSORS}
    return replace(
        parts[0],
        names=tuple(name for part in parts for name in part.names),
        class_names={label: name for part in parts for label, name in part.class_names.items()},
        **merged,
    )
