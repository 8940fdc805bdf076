"""``neuronpath benchmark``: a suite's figures for a model on images, in a folder that goes on where it stopped."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ...checks import InputError, check_count, check_one_of
from ...compression.files import digest_of
from ...data.source import Source
from ...methods import way
from ...methods.find import architecture
from ...models.view import view
from ...options import Explained, Suite
from ..folder import at_work, values_that_differ
from ..listing import digest_of_ids, listed
from .asked import ROWS, Asked
from .cost import cost
from .faithfulness import RUNS, faithfulness
from .table import Table, write
from .timing import machine

SUITES: Mapping[str, tuple[Callable[[Asked], list[Table]], tuple[str, ...]]] = {
    "faithfulness": (faithfulness, ("live", "knowledge", "joint", "causal", "random")),
    "cost": (cost, ("live", "joint", "causal")),
}
RECORD = "benchmark.json"


def benchmark(
    source: Source,
    others: Source | None,
    model: nn.Module,
    out: Path,
    suite: Suite = "faithfulness",
    *,
    limit: int = 200,
    n_others: int = 200,
    methods: Sequence[str] | None = None,
    target: Explained = "label",
    seed: int = 0,
    command: str = "",
    progress: bool = False,
) -> tuple[list[Table], dict[str, Any], list[Path]]:
    """The tables of a suite, what made them, and the files that hold them.

    ``limit`` images are drawn from the source by their ids, and ``n_others`` from ``others``, or from what is left of the source: those
    that units are ablated to the mean over. In ``out``: ``benchmark.json``, what was asked for;
    ``table.md``, ``table.json`` and ``figure.png``; what was measured so far. The same call goes on there.
    Raises InputError, in one line, for what can't be used.
    """
    check_one_of("suite", suite, tuple(SUITES))
    check_count("limit", limit)
    check_count("n_others", n_others, 0)
    check_one_of("target", target, ("label", "predicted"))
    measure, usual = SUITES[suite]
    chosen = tuple(usual if methods is None else methods)
    for name in chosen:
        way(name)
    if n_others == 1:
        raise InputError("n_others is 1; expected 0, for units that are ablated to zero, or at least 2")
    view(model)
    if others is None:
        images, rest = source.split(limit, n_others, seed=seed)
    else:
        images, rest = source.split(limit, seed=seed)[0], others.split(n_others, seed=seed)[0]
    asked = {
        "suite": suite,
        "model": {"name": architecture(model), "digest": digest_of(model.state_dict())},
        "images": _counted(images),
        "others": _counted(rest),
        "methods": list(chosen),
        "target": target,
        "seed": seed,
    }
    inside = RUNS if suite == "faithfulness" else (ROWS,)
    with at_work(out, RECORD, inside, "a benchmark", asked, values_that_differ):
        tables = measure(Asked(model, images, rest, out, chosen, target, progress))
        about: dict[str, Any] = {"command": command, "machine": machine(next(model.parameters()).device), **asked}
        return tables, about, write(out, tables, about)


def _counted(source: Source) -> dict[str, Any]:
    """How many images, and a name for which."""
    items = list(source)
    return {"count": len(items), "digest": digest_of_ids(listed(items, source.skip)) + source.digest() if items else ""}
