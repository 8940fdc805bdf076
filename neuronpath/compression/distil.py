"""Give a smaller model back what it has lost: it is trained to answer as the model does that it was made of; no labels are needed."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Sized
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..checks import InputError, InputTypeError, check_count, check_number, checked
from ..data.elements import parts
from ..data.given import check_images
from ..models.hooks import at_rest, check_gradients_pass, eager, modes_kept
from ..models.outputs import as_tensor, run_model, widest
from ..models.view import view
from .checkpoint import Checkpoint
from .recursive.exits import Exits, exits_of

HIDDEN = 1.0  # weight of the hidden states' relative error beside the divergence
EXITS = 1.0  # weight of the exits' divergence, their mean, beside that of the last block


@dataclass(frozen=True)
class Plan:
    """How a student is trained; a checkpoint of another plan isn't gone on with."""

    epochs: int
    batches: int  # an epoch
    lr: float
    temperature: float
    weight_decay: float
    hidden: bool
    exits: bool
    seed: int

    def rate(self, step: int) -> float:
        """The learning rate of a step: a cosine from ``lr`` to 0."""
        return self.lr * (1 + math.cos(math.pi * step / (self.epochs * self.batches))) / 2


@checked
def distil(
    student: nn.Module,
    teacher: nn.Module,
    loader: Iterable[Any],
    epochs: int = 1,
    lr: float = 5e-4,
    *,
    hidden: bool = True,
    exits: bool = True,
    temperature: float = 1.0,
    weight_decay: float = 0.0,
    seed: int = 0,
    checkpoint: str | os.PathLike | None = None,
    every: int = 100,
    progress: bool = False,
) -> nn.Module:
    """Train the student, in place, to give the teacher's probabilities; no labels are needed.

    The loss is KL(teacher || student) of the probabilities at ``temperature``, times its square (Hinton et al., "Distilling the
    Knowledge in a Neural Network", 2015, section 2), and with ``hidden`` the relative squared error of the residual stream at the end
    of each loop. The probabilities are a softmax's, of a model with one class a sigmoid's. AdamW, its rate falling to 0 by a cosine,
    gradients clipped to norm 1.

    Args:
        student: a smaller model: pruned, low-rank, recursive. Trained in train mode (dropout acts), returned in the mode it came in.
        teacher: the model that it was made of; left as it was.
        loader: gives batches of images (B, C, H, W), or tuples that begin with them, anew in every epoch; a DataLoader, a list.
        epochs: rounds through the loader.
        lr: the highest learning rate.
        hidden: compare hidden states too. Both models must be vision transformers of one width; the ends of the student's loops (of
            one without loops each quarter of its blocks) are compared with the teacher at the same share of its depth; of one with
            exits the last block alone, for the exits' states are to serve the exits.
        exits: train the exits of a student that :func:`with_exits` gave to the teacher's probabilities too.
        seed: of dropout, and of a loader that shuffles by torch's own random numbers.
        checkpoint: a file that is written every so many batches (``every``), and at the end. If it is there already, training goes on
            where it stopped, with the result of a run that never did, provided that the loader gives the same batches again: a list, or
            a DataLoader that shuffles by torch's random numbers or by its own ``generator``.
        progress: True shows a bar over the batches, with the loss.

    Raises:
        InputError: for a loader without batches, a loss that is NaN or infinite, or a checkpoint of another training.
    """
    check_count("epochs", epochs)
    check_count("seed", seed, 0)
    check_count("every", every)
    check_number("lr", lr, above=0)
    check_number("temperature", temperature, above=0)
    if weight_decay != 0:
        check_number("weight_decay", weight_decay, above=0)
    if not isinstance(loader, Sized):
        raise InputTypeError(f"loader is a {type(loader).__name__} without a length; expected a DataLoader or a list")
    if not len(loader):
        raise InputError("the loader gave no batches; expected at least one")
    check_gradients_pass(student)
    like = next(student.parameters(), None)
    if like is None or not any(parameter.requires_grad for parameter in student.parameters()):
        raise InputError("student has no weight that requires a gradient; expected student.requires_grad_(True)")
    plan = Plan(epochs, len(loader), lr, temperature, weight_decay, hidden, exits, seed)
    early = exits_of(student) if exits else None
    pairs = _compared(student, teacher, early) if hidden else []
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr, weight_decay=weight_decay)
    kept = None if checkpoint is None else Checkpoint(checkpoint, student, optimizer, loader, json.dumps(asdict(plan)))
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[like.device] if like.is_cuda else []))
        bar = stack.enter_context(tqdm(total=epochs * len(loader), unit="batch", disable=not progress))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(modes_kept(student))
        step = 0 if kept is None else kept.load()
        bar.update(step)
        student.train()
        begin = step
        for images in _batches(loader, plan, step, kept):
            loss = _loss(student, teacher, images, plan, pairs, early, first=step == begin)
            if not torch.isfinite(loss):
                raise InputError(f"the loss became {loss.item()}; expected a lower lr than {lr}")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.param_groups[0]["lr"] = plan.rate(step)
            optimizer.step()
            step += 1
            bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
            bar.update()
            if kept is not None and (step % every == 0 or step == epochs * len(loader)):
                kept.save(step)
    return student


@checked
def recover(
    student: nn.Module,
    teacher: nn.Module,
    loader: Iterable[Any],
    epochs: int = 1,
    lr: float = 1e-4,
    *,
    temperature: float = 1.0,
    weight_decay: float = 0.0,
    seed: int = 0,
    progress: bool = False,
) -> nn.Module:
    """:func:`distil` by the probabilities alone, at a lower rate: for models of any kind that were pruned a little."""
    return distil(
        student, teacher, loader, epochs, lr,
        hidden=False, exits=False, temperature=temperature, weight_decay=weight_decay, seed=seed, progress=progress,
    )  # fmt: skip


def _batches(loader: Iterable[Any], plan: Plan, done: int, kept: Checkpoint | None) -> Iterator[Tensor]:
    """The images of all epochs' batches but the first ``done``, every epoch from a seed of its own.

    The epoch in which training stopped is gone through again from its begin, for the loader's sake.
    """
    begin = max(0, done - 1) // plan.batches
    for epoch in range(begin, plan.epochs if done < plan.epochs * plan.batches else 0):
        torch.manual_seed((plan.seed + epoch) % 2**64)  # what torch takes
        if kept is not None:
            kept.begin_epoch(resumed=epoch == begin)
        for number, batch in enumerate(loader, epoch * plan.batches):
            if number < done:
                continue
            if number == done and kept is not None and done % plan.batches:
                kept.restore_random()
            batch, _ = parts(batch)
            check_images(batch, "a batch of the loader")
            yield batch


def _loss(
    student: nn.Module,
    teacher: nn.Module,
    images: Tensor,
    plan: Plan,
    pairs: list[tuple[nn.Module, nn.Module]],
    early: Exits | None,
    first: bool,
) -> Tensor:
    """What the student is to make small for these images."""
    t = plan.temperature
    with at_rest(teacher), _outputs([theirs for _, theirs in pairs]) as expected:
        said = run_model(teacher, _for(teacher, images))
    images = _for(student, images)
    if first:
        check_alike(student, images[:1], said)
    vit = None if early is None else view(student)
    behind = [] if early is None or vit is None else [vit.blocks[i] for i in early.at]
    hooked = [*(own for own, _ in pairs), *behind]
    with _outputs(hooked) as seen, eager() if hooked else nullcontext():  # hooks don't reach into compiled code
        answer = as_tensor(student(images))
    wanted = _log_probabilities(said, t).to(answer.device)

    def divergence(logits: Tensor) -> Tensor:
        found = _log_probabilities(logits, t)
        return nn.functional.kl_div(found, wanted, reduction="batchmean", log_target=True) * t**2

    loss = divergence(answer)
    if early is not None and vit is not None:
        answers = [divergence(early.logits(vit, which, seen[block])) for which, block in enumerate(behind)]
        loss = loss + EXITS * torch.stack(answers).mean()
    for own, theirs in pairs:
        if seen[own].shape != expected[theirs].shape:
            raise InputError(
                f"the student's hidden states are {tuple(seen[own].shape[1:])} and the teacher's {tuple(expected[theirs].shape[1:])}; "
                "expected the same, or hidden=False"
            )
        state = expected[theirs].to(seen[own])
        error = (seen[own] - state).square().mean() / state.square().mean()
        loss = loss + HIDDEN * error / len(pairs)
    return loss


def _for(model: nn.Module, images: Tensor) -> Tensor:
    """Images of the kind, and on the device, of the model's weights."""
    like = next(model.parameters(), None)
    return images if like is None else images.to(like)


def _log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Of (B, classes); of a single logit those of its sigmoid, yes and no: a softmax of one is always 1."""
    logits = logits.to(widest(logits)) / temperature
    return (nn.functional.pad(logits, (0, 1)) if logits.shape[-1] == 1 else logits).log_softmax(-1)


def _compared(student: nn.Module, teacher: nn.Module, early: Exits | None) -> list[tuple[nn.Module, nn.Module]]:
    """Blocks of the student whose output is compared, each with the block of the teacher at the same share of depth."""
    try:
        own, theirs = view(student), view(teacher)
    except InputTypeError as error:
        raise InputTypeError(f"hidden states can't be compared: {error}; or hidden=False") from None
    depth = len(theirs.blocks) / len(own.blocks)
    ends = own.loop_ends if early is None else own.loop_ends[-1:]
    return [(own.blocks[i], theirs.blocks[max(0, round((i + 1) * depth) - 1)]) for i in ends]


@contextmanager
def _outputs(modules: list[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """What these modules give while a model runs, by the module."""
    seen: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _args: tuple, output: Any) -> None:
        seen[module] = output[0] if isinstance(output, tuple) else output

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(keep).remove)
        yield seen


def check_alike(student: nn.Module, image: Tensor, wanted: Tensor) -> None:
    """Refuse a student that can't run on an image (1, C, H, W), or whose output isn't of the teacher's (B, classes) shape."""
    with at_rest(student):
        classes = run_model(student, image).shape[1:]
    if classes != wanted.shape[1:]:
        raise InputError(
            f"student gives {tuple(classes)} numbers an image where teacher gives {tuple(wanted.shape[1:])}; expected as many"
        )
