"""Sites, the places in a model where units are read and held, and the one way through a model that reads and replaces them all."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..checks import InputError, check_one_of
from ..units import KINDS, Place
from .hooks import in_turn

Visit = Callable[
    [int, Tensor], Tensor | None
]  # a site's number and its channels (B, N, C) -> what takes their place, if anything


@dataclass(frozen=True, eq=False)
class Site:
    """Where units of one kind are read and held in one block: the input of a linear layer.

    Of an MLP that is the down-projection (``mlp.fc2``): a neuron is one channel of its input. Of attention it is the output projection
    (``attn.proj``): a head is its ``head_dim`` channels there, and a head's value is their norm.
    """

    block: int
    """The block, of the unrolled model: in a model that loops over a block every pass has sites of its own."""
    kind: str
    """The kind of its units: "neuron" or "head"."""
    reader: nn.Linear
    """The layer whose input is read and held."""
    size: int = 1
    """Channels a unit: 1, or ``head_dim``."""
    called: Callable[[], AbstractContextManager] = nullcontext
    """Inside it the model calls ``reader``, where it doesn't do so by itself."""

    def __post_init__(self) -> None:
        check_one_of("kind", self.kind, KINDS["both"])
        if self.size < 1 or self.reader.in_features % self.size:
            raise InputError(
                f"size is {self.size}; expected a divisor of the {self.reader.in_features} channels of {self.reader}"
            )

    @property
    def width(self) -> int:
        """The number of units."""
        return self.reader.in_features // self.size

    @property
    def place(self) -> Place:
        return Place(self.block, self.kind, self.width)

    def read(self, channels: Tensor) -> Tensor:
        """The units' values (..., U) of channels (..., C): the channel itself; of a head the norm."""
        return channels if self.size == 1 else torch.linalg.vector_norm(self._by_unit(channels), dim=-1)

    def write(self, values: Tensor, like: Tensor) -> Tensor:
        """Channels (..., C) with these values (..., U): of a head ``like`` (..., C), stretched; a head that is 0 stays so."""
        if self.size == 1:
            return values
        norm = self.read(like)
        return like * self.spread(values / torch.where(norm == 0, 1, norm))

    def spread(self, values: Tensor) -> Tensor:
        """Values (..., U) repeated for every channel of their unit, (..., C)."""
        return values if self.size == 1 else values.repeat_interleave(self.size, -1)

    def slope(self, gradient: Tensor, channels: Tensor) -> Tensor:
        """The gradient to the units' values (..., U), from that to the channels (..., C): value times it is the inner product."""
        if self.size == 1:
            return gradient
        norm = self.read(channels).to(gradient.dtype)
        return self._by_unit(gradient * channels).sum(-1) / torch.where(norm == 0, 1, norm)

    def _by_unit(self, channels: Tensor) -> Tensor:
        return channels.unflatten(-1, (-1, self.size))


@contextmanager
def visited(model: nn.Module, sites: Sequence[Site], visit: Visit) -> Iterator[None]:
    """Have ``visit`` see, and if it returns something replace, the channels of every site whenever the model runs."""
    with ExitStack() as stack:
        for site in {site.reader: site for site in sites}.values():
            stack.enter_context(site.called())
        stack.enter_context(in_turn(model, [site.reader for site in sites], partial(_first, visit)))
        yield


def _first(visit: Visit, site: int, args: tuple, _kwargs: dict) -> Tensor | None:
    return visit(site, args[0])
