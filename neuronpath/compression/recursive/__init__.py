"""Recursive transformers: a few shared blocks, run in loops, each pass with a little of its own."""

from .answers import ExitThreshold, Prediction, calibrate_exits, predict
from .exits import with_exits
from .merge import merge_, unmerge_
from .paper import BlockTimes, Simulation, simulate
from .recursive import recursive
from .server import Answer, Server

__all__ = [
    "Answer", "BlockTimes", "ExitThreshold", "Prediction", "Server", "Simulation", "calibrate_exits", "merge_", "predict", "recursive",
    "simulate", "unmerge_", "with_exits",
]  # fmt: skip
