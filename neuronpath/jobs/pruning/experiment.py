"""The pruning experiment: importances x shares kept x scopes x seeds, every run a file, so that it resumes where it stopped.

Calibration images, of which importances are made and from which models recover, are never test images. A seed draws the calibration
images from their pool, the random importance and the order of recovery; the test images are the same for all.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from ...checks import InputError
from ...compression.cost import latencies, multiply_adds
from ...compression.distil import recover
from ...compression.files import digest_of
from ...compression.importance import importance
from ...compression.prune import prune
from ...evaluation.interventions import remove
from ...methods import find_path
from ...methods.registry import check_top_k
from ...models.outputs import logits_of
from ...models.view import view
from ...options import Scope
from .data import Data
from .files import at_work, run_of, write_run
from .plan import Plan

BATCH = 64  # images predicted at a time


def run_experiment(
    model: nn.Module, data: Data, plan: Plan, out: str | os.PathLike, progress: bool = False
) -> pd.DataFrame:
    """Run what of the plan isn't yet in the folder ``out``; gives one row a run, of this and of earlier times.

    Raises InputError for a folder that holds another experiment, or something else, and for one where another process is at work.
    """
    folder = Path(out)
    labels = sorted(set(data.test_labels.tolist()) & set(data.pool_labels.tolist()))
    work = _Bench(model, data, plan)
    work.check(labels)
    made_of = {"weights": digest_of(model.state_dict()), "images": data.digest(), "test": len(data.test)}
    cells = list(plan.cells() if plan.protocol == "prune" else plan.paper_cells(labels))
    rows = []
    with at_work(folder, {**_plain(asdict(plan)), **made_of}) as (runs,):
        for cell in tqdm(cells, unit="run", disable=not progress):
            file = runs / ("_".join(f"{name}={value}" for name, value in cell.items()) + ".json")
            if not file.exists():
                write_run(file, cell, work.pruned(**cell) if plan.protocol == "prune" else work.masked(**cell))
            rows.append(run_of(file, cell, len(data.test)))
    return pd.DataFrame(rows)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


class _Bench:
    """Measures one run after the other, and remembers the last importances and paths, which the next run may share."""

    def __init__(self, model: nn.Module, data: Data, plan: Plan) -> None:
        self.model, self.data, self.plan = model, data, plan
        self.known: tuple[Any, Any] = (None, None)

    def once(self, key: tuple, make: Callable[[], Any]) -> Any:
        if self.known[0] != key:
            self.known = key, make()
        return self.known[1]

    def check(self, labels: Sequence[int]) -> None:
        """Refuse, before a folder is made, what a later run could only stumble over."""
        vit = view(self.model)
        if self.plan.top_k is not None:
            check_top_k(self.plan.top_k, vit.places)
        if self.plan.protocol != "paper":
            return
        if len(set(vit.widths)) > 1:
            raise InputError(f"the paper's protocol wants blocks of one width, and the model's are {vit.widths}")
        for seed in range(self.plan.seeds):
            drawn = self.calibration(seed)[1]
            if missing := [label for label in labels if label not in drawn]:
                raise InputError(
                    f"seed {seed} draws no calibration image of class {missing[0]}; expected more than {len(drawn)} of them"
                )

    def calibration(self, seed: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(self.data.pool), generator=draw)[: self.plan.calibration]
        return self.data.pool[chosen], self.data.pool_labels[chosen]

    def importance(self, by: str, seed: int) -> list[Tensor]:
        images, labels = self.calibration(seed)
        if by == "path":
            top_k = self.plan.top_k or max(1, min(view(self.model).widths) // 4)
            return importance(find_path(self.model, images, labels, token="all", method=self.plan.method, top_k=top_k))
        return importance(self.model, images, by=by, target=labels, seed=seed)

    def pruned(self, seed: int, importance: str, scope: Scope, keep: float, recovered: bool) -> dict[str, Any]:
        """Accuracy and cost of one pruned model."""
        start = time.perf_counter()
        values = self.once((importance, seed), lambda: self.importance(importance, seed))
        images, _ = self.calibration(seed)
        small = prune(self.model, values, keep, scope=scope, compensate=self.plan.compensate, images=images)
        if recovered:
            order = torch.Generator().manual_seed(seed)
            loader = DataLoader(TensorDataset(images), batch_size=32, shuffle=True, generator=order)
            recover(small, self.model, loader, self.plan.recover_epochs, self.plan.lr, seed=seed)
        wrong = (predictions(small, self.data.test) != self.data.test_labels).nonzero()[:, 0].tolist()
        batch = self.data.test[: self.plan.latency_batch]
        dense, pruned = latencies([self.model, small], batch)
        return {
            "accuracy": 1 - len(wrong) / len(self.data.test),
            "parameters": sum(p.numel() for p in small.parameters()),
            "multiply_adds": multiply_adds(small, self.data.test[:1]),
            "bytes": sum(v.numel() * v.element_size() for v in small.state_dict().values()),
            "widths": view(small).widths,
            "wrong": wrong,
            "latency_dense_s": dense,
            "latency_s": pruned,
            "time_s": time.perf_counter() - start,
        }

    def masked(self, seed: int, k: int, label: int, masked: float, kept: str) -> dict[str, Any]:
        """Accuracy while a share of all but K neurons a block is at 0 on the tokens that the head pools."""
        images, labels = self.calibration(seed)
        vit = view(self.model)
        draw = torch.Generator().manual_seed(seed * 1000 + label)
        paths = self.once((seed, k), lambda: find_path(self.model, images, labels, method="joint", top_k=k))
        if kept == "path":
            best = [values.topk(k).indices for values in importance(paths, target=label)]
        else:
            best = [torch.randperm(width, generator=draw)[:k] for width in vit.widths]
        gone = []
        for width, stays in zip(vit.widths, best, strict=True):
            others = torch.ones(width, dtype=torch.bool)
            others[stays] = False
            left = others.nonzero()[:, 0]
            gone.append(left[torch.randperm(len(left), generator=draw)[: round(masked * len(left))]])
        with remove(self.model, torch.stack(gone)):
            found = predictions(self.model, self.data.test)
        own = self.data.test_labels == label
        return {
            "accuracy": (found[own] == label).float().mean().item(),
            "others_taken_for_it": (found[~own] == label).float().mean().item(),
        }


def predictions(model: nn.Module, images: Tensor, batch_size: int = BATCH) -> Tensor:
    """The predicted class of every image (n,)."""
    return logits_of(model, images, batch_size).argmax(-1)
