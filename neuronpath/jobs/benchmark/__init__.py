"""Figures of a model on images, with controls and intervals, in a folder that goes on where it stopped."""

from .benchmark import SUITES, benchmark

__all__ = ["SUITES", "benchmark"]
