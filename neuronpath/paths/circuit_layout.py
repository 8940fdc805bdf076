"""Where a circuit's units stand in any picture of it: a column a block, its neurons stacked from below, its heads above them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..units import Place, Unit

STACK = 12  # units of a kind on top of each other, at most; more stand side by side
COLUMN = 0.84  # of a block's width: what its units take


@dataclass(frozen=True)
class Spot:
    """One unit of a circuit."""

    unit: Unit
    rank: int  # 0 is the most important
    x: float  # in blocks
    y: float  # in rows
    weight: float  # of the first rank 1, of the last 0


class Stacks:
    """The spots of a circuit's units, the most important of each column lowest.

    ``across`` is how many stand side by side, ``bases`` the row on which each kind stands, ``height`` the rows of all. Below each kind
    a row is free, or, where units stand side by side, ``gap`` rows.
    """

    def __init__(self, units: Sequence[Unit], places: Sequence[Place], gap: float = 1.0) -> None:
        self.blocks = sorted({place.block for place in places} | {unit.block for unit in units})
        self.columns: dict[tuple[int, str], list[tuple[int, Unit]]] = {}
        for rank, unit in enumerate(units):
            self.columns.setdefault((unit.block, unit.kind), []).append((rank, unit))
        self.across = -(-max(map(len, self.columns.values()), default=1) // STACK)
        self.bases: dict[str, float] = {}
        self.height = 0.0
        self._last = max(len(units) - 1, 1)
        free = 1.0 if self.across == 1 else gap
        for kind in ("neuron", "head"):
            if sizes := [len(column) for (_, each), column in self.columns.items() if each == kind]:
                self.bases[kind] = self.height + free
                self.height += free + self.rows(max(sizes))

    def rows(self, count: int) -> int:
        """The rows that so many units take."""
        return -(-count // self.across)

    def __iter__(self) -> Iterator[Spot]:
        for column in self.columns.values():
            for at, (rank, unit) in enumerate(column):
                row, slot = divmod(at, self.across)
                x = unit.block + COLUMN * ((slot + 0.5) / self.across - 0.5)
                yield Spot(unit, rank, x, self.bases[unit.kind] + row, 1 - rank / self._last)
