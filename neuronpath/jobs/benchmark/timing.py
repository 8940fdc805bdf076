"""Times in F+B, one plain forward and one backward of the same model and images, taken in turn with the work: machines are shared."""

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...models.hooks import at_rest, input_replaced
from ...models.outputs import as_tensor
from ...models.view import view
from ...models.vit import ViT
from ...paths.neuron_paths import versions


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """What figures depend on."""
    kind = torch.device(device)
    return {
        "device": torch.cuda.get_device_name(kind) if kind.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        **versions(),
        "date": time.strftime("%Y-%m-%d"),
    }


def forward_backward(model: nn.Module | ViT, images: Tensor) -> None:
    """F+B, the unit of cost: one plain forward of all images (B, C, H, W), one backward to the first block's input."""
    vit = view(model)
    leaves: list[Tensor] = []

    def leaf(x: Tensor) -> Tensor:
        leaves.append(x.detach().requires_grad_())
        return leaves[0]

    with at_rest(vit.model), torch.enable_grad(), input_replaced(vit.blocks[0], leaf):
        torch.autograd.grad(as_tensor(vit.model(images)).softmax(-1)[:, 0].sum(), leaves)


def seconds(work: Callable[[], object], device: torch.device | str) -> float:
    """How long it takes."""
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def multiples(
    unit: Callable[[], object], work: Callable[[], object], repeats: int, device: torch.device | str
) -> list[float]:
    """How many units the work takes, once a repeat; units are timed before and after it."""
    found = []
    unit()  # warm up
    for _ in range(repeats):
        before = [seconds(unit, device) for _ in range(3)]
        taken = seconds(work, device)
        after = [seconds(unit, device) for _ in range(3)]
        found.append(taken / statistics.median(before + after))
    return found
