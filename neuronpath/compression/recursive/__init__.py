"""Recursive transformers: a few shared blocks, run in loops, each pass with a little of its own."""

from .exits import ExitThreshold, Prediction, calibrate_exits, predict, with_exits
from .merge import merge_, unmerge_
from .recursive import recursive

__all__ = [
    "ExitThreshold", "Prediction", "calibrate_exits", "merge_", "predict", "recursive", "unmerge_", "with_exits",
]  # fmt: skip
