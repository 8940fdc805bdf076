"""Pictures. Every function returns its figure and leaves pyplot alone; those of one axes draw in ``ax`` where it is given."""

import os
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from ..checks import InputError, checked
from .alpha import plot_alpha
from .bundle import plot_paths
from .circuit import plot_circuit
from .classes import plot_distribution, plot_similarity
from .curves import plot_curves
from .graph import plot_graph
from .meaning import plot_meaning
from .path import plot_methods, plot_path
from .places import plot_gallery, plot_places
from .tables import plot_deviation, plot_pruning

__all__ = [
    "check_picture",
    "plot_alpha",
    "plot_circuit",
    "plot_curves",
    "plot_deviation",
    "plot_distribution",
    "plot_gallery",
    "plot_graph",
    "plot_meaning",
    "plot_methods",
    "plot_path",
    "plot_paths",
    "plot_places",
    "plot_pruning",
    "plot_similarity",
]


@checked
def check_picture(path: str | os.PathLike) -> None:
    """Refuse a name whose ending says no kind of picture that matplotlib writes here, which is tried: some kinds need TeX."""
    figure, kind = Figure((1, 1)), Path(path).suffix.lstrip(".").lower()
    if kind not in figure.canvas.get_supported_filetypes():
        raise InputError(f"{path} names no kind of picture; expected an ending such as .png, .svg or .pdf")
    figure.text(0.5, 0.5, "a")
    try:
        figure.savefig(BytesIO(), format=kind)
    except Exception as error:  # matplotlib's writers raise what theirs do: of TeX, of Pillow
        raise InputError(
            f"{path} can't be drawn here ({error}); expected another ending, such as .png or .svg"
        ) from None
