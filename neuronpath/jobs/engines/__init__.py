"""Where shards are worked on; one engine a file, which is imported when it is asked for."""

from .registry import list_engines, register_engine

__all__ = ["list_engines", "register_engine"]
