"""Where shards are worked on; one engine a file."""

from . import local  # noqa: F401  (it registers)
from .registry import list_engines, register_engine

__all__ = ["list_engines", "register_engine"]
