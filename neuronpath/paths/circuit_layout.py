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

    ``across`` is how many stand side by side, ``bases`` the row on which each kind stands, ``height`` the rows of all. ``gap`` rows
    are left below each kind.
    """

    def __init__(self, units: Sequence[Unit], places: Sequence[Place], gap: float = 1.0) -> None:
        self.blocks = sorted({place.block for place in places} or {unit.block for unit in units})
        self.columns: dict[tuple[int, str], list[tuple[int, Unit]]] = {}
        for rank, unit in enumerate(units):
            self.columns.setdefault((unit.block, unit.kind), []).append((rank, unit))
        self.total = len(units)
        self.across = -(-max(map(len, self.columns.values()), default=1) // STACK)
        self.bases: dict[str, float] = {}
        self.height = 0.0
        for kind in ("neuron", "head"):
            most = max((len(column) for (_, each), column in self.columns.items() if each == kind), default=0)
            if most:
                self.bases[kind] = self.height + gap
                self.height += gap + -(-most // self.across)

    def __iter__(self) -> Iterator[Spot]:
        """The spots, the most important first."""
        spots = [
            self.spot(at, rank, unit) for column in self.columns.values() for at, (rank, unit) in enumerate(column)
        ]
        return iter(sorted(spots, key=lambda spot: spot.rank))

    def spot(self, at: int, rank: int, unit: Unit) -> Spot:
        """Of the unit that comes as number ``at`` in its column."""
        row, slot = divmod(at, self.across)
        x = unit.block + COLUMN * ((slot + 0.5) / self.across - 0.5)
        return Spot(unit, rank, x, self.bases[unit.kind] + row, 1 - rank / max(self.total - 1, 1))
