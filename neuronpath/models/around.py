"""Models that hold a vision transformer and do more than it does: a normalisation before it, a head of their own behind it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

from torch import Tensor, nn

from .adapters import is_linear, layers_of
from .outputs import run_model


def own_head(whole: nn.Module, inner: nn.Module) -> nn.Linear | None:
    """The last linear layer that a model has beside the vision transformer inside it; None where it has none."""
    within = set(inner.modules())
    linears = [layer for layer in layers_of(whole) if is_linear(layer) and layer not in within]
    return linears[-1] if linears else None


def output_around(whole: nn.Module, blocks: Sequence[nn.Module]) -> Callable[[Tensor, Tensor], Tensor]:
    """What makes the whole model's output of its images (R, C, H, W) and the last block's output (R, N, D).

    The model runs as it is, whichever way it calls what is inside it, but none of the blocks computes anything.
    """

    def output(images: Tensor, x: Tensor) -> Tensor:
        turn = count(1)
        with answered(blocks, lambda given, *_, **__: x if next(turn) == len(blocks) else given):
            return run_model(whole, images)

    return output


@contextmanager
def answered(modules: Sequence[nn.Module], answer: Callable[..., Any]) -> Iterator[None]:
    """Have ``answer`` take the place of what these modules compute: no hook can keep a module from computing."""
    own = {module: vars(module).get("forward") for module in modules}
    try:
        for module in own:
            vars(module)["forward"] = answer
        yield
    finally:
        for module, forward in own.items():
            del vars(module)["forward"]
            if forward is not None:
                vars(module)["forward"] = forward
