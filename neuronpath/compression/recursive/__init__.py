"""Recursive transformers: a few shared blocks, run in loops, each pass with a little of its own."""

from .merge import merge_, unmerge_
from .recursive import recursive

__all__ = ["merge_", "recursive", "unmerge_"]
