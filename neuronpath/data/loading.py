"""Images of a source, decoded ahead by threads while the model runs on those before them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..checks import InputError, printable, shown
from ..models.transform import Transform
from .containers import Item
from .source import Source


class Loaded(NamedTuple):
    """An image as the model sees it, or why there is none."""

    item: Item
    pixels: Tensor | None
    label: str | None = None
    reason: str | None = None
    read: bool = False
    """Of an image that there is none of: whether it could be read, so that the transform failed."""


def loaded(
    source: Source, items: Iterable[Item], transform: Callable[[], Transform], threads: int = 4, ahead: int = 128
) -> Iterator[Loaded]:
    """Every item's image, in order, at most ``ahead`` of them beforehand. ``transform()`` is asked for if there are any to transform.

    Pillow lets go of the interpreter while it decodes and scales, so threads do. A Dataset of the user's own is asked by one.
    """
    if source.memory is not None and not isinstance(source.memory, Tensor | np.ndarray):
        threads = 1

    def load(item: Item) -> Loaded:
        label, read = item.label, False
        try:
            image, label = source.read(item)
            read = True
            pixels = image if isinstance(image, Tensor) else transform()(image)
            if not isinstance(pixels, Tensor):
                raise InputError(f"the transform gives {shown(pixels)} for {item.id}; expected a tensor (C, H, W)")
            return Loaded(item, pixels, label)
        except InputError as error:
            reason = str(error)
        except Exception as error:  # the transform may be the user's own
            reason = printable(f"{item.id} can't be used ({type(error).__name__}: {' '.join(str(error).split())})")
        return Loaded(item, None, label, reason, read)

    waiting: deque[Future[Loaded]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(load, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
