"""One at a time at the model, and no more in memory than so much."""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from threading import Condition, RLock
from typing import Any

from ...checks import InputError

MOST_WAITING = 64


class Gone(Exception):  # noqa: N818
    """Whoever asked has left; nobody waits for the answer."""


class Turns:
    """Whoever comes first is first; those who left meanwhile are passed over; work in the background waits for all others."""

    def __init__(self) -> None:
        self._free = Condition()
        self._busy = False
        self._queue: deque[object] = deque()

    @contextmanager
    def turn(self, gone: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Be alone. Raises Gone if ``gone()`` while it waits, and InputError where too many wait already."""
        mine = object()
        with self._free:
            if len(self._queue) >= MOST_WAITING:
                raise InputError(f"{MOST_WAITING} others wait for the model; expected patience: try again soon")
            self._queue.append(mine)
            try:
                while self._busy or self._queue[0] is not mine:
                    self._free.wait(0.3)
                    if gone():
                        raise Gone
                self._busy = True
            finally:
                self._queue.remove(mine)
                self._free.notify_all()
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def spare(self) -> Iterator[None]:
        """Be alone when nobody else wants to be."""
        with self._free:
            self._free.wait_for(lambda: not self._busy and not self._queue)
            self._busy = True
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._free:
            self._busy = False
            self._free.notify_all()


class Kept:
    """What was used last: so many things by a key."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._things: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = RLock()

    def __len__(self) -> int:
        return len(self._things)

    def get(self, key: Hashable) -> Any:
        """The thing, or None."""
        with self._lock:
            if key in self._things:
                self._things.move_to_end(key)
            return self._things.get(key)

    def put(self, key: Hashable, thing: Any) -> Any:
        """Keep it, and let go of what wasn't used for longest."""
        with self._lock:
            self._things[key] = thing
            self._things.move_to_end(key)
            while len(self._things) > self.most:
                self._things.popitem(last=False)
        return thing
