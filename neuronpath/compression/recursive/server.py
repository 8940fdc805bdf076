"""A stream of images served by a model with exits: images at different depths side by side, places refilled as images leave."""

import copy
import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...checks import InputError, InputTypeError, check_count, checked, odd_tensor
from ...data.given import Images, parts
from ...models.factored import merge
from ...models.hooks import alone
from ...models.vit import ViT
from ...options import Aim, ExitRule, Mixing, Schedule
from .live import Live, Rule, stops_of, with_its_exits
from .mixing import HOW, Shared
from .paper import BlockTimes, simulate
from .schedules import SCHEDULES

CHOICES: tuple[Schedule, ...] = ("queues", "compact", "mixed")  # of "auto"
PROBED = 4  # times the slots: images by which "auto" chooses
REPEATS = 3  # of each time that is measured; their median counts


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model said of one image of a stream."""

    number: int
    """Which image, from 0."""
    logits: Tensor
    """(classes,), float32, of the exit at which it left."""
    depth: int
    """The blocks that it went through."""
    seconds: float
    """From when it was taken off the stream until it left."""

    @property
    def predicted(self) -> int:
        """Its class."""
        return int(self.logits.argmax())


class Server:
    """Answers a stream of images by a model with exits, at the speed that easy images allow.

    Continuous depth-wise batching after Bae et al., "Relaxed Recursive Transformers" (ICLR 2025). Every schedule gives every image the
    answer, and the depth, that it has by itself (:func:`predict`). The server holds a copy of the model, merged for speed.

    Args:
        model: as :func:`with_exits` gave it, trained.
        confidence: an image leaves at an exit that is as sure as this, a number in (0, 1]; :func:`calibrate_exits` chooses it.
        slots: images run at a time.
        schedule: "queues": one queue before every depth, which runs when it fills a batch. "mixed": one batch of all depths, places
            refilled at once. "compact": a batch that shrinks as images leave. "sync": a batch that runs until its last image leaves.
            "auto": the first images show which depths there are, times are measured, and the best of the first three on paper
            (:func:`simulate`) takes over; with fewer images than that, "compact".
        objective: what "auto" chooses by: "throughput", or "latency", the mean time of an image.
        by: what sure means, as for :func:`predict`.
        patience: as for :func:`predict`.
        mix: how depths mix in one batch. "own": each by its own blocks, one after the other. "gather", "group": together by the weight
            that passes share, with low-rank products gathered for each image, or for those of each depth; for models of
            ``recursive(layout="cycle")``. "auto": what the schedule "auto" finds best, "own" with any other.

    Raises:
        InputTypeError: for a model without exits, or whose blocks can't mix as ``mix`` says.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, _ = nph.demo.load()
        >>> server = nph.Server(nph.with_exits(model), confidence=0.9, schedule="queues")
        >>> [answer.number for answer in server.answers(images[:5])]
        [0, 1, 2, 3, 4]
    """

    @checked
    def __init__(
        self,
        model: nn.Module | ViT,
        confidence: float = 0.9,
        *,
        slots: int = 32,
        schedule: Literal["auto"] | Schedule = "auto",
        objective: Aim = "throughput",
        by: ExitRule = "confidence",
        patience: int = 2,
        mix: Mixing = "auto",
    ) -> None:
        self.rule = Rule(confidence, by, patience)
        check_count("slots", slots)
        self.slots, self.schedule, self.objective, self.mix = slots, schedule, objective, mix
        own, _ = with_its_exits(model)
        with alone(own.vit.model):
            copied = copy.deepcopy(own.vit.model)
        copied.eval().requires_grad_(False)
        if schedule != "mixed" or mix not in HOW:
            merge(copied)
        self.steps, self.exits = with_its_exits(copied, rested=True)
        self.stops = stops_of(self.steps.vit, self.exits)
        self.shared = Shared(self.steps, self.stops, mix) if mix in HOW else None

    @checked
    def answers(self, images: Images | Iterable[Any], ordered: bool = True) -> Iterator[Answer]:
        """The answers to a stream of images, as they come.

        Args:
            images: gives images (C, H, W), batches of them (B, C, H, W), or tuples that begin with either: a tensor, a DataLoader, a
                generator. They are taken off it as there is room.
            ordered: in the stream's order; False gives every answer as soon as it is there.

        Raises:
            InputError: for an image that can't be used, and what the stream itself raises: the images before it are answered first.
        """
        answers = self._answers(_one_by_one(images))
        return _in_order(answers) if ordered else answers

    def _answers(self, images: Iterator[Tensor]) -> Iterator[Answer]:
        first = 0
        if self.schedule == "auto":
            probe = self._live(itertools.islice(images, PROBED * self.slots))
            depths: list[int] = []
            for answer in self._served(probe, "compact"):
                depths.append(answer.depth)
                yield answer
            if probe.failure is not None:
                raise probe.failure
            first = probe.next
            image = next(images, None) if first == PROBED * self.slots else None
            if image is None:
                return
            self._choose(depths, image)
            images = itertools.chain([image], images)
        live = self._live(images, first)
        yield from self._served(live, self.schedule)
        if live.failure is not None:
            raise live.failure

    def _live(self, images: Iterator[Tensor], first: int = 0) -> Live:
        return Live(self.steps, self.exits, self.rule, images, self.shared, first)

    def _served(self, live: Live, schedule: str) -> Iterator[Answer]:
        for left in SCHEDULES[schedule](live, self.slots):
            now = time.perf_counter()
            if not len(left):
                continue
            assert left.logits is not None
            columns = left.numbers.tolist(), left.logits.float().cpu(), left.steps.tolist(), left.since.tolist()
            for number, logits, steps, since in zip(*columns, strict=True):
                yield Answer(number, logits, self.stops[steps - 1], now - since)

    @checked
    def block_times(self, image: Tensor) -> BlockTimes:
        """What batches of such an image (C, H, W) take from exit to exit, for :func:`simulate`: medians of several runs."""
        sizes = sorted({1, *(max(1, self.slots // part) for part in (4, 2, 1))})
        found: dict[tuple[Any, int], list[float]] = defaultdict(list)
        for _ in range(REPEATS):
            for size in sizes:
                live = self._live(itertools.repeat(image))
                with _timed(found["enter", size], image):
                    batch = entered = live.take(size)
                for step in range(len(self.stops)):
                    with _timed(found[step, size], image):
                        batch, _ = live.run(batch)
                if self.shared is not None:
                    spread = torch.arange(size - 1, -1, -1) * len(self.stops) // size
                    with _timed(found["mixed", size], image):
                        live.run(replace(entered, steps=spread))

        def row(what: Any) -> list[float]:
            return [statistics.median(found[what, size]) for size in sizes]

        steps = [row(step) for step in range(len(self.stops))]
        return BlockTimes(sizes, self.stops, row("enter"), steps, None if self.shared is None else row("mixed"))

    def _choose(self, depths: Sequence[int], image: Tensor) -> None:
        """Take over the schedule, and the way to mix, that is best on paper for images that leave at these depths."""
        best = (float("inf"), self.schedule, self.mix, self.shared)
        mixings: tuple[Mixing, ...] = ("own", *HOW) if self.mix == "auto" else (self.mix,)
        for mix in mixings:
            try:
                self.shared = Shared(self.steps, self.stops, mix) if mix in HOW else None
                times = self.block_times(image)
            except InputTypeError:  # blocks that can't mix so
                continue
            schedules: tuple[Schedule, ...] = ("mixed",) if mix in HOW else CHOICES
            for schedule in schedules:
                paper = simulate(depths, times, schedule, self.slots)
                cost = paper.seconds if self.objective == "throughput" else paper.latency
                best = min(best, (cost, schedule, mix, self.shared), key=lambda each: each[0])
        _, self.schedule, self.mix, self.shared = best


@contextmanager
def _timed(into: list[float], like: Tensor) -> Iterator[None]:
    start = time.perf_counter()
    yield
    if like.is_cuda:
        torch.cuda.synchronize(like.device)
    into.append(time.perf_counter() - start)


def _one_by_one(images: Any) -> Iterator[Tensor]:
    """The images (C, H, W) of whatever gives images, each checked."""
    if isinstance(images, Dataset) and not isinstance(images, Iterable):
        images = map(images.__getitem__, range(len(images)))  # type: ignore[arg-type]
    number, shape = 0, None
    for element in images:
        pixels, _ = parts(element)
        if not isinstance(pixels, Tensor) or odd_tensor(pixels) or not pixels.is_floating_point():
            what = odd_tensor(pixels) or (
                f"a tensor of {pixels.dtype}" if isinstance(pixels, Tensor) else f"a {type(pixels).__name__}"
            )
            raise InputTypeError(f"image {number} of the stream is {what}; expected floating point (C, H, W)")
        if pixels.ndim not in (3, 4):
            raise InputError(f"image {number} of the stream has shape {tuple(pixels.shape)}; expected (C, H, W)")
        for image in pixels if pixels.ndim == 4 else (pixels,):
            shape = shape or image.shape
            if image.shape != shape or not image.numel():
                raise InputError(
                    f"image {number} of the stream has shape {tuple(image.shape)}; expected {tuple(shape)} with pixels, as image 0"
                )
            if not torch.isfinite(image).all():
                raise InputError(f"image {number} of the stream holds NaN or infinity; expected finite pixels")
            yield image
            number += 1


def _in_order(answers: Iterator[Answer]) -> Iterator[Answer]:
    """Each as soon as all before it are out."""
    waiting: dict[int, Answer] = {}
    number = 0
    for answer in answers:
        waiting[answer.number] = answer
        while number in waiting:
            yield waiting.pop(number)
            number += 1
