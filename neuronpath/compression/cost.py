"""What a model costs: multiply-adds and time."""

import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..models.hooks import at_rest
from ..models.outputs import run_model

REPEATS = 5  # of each latency; their median counts


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
