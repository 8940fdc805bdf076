"""Makes each smaller model, measures what it still says and what it costs, and keeps it: a run a file, so that it goes on.

Images to fit and to distil on are never test images.
"""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ...checks import InputError
from ...compression.cost import latencies, multiply_adds
from ...compression.distil import distil
from ...compression.files import digest_of, save_compressed
from ...compression.recursive.merge import merge_, unmerge_
from ...compression.sized import sized
from ...compression.structure import described, weights_once
from ...data.given import some_of
from ...models.outputs import logits_of
from ...models.view import view
from .. import folder as folders
from ..pruning.data import Data
from ..pruning.files import write_run
from .plan import Plan

EVERY = 25  # batches after which distillation is written down
RUNS, MODELS, TRAINING = "runs", "models", "training"
PLACE = ("settings.json", (RUNS, MODELS, TRAINING), "a comparison")
MEASURED = ("agreement", "kl", "parameters", "multiply_adds", "bytes", "latency_whole_s", "latency_s", "time_s")


def check_folder(folder: Path) -> None:
    """Refuse a folder that is there and holds something else than such a comparison."""
    folders.check_folder(folder, *PLACE)


def compress(
    model: nn.Module,
    data: Data,
    plan: Plan,
    out: str | os.PathLike,
    progress: bool = False,
    tell: Callable[[str], object] = lambda _: None,
) -> pd.DataFrame:
    """Run what of the plan isn't yet in the folder ``out``; gives one row a run, the model itself first.

    Every model that :func:`~neuronpath.save_compressed` can write is in ``out/models``; of others ``tell`` hears.

    Raises InputError for a folder that holds another comparison, or something else, and for one where another process is at work.
    """
    bench = _Bench(model, data, plan)
    settings = json.loads(json.dumps(asdict(plan))) | {
        "weights": digest_of(model.state_dict()),
        "images": data.digest(),
    }
    cells = [{"method": "as it is", "share": 1.0, "distilled": False}, *plan.cells()]
    rows = []
    with folders.at_work(Path(out), *PLACE, settings, folders.names_that_differ) as (runs, models, training):
        for cell in tqdm(cells, unit="model", disable=not progress):
            name = f"{cell['method']}_{cell['share']}{'_distilled' * cell['distilled']}".replace(" ", "-")
            file = runs / f"{name}.json"
            if not file.exists():
                places = models / f"{name}.safetensors", training / f"{name}.safetensors"
                write_run(file, cell, bench.measured(cell, *places, tell))
                places[1].unlink(missing_ok=True)
            rows.append(_run_of(file, cell, len(data.test)))
    return pd.DataFrame(rows)


class _Bench:
    """Makes and measures one model after the other."""

    def __init__(self, model: nn.Module, data: Data, plan: Plan) -> None:
        self.model, self.data, self.plan = model, data, plan
        order = torch.randperm(len(data.pool), generator=torch.Generator().manual_seed(plan.seed))
        self.train = some_of(data.pool, order[: plan.train].numpy())
        self.known: tuple[Any, nn.Module | None] = (None, None)
        self.wanted: Tensor | None = None
        self.depth = len(view(model).blocks)

    def made(self, method: str, share: float) -> nn.Module:
        """The model of this size, not trained; the last is remembered, for the next may train it."""
        if self.known[0] != (method, share) or self.known[1] is None:
            few = self.train[: self.plan.calibration]
            made = sized(self.model, method, share, few, self.plan.equal, self.plan.unique, self.plan.layout)
            self.known = (method, share), made
        assert self.known[1] is not None
        return self.known[1]

    def distilled(self, small: nn.Module, checkpoint: Path) -> None:
        """Trained to say what the model says, in place; goes on where it was killed."""
        plan = self.plan
        order = torch.Generator().manual_seed(plan.seed)
        images: Any = self.train  # a tensor is a Dataset too, of its rows
        loader = DataLoader(images, batch_size=plan.batch, shuffle=True, generator=order)
        distil(small, self.model, loader, plan.epochs, plan.lr, seed=plan.seed, checkpoint=checkpoint, every=EVERY)

    def measured(
        self, cell: dict[str, Any], file: Path, checkpoint: Path, tell: Callable[[str], object]
    ) -> dict[str, Any]:
        """What is left, and what it costs."""
        start = time.perf_counter()
        small = self.model
        if cell["method"] != "as it is":
            small = self.made(cell["method"], cell["share"])
            if cell["distilled"]:
                self.distilled(small, checkpoint)
                self.known = (None, None)  # it is another model now
        test, labels = self.data.test, self.data.test_labels
        if self.wanted is None:
            self.wanted = logits_of(self.model, test).log_softmax(-1)
        said = logits_of(small, test).log_softmax(-1)
        wrong = (said.argmax(-1) != labels).nonzero()[:, 0].tolist()
        depth = len(view(small).blocks)
        size = _kept(small, file, None if depth == self.depth else {"depth": depth}, tell)
        if small is not self.model:
            merge_(small)
        whole, taken = latencies([self.model, small], test[: self.plan.latency_batch])
        cost = multiply_adds(small, test[:1])
        if small is not self.model:
            unmerge_(small)
        return {
            "accuracy": 1 - len(wrong) / len(test),
            "agreement": (said.argmax(-1) == self.wanted.argmax(-1)).double().mean().item(),
            "kl": nn.functional.kl_div(said, self.wanted, reduction="batchmean", log_target=True).item(),
            "parameters": sum(p.numel() for p in small.parameters()),
            "multiply_adds": cost,
            "bytes": size,
            "latency_whole_s": whole,
            "latency_s": taken,
            "wrong": wrong,
            "time_s": time.perf_counter() - start,
        }


def _kept(model: nn.Module, file: Path, arguments: dict[str, Any] | None, tell: Callable[[str], object]) -> int:
    """The model written down, and how many bytes that takes; of one that can't be, what its weights take."""
    try:
        return save_compressed(model, file, arguments, overwrite=True).stat().st_size
    except InputError as error:
        tell(f"{file.stem} isn't kept: {error}")
        weights = weights_once(model, described(model)["same"])
        return sum(value.numel() * value.element_size() for value in weights.values())


def _run_of(file: Path, cell: dict[str, Any], n_test: int) -> dict[str, Any]:
    return folders.read_record(
        file, "delete it and its run is made again", lambda found: found | cell == found and _is_run(found, n_test)
    )


def _is_run(found: dict[str, Any], n_test: int) -> bool:
    """Whether all figures are there, finite numbers, and wrong answers those of test images."""
    figures = [found.get(name) for name in ("accuracy", *MEASURED)]
    wrong = found.get("wrong")
    return (
        all(isinstance(f, float | int) and not isinstance(f, bool) and math.isfinite(f) for f in figures)
        and isinstance(wrong, list)
        and all(type(image) is int and 0 <= image < n_test for image in wrong)
    )
