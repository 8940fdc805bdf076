"""What a comparison of smaller models runs: ways x shares, without training and with it."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from ...checks import InputError, check_count, check_number, check_one_of
from ...compression.sized import ways_of
from ...options import Equal, Layout

METHODS = ("low-rank", "recursive", "recursive+low-rank", "prune", "first-blocks", "every-other")
MOST, MANY = 1000, 10**9  # epochs; images and seeds: what is typed wrong shall not run for ever


@dataclass(frozen=True)
class Plan:
    """What is made and measured."""

    methods: Sequence[str] = METHODS
    shares: Sequence[float] = (0.5, 0.3)
    equal: Equal = "parameters"  # or multiply-adds: what the shares are of
    unique: int | None = None  # of recursive
    layout: Layout = "cycle"
    epochs: int = 0  # above 0: every model once more, distilled
    lr: float = 5e-4
    batch: int = 32  # images a step
    train: int | None = None  # images to distil on; None is all that aren't tested on
    calibration: int = 400  # of them, to fit on
    seed: int = 0
    latency_batch: int = 16

    def __post_init__(self) -> None:
        check_one_of("equal", self.equal, get_args(Equal))
        check_one_of("layout", self.layout, get_args(Layout))
        for name, values in (("methods", self.methods), ("shares", self.shares)):
            if not values or len(set(values)) < len(values):
                raise InputError(f"{name} are {', '.join(map(str, values)) or 'none'}; expected some, each once")
        for method in self.methods:
            ways_of(method, self.equal)
        for share in self.shares:
            check_number("a share", share, 0, 1)
        for name in ("batch", "calibration", "latency_batch", "unique", "train"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        check_count("epochs", self.epochs, 0)
        check_count("seed", self.seed, 0)
        for name, most in {
            "epochs": MOST,
            **dict.fromkeys(("batch", "calibration", "latency_batch", "train", "seed"), MANY),
        }.items():
            if (getattr(self, name) or 0) > most:
                raise InputError(f"{name} is {getattr(self, name)}; expected at most {most}")
        check_number("lr", self.lr, 0)

    def cells(self) -> Iterator[dict[str, Any]]:
        """Every run, by what tells it from the others."""
        trained = (False, True) if self.epochs else (False,)
        for method, share, again in itertools.product(self.methods, self.shares, trained):
            yield {"method": method, "share": share, "distilled": again}
