"""The pruning experiment: importances x shares kept x scopes x seeds, every run a file, so that it resumes where it stopped.

Calibration images, of which importances are made and from which models recover, are never test images. A seed draws the calibration
images from their pool, the random importance and the order of recovery; the test images are the same for all.
"""

import itertools
import json
import os
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from ... import demo
from ...checks import InputError
from ...compression.files import digest_of
from ...compression.importances import OF_IMAGES, OF_WEIGHTS, importance
from ...compression.prune import SCOPES, prune
from ...compression.recover import recover
from ...data.files import labelled_batches
from ...evaluation.evaluate import logits_of
from ...evaluation.interventions import remove
from ...files import write_whole
from ...methods import find_path
from ...methods.registry import check_top_k, method_named
from ...models.hooks import at_rest
from ...models.outputs import run_model
from ...models.vit import view
from .files import begin, run_of

IMPORTANCES = ("path", *OF_IMAGES, *OF_WEIGHTS)
PAPER_K, PAPER_SHARES = (1, 5, 10, 20, 50), (0.1, 0.3, 0.5, 1.0)
BATCH = 64  # images read, or predicted, at a time
REPEATS = 5  # of each latency; their median counts


@dataclass(frozen=True, eq=False)
class Data:
    """Images (n, C, H, W) and labels (n,): a pool to draw calibration images from, and those to test on."""

    pool: Tensor
    pool_labels: Tensor
    test: Tensor
    test_labels: Tensor


@dataclass(frozen=True)
class Plan:
    """What is run. ``protocol`` "prune" really prunes; "paper" masks a class's neurons on the tokens that the head pools."""

    importances: Sequence[str] = IMPORTANCES
    keeps: Sequence[float] = (0.5, 0.25, 0.125, 0.0625)
    scopes: Sequence[str] = SCOPES
    seeds: int = 3
    calibration: int = 256  # images a seed
    method: str = "causal"  # of find_path, for the paths behind "path", which are found on all tokens
    top_k: int | None = None  # their neurons a block; None is a quarter of the narrowest block
    compensate: bool = False
    recover_epochs: int = 0  # above 0: every run once more, recovered on the calibration images
    lr: float = 5e-4  # of recovery
    latency_batch: int = 16
    protocol: str = "prune"

    def __post_init__(self) -> None:
        for name, given, known in (("importance", self.importances, IMPORTANCES), ("scope", self.scopes, SCOPES)):
            for value in given:
                if value not in known:
                    raise InputError(f"{name} {value!r} is unknown; expected some of {', '.join(known)}")
        for name, values in (("importances", self.importances), ("scopes", self.scopes), ("keeps", self.keeps)):
            if len(set(values)) < len(values):
                raise InputError(f"{name} names one twice: {', '.join(map(str, values))}; expected each once")
        method_named(self.method)
        if self.recover_epochs < 0:
            raise InputError(f"recover_epochs is {self.recover_epochs}; expected 0 or more")
        if self.protocol not in ("prune", "paper"):
            raise InputError(f"protocol {self.protocol!r} is unknown; expected prune or paper")
        for share in self.keeps:
            if not 0 < share <= 1:
                raise InputError(f"keep is {share!r}; expected a share above 0 and at most 1")
        for name in ("seeds", "calibration", "top_k", "latency_batch"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 1")

    def cells(self) -> Iterator[dict[str, Any]]:
        """Every run, by what tells it from the others; runs that share an importance stand together."""
        recovered = (False, True) if self.recover_epochs else (False,)
        for seed, by in itertools.product(range(self.seeds), self.importances):
            for scope, keep, again in itertools.product(self.scopes, self.keeps, recovered):
                yield {"seed": seed, "importance": by, "scope": scope, "keep": keep, "recovered": again}

    def paper_cells(self, classes: Sequence[int]) -> Iterator[dict[str, Any]]:
        for seed, k, label in itertools.product(range(self.seeds), PAPER_K, classes):
            for share, kept in itertools.product(PAPER_SHARES, ("path", "random")):
                yield {"seed": seed, "k": k, "label": label, "masked": share, "kept": kept}


def digits() -> Data:
    """The embedded digits: the training ones to calibrate with, the held-out ones to test on."""
    _, pool, pool_labels = demo.load("train")
    _, test, test_labels = demo.load("test")
    return Data(pool, pool_labels, test, test_labels)


def image_folder(
    folder: str | os.PathLike,
    model: nn.Module,
    classes: Mapping[str, int] | None = None,
    limit: int | None = None,
    skip: Callable[[str], object] = warnings.warn,
) -> Data:
    """One folder a class: every second image of each to calibrate with, the others to test on.

    ``classes`` and the folders' names: see :func:`~neuronpath.data.files.find_labelled`. ``limit`` takes as many images of
    each class as it can. An image that can't be read is told to ``skip`` and left out. Raises InputError for a class with one image.
    """
    images: tuple[list[Tensor], list[Tensor]] = ([], [])
    labels: tuple[list[int], list[int]] = ([], [])
    times: Counter[int] = Counter()
    for batch, _, told in labelled_batches(model, Path(folder), classes, True, limit, BATCH, skip)[0]:
        for image, label in zip(batch, told or [], strict=True):
            part = times[label] % 2
            images[part].append(image)
            labels[part].append(label)
            times[label] += 1
    if not times:
        raise InputError(f"{folder} holds no image that can be read; expected at least two of each class")
    if lonely := [label for label, n in times.items() if n == 1]:
        raise InputError(
            f"{folder} has one image of class {lonely[0]}; expected two at least, to calibrate with and to test on"
        )
    (pool, test), (pool_labels, test_labels) = map(torch.stack, images), map(torch.tensor, labels)
    return Data(pool, pool_labels, test, test_labels)


def run_experiment(
    model: nn.Module, data: Data, plan: Plan, out: str | os.PathLike, progress: bool = False
) -> pd.DataFrame:
    """Run what of the plan isn't yet in the folder ``out``; gives one row a run, of this and of earlier times.

    Raises InputError for a folder that holds another experiment, or something else.
    """
    folder = Path(out)
    labels = sorted(set(data.test_labels.tolist()) & set(data.pool_labels.tolist()))
    work = _Bench(model, data, plan)
    work.check(labels)
    made_of = {"weights": digest_of(model.state_dict()), "images": digest_of(vars(data)), "test": len(data.test)}
    runs = begin(folder, {**_plain(asdict(plan)), **made_of})
    cells = list(plan.cells() if plan.protocol == "prune" else plan.paper_cells(labels))
    rows = []
    for cell in tqdm(cells, unit="run", disable=not progress):
        file = runs / ("_".join(f"{name}={value}" for name, value in cell.items()) + ".json")
        if not file.exists():
            measured = work.pruned(**cell) if plan.protocol == "prune" else work.masked(**cell)
            text = json.dumps({**cell, **measured})
            write_whole(file, lambda part, text=text: part.write_text(text + "\n"))  # type: ignore[misc]
        rows.append(run_of(file, cell))
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
        widths = view(self.model).widths
        if self.plan.top_k is not None:
            check_top_k(self.plan.top_k, widths)
        if self.plan.protocol != "paper":
            return
        if len(set(widths)) > 1:
            raise InputError(f"the paper's protocol wants blocks of one width, and the model's are {widths}")
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

    def pruned(self, seed: int, importance: str, scope: str, keep: float, recovered: bool) -> dict[str, Any]:
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
        paths = self.once((seed, k), lambda: find_path(self.model, images, labels, top_k=k))
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


def multiply_adds(model: nn.Module, image: Tensor) -> int:
    """Multiply-adds of one image (1, C, H, W), as PyTorch counts them: half of its floating-point operations."""
    with FlopCounterMode(display=False) as counter, at_rest(model):
        run_model(model, image.to(next(model.parameters())))
    return counter.get_total_flops() // 2


def latencies(models: Sequence[nn.Module], images: Tensor, repeats: int = REPEATS) -> list[float]:
    """The median seconds of a batch for each model, taking turns, so that a busy machine slows all alike."""
    taken: list[list[float]] = [[] for _ in models]
    for turn in range(repeats + 1):
        for seconds, model in zip(taken, models, strict=True):
            like = next(model.parameters())
            batch = images.to(like)
            with at_rest(model):
                start = time.perf_counter()
                run_model(model, batch)
                if like.is_cuda:
                    torch.cuda.synchronize(like.device)
            if turn:  # the first warms up
                seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in taken]
