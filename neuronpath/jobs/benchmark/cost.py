"""The suite cost: what paths and circuits cost, in forward + backward passes of the same model and images, timed in turn."""

import statistics
from collections.abc import Callable
from functools import partial

import torch

from ...methods import find_circuit, find_path
from .asked import Asked
from .table import Row, Table
from .timing import forward_backward, multiples

IMAGES, REPEATS = 4, 5


def cost(asked: Asked) -> list[Table]:
    """Its table."""
    images = torch.stack([asked.data[i][0] for i in range(min(IMAGES, len(asked.data)))])
    images = images.to(next(asked.model.parameters()))
    works: dict[str, Callable[[], object]] = {
        **{f"path, {name}": partial(find_path, asked.model, images, method=name) for name in asked.methods},
        "circuit that keeps": partial(find_circuit, asked.model, images),
    }

    def timed(work: Callable[[], object]) -> Row:
        unit = partial(forward_backward, asked.model, images)
        found = multiples(unit, work, REPEATS, images.device)
        return {"images": str(len(images)), "F+B": (statistics.median(found), min(found), max(found))}

    rows = asked.rows({name: partial(timed, work) for name, work in works.items()})
    title = f"Cost in forward + backward passes: median of {REPEATS} [least, most], all figures included"
    return [Table(title, rows, {"F+B": ".1f"}, "F+B")]
