"""The ways to find a path, a file each, and the one door to them: :func:`find_path`."""

from . import activation, causal, conductance, influence_pattern, joint, knowledge, live, random  # noqa: F401  (they register)
from .circuit import find_circuit
from .find import find_path
from .presets import list_presets
from .rank import rank_units
from .registry import Found, Search, list_methods, register_method
from .several import find_paths, way

__all__ = [
    "Found",
    "Search",
    "find_circuit",
    "find_path",
    "find_paths",
    "list_methods",
    "list_presets",
    "rank_units",
    "register_method",
    "way",
]
