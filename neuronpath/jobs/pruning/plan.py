"""What an experiment runs: importances x shares kept x scopes x seeds, or the paper's protocol."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from ...checks import InputError, check_one_of
from ...compression.importance import list_importances
from ...methods.registry import method_named
from ...options import ImportanceName, MethodName, Protocol, Scope

IMPORTANCES = ("path", *list_importances("images", "weights"))
MOST = 1000  # seeds, epochs: what is typed wrong shall not run for ever
PAPER_K, PAPER_SHARES = (1, 5, 10, 20, 50), (0.1, 0.3, 0.5, 1.0)


@dataclass(frozen=True)
class Plan:
    """What is run. ``protocol`` "prune" really prunes; "paper" masks a class's neurons on the tokens that the head pools."""

    importances: Sequence[ImportanceName] = IMPORTANCES
    keeps: Sequence[float] = (0.5, 0.25, 0.125, 0.0625)
    scopes: Sequence[str] = get_args(Scope)
    seeds: int = 3
    calibration: int = 256  # images a seed
    method: MethodName = "causal"  # of find_path, for the paths behind "path", which are found on all tokens
    top_k: int | None = None  # their neurons a block; None is a quarter of the narrowest block
    compensate: bool = False
    recover_epochs: int = 0  # above 0: every run once more, recovered on the calibration images
    lr: float = 5e-4  # of recovery
    latency_batch: int = 16
    protocol: Protocol = "prune"

    def __post_init__(self) -> None:
        for name, given, known in (
            ("importance", self.importances, IMPORTANCES),
            ("scope", self.scopes, get_args(Scope)),
        ):
            for value in given:
                if value not in known:
                    raise InputError(f"{name} {value!r} is unknown; expected some of {', '.join(known)}")
        for name, values in (("importances", self.importances), ("scopes", self.scopes), ("keeps", self.keeps)):
            if len(set(values)) < len(values):
                raise InputError(f"{name} names one twice: {', '.join(map(str, values))}; expected each once")
        method_named(self.method)
        if self.recover_epochs < 0:
            raise InputError(f"recover_epochs is {self.recover_epochs}; expected 0 or more")
        for name in ("seeds", "recover_epochs"):
            if getattr(self, name) > MOST:
                raise InputError(f"{name} is {getattr(self, name)}; expected at most {MOST}")
        check_one_of("protocol", self.protocol, get_args(Protocol))
        for share in self.keeps:
            if not 0 < share <= 1:
                raise InputError(f"keep is {share!r}; expected a share above 0 and at most 1")
        for name in ("seeds", "calibration", "top_k", "latency_batch"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 1")

    def cells(self) -> Iterator[dict[str, Any]]:
        """Every run, by what tells it from the others; runs that share an importance stand together."""
        recovered = (False, True) if self.recover_epochs else (False,)
        for seed, by in itertools.product(range(self.seeds), self.importances):
            for scope, keep, again in itertools.product(self.scopes, self.keeps, recovered):
                yield {"seed": seed, "importance": by, "scope": scope, "keep": keep, "recovered": again}

    def paper_cells(self, classes: Sequence[int]) -> Iterator[dict[str, Any]]:
        for seed, k, label in itertools.product(range(self.seeds), PAPER_K, classes):
            for share, kept in itertools.product(PAPER_SHARES, ("path", "random")):
                yield {"seed": seed, "k": k, "label": label, "masked": share, "kept": kept}
