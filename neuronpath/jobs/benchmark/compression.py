"""The suite compression: what smaller models still say, made on other images and not trained."""

from collections.abc import Callable
from functools import partial

from torch import nn

from ...checks import InputError
from ...compression.importance import importance
from ...compression.low_rank import low_rank
from ...compression.matrices import table_of
from ...compression.prune import prune
from ...compression.recursive.recursive import recursive
from ...data.given import as_images
from ...models.outputs import logits_of
from ...models.view import view
from .asked import Asked
from .table import Row, Table, mean_of

KEEP = 0.5


def compression(asked: Asked) -> list[Table]:
    """Its table."""
    others = asked.reference
    if others is None:
        raise InputError("there are no other images; expected some, to fit the smaller models on")
    model, vit = asked.model, view(asked.model)
    images = as_images(asked.data, model)
    truth = asked.truth
    whole = logits_of(vit.model, images).argmax(1)
    n_blocks = len(vit.blocks)
    unique = max((k for k in range(1, n_blocks) if n_blocks % k == 0), default=1)
    rank = max(1, min(min(matrix.weight.shape) for row in table_of(vit) for matrix in row) // 6)
    works: dict[str, Callable[[], nn.Module]] = {
        "as it is": lambda: model,
        f"prune, keep={KEEP}": lambda: prune(
            model, importance(model, others), keep=KEEP, compensate=True, images=others
        ),
        f"low_rank, keep={KEEP}": lambda: low_rank(model, keep=KEEP, images=others),
        f"recursive, unique={unique}, rank={rank}": lambda: recursive(
            model, unique=unique, layout="sequence", rank=rank, images=others
        ),
    }

    def measured(make: Callable[[], nn.Module]) -> Row:
        small = make()
        said = logits_of(small, images).argmax(1)
        sizes = [sum(p.numel() for p in one.parameters()) for one in (small, model)]
        row: Row = {
            "images": str(len(said)),
            "parameters": sizes[0] / sizes[1],
            "says the same": mean_of((said == whole).numpy()),
        }
        return row if truth is None else row | {"right": mean_of((said == truth).numpy())}

    rows = asked.rows({name: partial(measured, make) for name, make in works.items()})
    shares = dict.fromkeys(("parameters", "says the same", "right"), "%")
    return [Table(f"Smaller models, made with {len(others)} other images, not trained", rows, shares, "says the same")]
