"""What a suite measures, and rows of figures that are kept as they are measured."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...data.source import Listed, Source
from ...files import read_text, write_whole
from .table import Row

ROWS = "rows"


@dataclass(frozen=True, eq=False)
class Asked:
    """A model, images, and others of the same source; how, and the folder for what is done."""

    model: nn.Module
    images: Source
    others: Source
    folder: Path
    methods: tuple[str, ...]
    target: str
    progress: bool

    @cached_property
    def data(self) -> Listed:
        """The images as the model sees them, with their classes."""
        return self.images.dataset(self.model)

    @cached_property
    def reference(self) -> Tensor | None:
        """The other images in memory, (R, C, H, W); None where there are none."""
        others = self.others.dataset(self.model)
        return torch.stack([others[i][0] for i in range(len(others))]) if len(others) else None

    def rows(self, works: Mapping[str, Callable[[], Row]]) -> list[Row]:
        """A row for every name; those that were measured before are read."""
        found = []
        for at, (name, measure) in enumerate(tqdm(works.items(), unit="row", disable=not self.progress)):
            file = self.folder / ROWS / f"{at:02d}.json"
            if not file.exists():
                _write(file, {"name": name, **measure()})
            known = json.loads(read_text(file, "a row of this benchmark"))
            found.append({key: tuple(value) if isinstance(value, list) else value for key, value in known.items()})
        return found


def _write(file: Path, row: Row) -> None:
    write_whole(file, lambda part: part.write_text(json.dumps(row) + "\n", encoding="utf-8"))
