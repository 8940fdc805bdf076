"""Give a pruned model back what it has lost: a short distillation from the model that it was cut from."""

from collections.abc import Iterable, Sized
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..checks import InputError, InputTypeError, check_count, check_number, checked
from ..data.given import check_images
from ..models.hooks import at_rest, check_gradients_pass
from ..models.outputs import as_tensor, run_model


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
    """Train the student, in place, to give the teacher's probabilities; no labels are needed.

    The loss is KL(teacher || student) of the probabilities at ``temperature``, times its square (Hinton et al., "Distilling the
    Knowledge in a Neural Network", 2015, section 2); AdamW, its rate falling to 0 by a cosine, gradients clipped to norm 1.

    Args:
        student: the pruned model; trained in train mode (dropout acts), returned in the mode that it came in.
        teacher: the model that it was cut from; left as it was.
        loader: gives batches of images (B, C, H, W), or tuples that begin with them, anew in every epoch; a DataLoader, a list.
        epochs: rounds through the loader.
        lr: the highest learning rate.
        seed: of dropout. The order of the batches is the loader's own affair.
        progress: True shows a bar over the batches, with the loss.

    Raises:
        InputError: for a loader without batches, or a loss that is NaN or infinite.
    """
    check_count("epochs", epochs)
    check_count("seed", seed, 0)
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
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr, weight_decay=weight_decay)
    modes = [(module, module.training) for module in student.modules()]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    devices = [like.device] if like.is_cuda else []
    student.train()
    with (
        torch.random.fork_rng(devices=devices),
        tqdm(total=epochs * len(loader), unit="batch", disable=not progress) as bar,
        torch.enable_grad(),
    ):
        torch.manual_seed(seed)
        try:
            for _ in range(epochs):
                for batch in loader:
                    batch = batch[0] if isinstance(batch, tuple | list) and batch else batch
                    check_images(batch, "a batch of the loader")
                    images = batch.to(like)
                    with at_rest(teacher):
                        wanted = (run_model(teacher, images) / temperature).log_softmax(-1)
                    if bar.n == 0:
                        check_alike(student, images[:1], wanted)
                    found = (as_tensor(student(images)) / temperature).log_softmax(-1)
                    loss = nn.functional.kl_div(found, wanted, reduction="batchmean", log_target=True) * temperature**2
                    if not torch.isfinite(loss):
                        raise InputError(f"the loss became {loss.item()}; expected a lower lr than {lr}")
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(student.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                    bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
                    bar.update()
        finally:
            for module, training in modes:
                module.training = training
    return student


def check_alike(student: nn.Module, image: Tensor, wanted: Tensor) -> None:
    """Refuse a student that can't run on an image (1, C, H, W), or whose output isn't of the teacher's (B, classes) shape."""
    with at_rest(student):
        classes = run_model(student, image).shape[1:]
    if classes != wanted.shape[1:]:
        raise InputError(
            f"student gives {tuple(classes)} numbers an image where teacher gives {tuple(wanted.shape[1:])}; expected as many"
        )
