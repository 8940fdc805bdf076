"""Read and replace what enters and leaves a module while a model runs, only inside a ``with``."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import chain, count
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..checks import InputError, InputTypeError
from ..options import Precision
from .adapters import inside


@contextmanager
def in_turn(
    model: nn.Module, modules: Sequence[nn.Module], see: Callable[[int, tuple, dict], Tensor | None]
) -> Iterator[None]:
    """Call ``see(i, args, kwargs)`` whenever the i-th of ``modules`` is called while ``model`` runs.

    A tensor that it returns takes the place of the module's first positional input. A module that stands in the list several times
    is called as often a run (a loop): its calls are told apart by their order. Gradient checkpointing calls it again in another order
    when it recomputes what it hadn't kept, which raises InputError.
    """
    turns: dict[nn.Module, list[int]] = {}
    for i, module in enumerate(modules):
        turns.setdefault(module, []).append(i)
    counts: list[count] = []  # of each module's calls in the present run

    def begin(_model: nn.Module, _args: tuple) -> None:
        counts[:] = [count() for _ in turns]

    def hook(which: int, turns: list[int], _module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        if len(turns) > 1 and torch._C._current_graph_task_id() != -1:
            raise InputError(
                f"{type(model).__name__} runs one block several times, and gradient checkpointing calls them again in another order; "
                "expected a model without it (timm: model.set_grad_checkpointing(False))"
            )
        new = see(turns[next(counts[which]) % len(turns)], args, kwargs)
        return None if new is None else ((new, *args[1:]), kwargs)

    begin(model, ())
    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(begin).remove)
        for which, (module, places) in enumerate(turns.items()):
            hook_here = partial(hook, which, places)
            stack.callback(module.register_forward_pre_hook(hook_here, with_kwargs=True).remove)
        yield


@contextmanager
def inputs_seen(module: nn.Module, see: Callable[[tuple, dict], Any]) -> Iterator[None]:
    """Call ``see(args, kwargs)`` whenever ``module`` is called; its input passes unchanged."""

    def hook(_module: nn.Module, args: tuple, kwargs: dict) -> None:
        see(args, kwargs)

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def input_replaced(module: nn.Module, replace: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Have ``module`` work on ``replace(input)`` in place of its first positional input."""
    handle = module.register_forward_pre_hook(lambda _module, args: (replace(args[0]), *args[1:]))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def output_from(module: nn.Module, make: Callable[[tuple, Any], Any]) -> Iterator[None]:
    """Have ``module`` give ``make(args, output)`` in place of its output."""
    handle = module.register_forward_hook(lambda _module, args, output: make(args, output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def alone(model: nn.Module) -> Iterator[None]:
    """No other thread is in here with the same model: it waits. A thread may be in here several times."""
    with _KNOWN:
        lock = _LOCKS.setdefault(inside(model), threading.RLock())
    with lock:
        yield


_KNOWN = threading.Lock()
_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Afterwards every module is in train or in eval mode as before, each by itself."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, its parameters out of the autograd graph; every flag restored afterwards.

    Gradients are recorded inside where asked for with ``torch.enable_grad``, even if the caller stands in
    ``torch.inference_mode``. Another thread that wants the same model at rest waits until it is as it was.

    Raises InputTypeError for a model that was made under ``torch.inference_mode``: no gradient can pass through its weights.
    """
    with ExitStack() as stack:
        stack.enter_context(alone(model))
        check_gradients_pass(model)
        stack.enter_context(modes_kept(model))
        flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        try:
            for module in model.modules():
                module.training = False
            for parameter, flag in flags:
                if flag:
                    parameter.requires_grad_(False)
            yield
        finally:
            for parameter, flag in flags:
                if flag:
                    parameter.requires_grad_(True)


def check_gradients_pass(model: nn.Module) -> None:
    """Refuse a model with a weight through which no gradient can pass, and whose flags couldn't be restored."""
    for name, value in chain(model.named_parameters(), model.named_buffers()):
        if value.is_inference():
            raise InputTypeError(
                f"the model's {name} was made under torch.inference_mode, so no gradient can pass through it; expected a model made "
                "outside, or copy.deepcopy(model) of it, taken outside"
            )


@contextmanager
def eager() -> Iterator[None]:
    """Run compiled modules as they were written, for hooks don't reach into compiled code.

    torch's stance is the process's: the first thread in here changes it, the last one out changes it back.
    """
    set_stance = getattr(torch.compiler, "set_stance", None)  # torch 2.6 and later
    if set_stance is None:
        yield
        return
    with _KNOWN:
        if not _EAGER:
            stance = set_stance("force_eager")
            stance.__enter__()
            _EAGER.append(stance)
        else:
            _EAGER.append(_EAGER[0])
    try:
        yield
    finally:
        with _KNOWN:
            stance = _EAGER.pop()
            if not _EAGER:
                stance.__exit__(None, None, None)


_EAGER: list[AbstractContextManager] = []  # as often as someone is inside


def in_precision(model: nn.Module, precision: Precision | None) -> AbstractContextManager:
    """bfloat16 where the model runs, if asked for."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16)
