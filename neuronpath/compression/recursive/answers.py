"""Early answers: what a model with exits says, each image at the first exit that is sure enough, and what is sure enough."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...checks import check_count, check_number, checked
from ...data.given import Images, as_images
from ...models.outputs import as_target
from ...models.vit import ViT
from ...options import ExitRule, Sureness
from .live import Live, Rule, stops_of, with_its_exits
from .schedules import compact
from .steps import scores


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model said of B images, and after how many blocks."""

    logits: Tensor
    """(B, classes), float32: of the exit at which the image left."""
    depth: Tensor
    """(B,), int64: the blocks that the image went through."""

    @property
    def predicted(self) -> Tensor:
        """(B,), int64: the classes."""
        return self.logits.argmax(-1)

    @property
    def mean_depth(self) -> float:
        """The blocks that an image went through on average."""
        return self.depth.double().mean().item()


@dataclass(frozen=True)
class ExitThreshold:
    """The threshold that :func:`calibrate_exits` chose, and what it does on the images that it was chosen on."""

    by: ExitRule
    confidence: float
    accuracy: float
    full_accuracy: float
    """That of the last block."""
    mean_depth: float


@checked
def predict(
    model: nn.Module | ViT,
    images: Images,
    confidence: float = 0.9,
    *,
    by: ExitRule = "confidence",
    patience: int = 2,
    batch_size: int = 64,
) -> Prediction:
    """The model's answers, each from the first exit that is sure enough.

    Args:
        model: as :func:`with_exits` gave it.
        images: (B, C, H, W), or a Dataset, DataLoader or Source of them, transformed as the model wants it.
        confidence: an image leaves at an exit that is as sure as this, a number in (0, 1].
        by: what sure means. "confidence": the largest probability. "entropy": 1 less the entropy of the probabilities as a share of the
            largest there can be. "patience": so many exits in a row (``patience``) that say the same; ``confidence`` isn't used.
        batch_size: images run at a time.
    """
    rule = Rule(confidence, by, patience)
    steps, exits = with_its_exits(model)
    images = as_images(images, model)
    check_count("batch_size", batch_size)
    live = Live(steps, exits, rule, iter(images))
    logits: Tensor | None = None
    depth = torch.zeros(len(images), dtype=torch.long)
    with steps.running(), steps.as_they_are():
        for left in compact(live, batch_size):
            said = left.logits
            assert said is not None
            logits = torch.empty(len(images), said.shape[-1]) if logits is None else logits
            logits[left.numbers] = said.float().cpu()
            depth[left.numbers] = torch.tensor(live.stops)[left.steps - 1]
    assert logits is not None
    return Prediction(logits, depth)


def exit_logits(model: nn.Module | ViT, images: Tensor, batch_size: int = 64) -> Tensor:
    """The answer of every exit, the last block among them: (exits, B, classes), float32 on the CPU."""
    steps, exits = with_its_exits(model)
    live = Live(steps, exits, Rule(1), iter(images))
    parts = []
    with steps.running(), steps.as_they_are():
        while len(batch := live.take(batch_size)):
            answers = []
            for _ in live.stops:
                batch, _ = live.run(batch)
                assert batch.logits is not None
                answers.append(batch.logits.float().cpu())
            parts.append(torch.stack(answers))
    return torch.cat(parts, 1)


@checked
def calibrate_exits(
    model: nn.Module | ViT,
    images: Images,
    labels: Sequence[int] | Tensor,
    max_loss: float = 0.005,
    *,
    by: Sureness = "confidence",
    batch_size: int = 64,
) -> ExitThreshold:
    """The lowest threshold that costs at most ``max_loss`` of the last block's accuracy, here and at every threshold above it.

    Choose it on held-out images: exits are surer of those that they were trained on, and figures on the images that it was chosen on
    are a little too good.

    Args:
        model: as :func:`with_exits` gave it, trained.
        images: (B, C, H, W), or a Dataset, DataLoader or Source of them, held out.
        labels: their classes (B,).
        max_loss: the share of accuracy that may be lost, from 0 to 1.
        by: "confidence" or "entropy", as for :func:`predict`.
    """
    if max_loss != 0:
        check_number("max_loss", max_loss, 0, 1)
    steps, exits = with_its_exits(model)
    images = as_images(images, model)
    check_count("batch_size", batch_size)
    truth = as_target(labels, len(images))
    assert truth is not None
    logits = exit_logits(model, images, batch_size)
    right, sure = logits.argmax(-1) == truth, scores(logits, by)
    stops = torch.tensor(stops_of(steps.vit, exits))
    full = right[-1].double().mean().item()
    chosen = ExitThreshold(by, 1.0, full, full, float(stops[-1]))
    shares = torch.linspace(0, 1, 201, dtype=torch.double)
    levels = sure[:-1].flatten().double().quantile(shares).unique().flip(0)
    for level in levels.clamp(1e-6, 1).tolist():
        leaves = sure >= level
        leaves[-1] = True
        first = leaves.int().argmax(0)
        accuracy = right.gather(0, first[None])[0].double().mean().item()
        if accuracy < full - max_loss - 1e-12:
            break
        chosen = ExitThreshold(by, level, accuracy, full, stops[first].double().mean().item())
    return chosen
