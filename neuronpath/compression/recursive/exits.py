"""Answers before the last block: heads behind loops, by which easy images leave early, and the threshold that they leave at."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import InputError, InputTypeError, check_count, check_number, check_one_of, checked
from ...data.given import check_images
from ...models.hooks import alone
from ...models.outputs import as_target
from ...models.view import inner_of, view
from ...models.vit import ViT
from .steps import Steps, scores

RULES = ("confidence", "entropy", "patience")
CHILD = "exits"  # the name of the exits within the model


class Exits(nn.Module):
    """Where a model may answer early: behind the blocks ``at``, by heads of their own, or by the model's where there are none."""

    def __init__(self, at: Sequence[int], heads: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.at = list(at)
        self.heads = nn.ModuleList(heads)

    def logits(self, vit: ViT, which: int, x: Tensor) -> Tensor:
        """The answer (B, classes) of the residual stream (B, N, D) behind the block ``at[which]``."""
        if not self.heads:
            return vit.readout(x)
        pooled = {"cls": x[:, 0], "patch": x[:, vit.num_prefix_tokens :].mean(1), "all": x.mean(1)}[vit.pools]
        return self.heads[which](pooled)


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

    by: str
    confidence: float
    accuracy: float
    full_accuracy: float
    """That of the last block."""
    mean_depth: float


@checked
def with_exits(model: nn.Module | ViT, at: str | Sequence[int] = "loops", shared: bool = True) -> nn.Module:
    """A copy of the model that can answer early, by :func:`predict` and :class:`Server`; called as it is it answers as before.

    Exits want training: :func:`distil` trains them together with the model.

    Args:
        model: a vision transformer with a classification head, recursive or not.
        at: "loops": behind every loop (without loops behind each quarter of the blocks), or the blocks' numbers, ascending.
        shared: the exits use the model's own head. False gives each a norm and a linear layer of its own, copies of the model's
            where they fit.

    Raises:
        InputError: for blocks that aren't there, or the last, which needs no exit.
    """
    vit = view(model)
    Steps(vit)  # refuses what has no head
    last = len(vit.blocks) - 1
    if isinstance(at, str):
        check_one_of("at", at, ("loops",))
        blocks = [end for end in vit.loop_ends if end < last]
    else:
        blocks = [int(block) for block in at]
    if not blocks or blocks != sorted(set(blocks)) or not 0 <= blocks[0] <= blocks[-1] < last:
        raise InputError(
            f"at is {at}; expected blocks of 0 to {last - 1}, ascending, each once: the last needs no exit"
        )
    with alone(vit.model):
        copied = copy.deepcopy(vit.model)
    attach(inner_of(copied), blocks, shared)
    return copied


def attach(model: nn.Module, at: Sequence[int], shared: bool) -> None:
    """Give a model exits behind these blocks, in place."""
    vit = view(model)
    heads = [] if shared else [_own_head(model, vit) for _ in at]
    setattr(model, CHILD, Exits(at, heads))
    exits: Any = getattr(model, CHILD)
    exits.to(next(model.parameters())).train(model.training)


def exits_of(model: nn.Module) -> Exits | None:
    """The model's exits, where it has any."""
    found = getattr(inner_of(model), CHILD, None)
    return found if isinstance(found, Exits) else None


def _own_head(model: nn.Module, vit: ViT) -> nn.Module:
    """A norm and a linear layer over the pooled tokens: copies of the model's last ones where they are of these sizes."""
    wide = vit.sites[0].reader.out_features
    block_parts = {m for block in vit.blocks for m in block.modules()}
    outside = [m for m in model.modules() if m not in block_parts]
    linears = [m for m in outside if isinstance(m, nn.Linear) and m.in_features == wide]
    norms = [m for m in outside if isinstance(m, nn.LayerNorm) and m.normalized_shape == (wide,)]
    if not linears:
        raise InputTypeError(
            f"{type(model).__name__} has no linear classifier over {wide} channels; expected shared=True"
        )
    return nn.Sequential(copy.deepcopy(norms[-1]) if norms else nn.LayerNorm(wide), copy.deepcopy(linears[-1]))


@checked
def predict(
    model: nn.Module | ViT,
    images: Tensor,
    confidence: float = 0.9,
    *,
    by: str = "confidence",
    patience: int = 2,
    batch_size: int = 64,
) -> Prediction:
    """The model's answers, each from the first exit that is sure enough.

    Args:
        model: as :func:`with_exits` gave it.
        images: (B, C, H, W), transformed as the model wants it.
        confidence: an image leaves at an exit that is as sure as this, a number in (0, 1].
        by: what sure means. "confidence": the largest probability. "entropy": 1 less the entropy of the probabilities as a share of the
            largest there can be. "patience": so many exits in a row (``patience``) that say the same; ``confidence`` isn't used.
        batch_size: images run at a time.
    """
    steps, exits = _checked(model, by, confidence)
    check_images(images)
    check_count("batch_size", batch_size)
    check_count("patience", patience)
    stops = [*(block + 1 for block in exits.at), len(steps.vit.blocks)]
    found: list[tuple[Tensor, Tensor]] = []
    with steps.running():
        for part in images.split(batch_size):
            x = steps.enter(part)
            here = torch.arange(len(x), device=x.device)
            depth = torch.zeros(len(x), dtype=torch.long)
            answers: Tensor | None = None
            streak = torch.zeros(len(x), dtype=torch.long, device=x.device)
            said = torch.full_like(streak, -1)
            for which, (start, stop) in enumerate(zip([0, *stops], stops, strict=False)):
                x = steps.run(x, start, stop)
                logits = steps.vit.readout(x) if stop == stops[-1] else exits.logits(steps.vit, which, x)
                if answers is None:
                    answers = torch.empty(len(part), logits.shape[-1])
                classes = logits.argmax(-1)
                streak = torch.where(classes == said, streak + 1, 1)
                said = classes
                sure = streak >= patience if by == "patience" else scores(logits, by) >= confidence
                sure |= stop == stops[-1]
                leaving = here[sure].cpu()
                answers[leaving] = logits[sure].float().cpu()
                depth[leaving] = stop
                x, here, streak, said = (each[~sure] for each in (x, here, streak, said))
                if not len(here):
                    break
            assert answers is not None
            found.append((answers, depth))
    return Prediction(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def exit_logits(model: nn.Module | ViT, images: Tensor, batch_size: int = 64) -> Tensor:
    """The answer of every exit, the last block among them: (exits, B, classes), float32 on the CPU."""
    steps, exits = _checked(model, "confidence", 1)
    stops = [*(block + 1 for block in exits.at), len(steps.vit.blocks)]
    parts = []
    with steps.running():
        for part in images.split(batch_size):
            x, answers = steps.enter(part), []
            for which, (start, stop) in enumerate(zip([0, *stops], stops, strict=False)):
                x = steps.run(x, start, stop)
                logits = steps.vit.readout(x) if stop == stops[-1] else exits.logits(steps.vit, which, x)
                answers.append(logits.float().cpu())
            parts.append(torch.stack(answers))
    return torch.cat(parts, 1)


@checked
def calibrate_exits(
    model: nn.Module | ViT,
    images: Tensor,
    labels: Sequence[int] | Tensor,
    max_loss: float = 0.005,
    *,
    by: str = "confidence",
    batch_size: int = 64,
) -> ExitThreshold:
    """The lowest threshold that costs at most ``max_loss`` of the last block's accuracy, here and at every threshold above it.

    Choose it on held-out images: exits are surer of those that they were trained on, and figures on the images that it was chosen on
    are a little too good.

    Args:
        model: as :func:`with_exits` gave it, trained.
        images: (B, C, H, W), held out.
        labels: their classes (B,).
        max_loss: the share of accuracy that may be lost, from 0 to 1.
        by: "confidence" or "entropy", as for :func:`predict`.
    """
    check_one_of("by", by, RULES[:2])
    if max_loss != 0:
        check_number("max_loss", max_loss, 0, 1)
    _, exits = _checked(model, by, 1)
    check_images(images)
    check_count("batch_size", batch_size)
    truth = as_target(labels, len(images))
    assert truth is not None
    logits = exit_logits(model, images, batch_size)
    right, sure = logits.argmax(-1) == truth, scores(logits, by)
    stops = torch.tensor([*(block + 1 for block in exits.at), len(view(model).blocks)])
    full = right[-1].double().mean().item()
    chosen = ExitThreshold(by, 1.0, full, full, float(stops[-1]))
    levels = (
        torch.cat([sure[:-1].flatten().double().quantile(torch.linspace(1, 0, 201, dtype=torch.double))])
        .unique()
        .flip(0)
    )
    for level in levels.clamp(1e-6, 1).tolist():
        leaves = sure >= level
        leaves[-1] = True
        first = leaves.int().argmax(0)
        accuracy = right.gather(0, first[None])[0].double().mean().item()
        if accuracy < full - max_loss - 1e-12:
            break
        chosen = ExitThreshold(by, level, accuracy, full, stops[first].double().mean().item())
    return chosen


def _checked(model: nn.Module | ViT, by: str, confidence: float) -> tuple[Steps, Exits]:
    check_one_of("by", by, RULES)
    check_number("confidence", confidence, 0, 1)
    vit = view(model)
    exits = exits_of(vit.model)
    if exits is None:
        raise InputTypeError(f"{type(vit.model).__name__} has no exits; expected what with_exits gave")
    return Steps(vit), exits
