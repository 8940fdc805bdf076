"""The folder of an experiment: what was planned, and a record of every run that is done."""

import json
import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ...files import write_whole
from .. import folder as folders

SETTINGS, RUNS = "settings.json", "runs"
_WHERE = (SETTINGS, (RUNS,), "an experiment")


def check_folder(folder: Path) -> None:
    """Refuse a folder that is there and holds something else than an experiment, or the beginning of one that was killed."""
    folders.check_folder(folder, *_WHERE)


def at_work(folder: Path, settings: dict[str, Any]) -> AbstractContextManager[list[Path]]:
    """The folder of this very experiment, new or gone on with; gives the folder of its runs. No other process is at work there."""
    return folders.at_work(folder, *_WHERE, settings, folders.names_that_differ)


def write_run(file: Path, cell: dict[str, Any], measured: dict[str, Any]) -> None:
    """Keep what a run has measured."""
    text = json.dumps({**cell, **measured})
    write_whole(file, lambda part: part.write_text(text + "\n"), overwrite=True)


def run_of(file: Path, cell: dict[str, Any], n_test: int) -> dict[str, Any]:
    """What an earlier run of this cell has measured; refuses what no run can have written."""
    return folders.read_record(
        file, "delete it and its run is made again", lambda found: found | cell == found and _is_run(found, n_test)
    )


MEASURED = ("parameters", "multiply_adds", "bytes", "latency_dense_s", "latency_s", "time_s")  # of a pruned model


def _is_run(found: dict[str, Any], n_test: int) -> bool:
    """Whether all figures are there, finite numbers, and wrong answers those of test images."""
    shares = [found.get("accuracy"), found.get("others_taken_for_it", 0)]
    if "keep" not in found:  # the paper's protocol: a class may be the only one
        return "others_taken_for_it" in found and all(isinstance(share, float | int) for share in shares)
    wrong, widths = found.get("wrong"), found.get("widths")
    return (
        all(_is_number(share) and 0 <= share <= 1 for share in shares)
        and all(_is_number(found.get(name)) and found[name] > 0 for name in MEASURED)
        and isinstance(widths, list)
        and isinstance(wrong, list)
        and all(type(image) is int and 0 <= image < n_test for image in wrong)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
