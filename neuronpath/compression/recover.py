"""Give a pruned model back what it has lost: a short distillation from the model that it was cut from."""

from collections.abc import Iterable, Sized
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..checks import InputError, InputTypeError
from ..models.hooks import at_rest
from ..models.outputs import as_tensor, run_model


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
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise InputError(f"epochs is {epochs!r}; expected a whole number of at least 1")
    for name, value in (("lr", lr), ("temperature", temperature)):
        if not value > 0:
            raise InputError(f"{name} is {value!r}; expected a number above 0")
    like = next(student.parameters())
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr, weight_decay=weight_decay)
    modes = [(module, module.training) for module in student.modules()]
    if not isinstance(loader, Sized):
        raise InputTypeError(f"loader is a {type(loader).__name__} without a length; expected a DataLoader or a list")
    if not len(loader):
        raise InputError("the loader gave no batches; expected at least one")
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
                    images = (batch if isinstance(batch, Tensor) else batch[0]).to(like)
                    with at_rest(teacher):
                        wanted = (run_model(teacher, images) / temperature).log_softmax(-1)
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
