"""What every picture shares: colours that all can tell apart, axes, images, checks of what came in."""

import os
import sys
import tempfile
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..checks import InputError, InputTypeError, check_index
from ..data.pixels import short_name, to_pixels
from ..paths.layout import Layout
from ..paths.neuron_paths import NeuronPaths, check_as_many
from ..paths.run import Run
from ..units import Passes
from .letters import drawable, give_letters

# Okabe and Ito, "Color Universal Design" (2008): told apart by all
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
)  # fmt: skip
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = "osD^vPX"  # a series has its own colour and its own shape
RAISES, LOWERS, LINE, FAINT = BLUE, VERMILLION, "#888888", "#d9d9d9"
SCALE = "cividis"  # of maps and frequencies: even to the eye, also in grey and for those who see few colours
SMALL, TEXT = 8, 9.5  # points


class Picture(Figure):
    """A figure that shows itself, in a notebook at the end of a cell and in a script by :meth:`show`; pyplot needn't be told of it."""

    def draw(self, renderer: RendererBase) -> None:
        """As matplotlib does, with the letters of names that its own font lacks."""
        give_letters(self)
        super().draw(renderer)

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()

    def show(self, warn: bool = True) -> None:
        """In a notebook below the cell; in a script in a window, until it is closed.

        Where there is no screen the picture goes to a file in the folder for temporary ones, and its name is printed.
        """
        if in_notebook():
            from IPython.display import display

            return display(self)
        from matplotlib import pyplot

        try:
            pyplot.figure(FigureClass=lambda *_, **__: self)  # type: ignore[arg-type]  # a window for this figure
            if getattr(self.canvas, "required_interactive_framework", None):
                return pyplot.show(block=True)
        finally:
            pyplot.close(self)
        handle, name = tempfile.mkstemp(prefix="neuronpath-", suffix=".png")
        os.close(handle)
        self.savefig(name)
        return print(name)


def in_notebook() -> bool:
    """Whether what is displayed has a page to go to."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")


def axes_for(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """The axes to draw in and their figure: the given ones, or new ones of this size in inches."""
    if ax is None:
        figure = Picture(figsize=size, layout="constrained")
        return figure, figure.subplots()
    whole = ax.get_figure(root=True)
    assert isinstance(whole, Figure)
    return whole, ax


def tidy(ax: Axes) -> None:
    """Only the axes that carry a scale."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(LINE)
    ax.tick_params(color=LINE, labelsize=TEXT - 0.5)


def block_axis(ax: Axes, layout: Layout, top: float = 1.12) -> None:
    """Blocks from left to right, units from bottom to top."""
    tidy(ax)
    low, high = layout.blocks[0], layout.blocks[-1]
    ax.set(
        ylabel=layout.axis,
        xlim=(low - 0.6, high + 0.6),
        ylim=(-0.06 * layout.height, top * layout.height),
    )
    block_ticks(ax, layout.blocks, layout.passes)
    if "head" in layout.kinds:
        heights, names = zip(*layout.ticks(), strict=True)
        ax.set_yticks(heights, names)


def block_ticks(ax: Axes, blocks: Sequence[int], passes: Passes) -> None:
    """A tick a block; of a model whose blocks share weights its loop and its shared block."""
    ax.set_xlabel("loop.block" if passes else "block")
    ax.set_xticks(blocks, ["{}.{}".format(*passes[block]) for block in blocks] if passes else None)


def block_width(blocks: int) -> float:
    """The inches that so many columns want."""
    return min(3.4 + 0.55 * blocks, 15.4)


def label(ax: Axes, text: str, at: tuple[float, float], lift: float = 11, weight: str = "normal") -> None:
    """A small label above a point, or below it where ``lift`` is below 0, legible on whatever lies beneath."""
    style: dict[str, Any] = {
        "ha": "center",
        "va": "bottom" if lift > 0 else "top",
        "fontsize": SMALL,
        "zorder": 4,
        "weight": weight,
    }
    box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
    ax.annotate(text, at, (0, lift), textcoords="offset points", bbox=box, **style)


def plain(text: object) -> str:
    """A name as matplotlib shows it letter by letter, without taking dollars for mathematics."""
    return drawable(text).replace("$", r"\$")


def decision(path: NeuronPaths) -> str:
    """Which class a path of one image explains, and its probability; nothing for a model without classes."""
    target = int(path.target[0])
    return "" if target < 0 else f"class {plain(path.name_of(target))}, probability {float(path.probability[0]):.3f}, "


def show_image(ax: Axes, image: Tensor, title: str = "", model: nn.Module | None = None) -> None:
    """An image (C, H, W) as the model sees it (see :func:`to_pixels`)."""
    ax.imshow(to_pixels(image, model), cmap="gray", vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    name = f"image {title}" if title.isdecimal() else title  # "5" above a 9 would be taken for its class
    ax.set_title(plain(short_name(name)), fontsize=TEXT - 0.5)


def check_paths(paths: NeuronPaths, images: Tensor | None = None, index: int = 0) -> None:
    """Refuse what is no paths, an index that they lack, and images that aren't theirs."""
    if not isinstance(paths, NeuronPaths):
        raise InputTypeError(f"paths is a {type(paths).__name__}; expected NeuronPaths, as find_path gives them")
    check_index("index", index, len(paths))
    if images is not None:
        if images.ndim != 4 or not images.numel():
            raise InputError(f"images has shape {tuple(images.shape)}; expected (B, C, H, W)")
        check_as_many(paths, images)


def paths_of(paths: NeuronPaths | Run) -> tuple[NeuronPaths, str]:
    """The paths, of a run a sample of them, and a title that says so."""
    some = paths.sample() if isinstance(paths, Run) else paths
    check_paths(some)  # type: ignore[arg-type]
    if len(some) == len(paths):
        return some, f"{len(some)} images' paths"  # type: ignore[return-value]
    return some, f"paths of {len(some)} of {len(paths):,} images, drawn at random"  # type: ignore[return-value]


def check_frame(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a table that lacks a column, has no rows, or whose intervals don't hold their middle."""
    if not isinstance(frame, pd.DataFrame):
        raise InputTypeError(f"frame is a {type(frame).__name__}; expected a pandas DataFrame")
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(f"frame lacks the column {missing[0]!r}; expected {', '.join(columns)}")
    if frame.empty:
        raise InputError("frame has no rows; expected at least one")
    middle, low, high = (frame[column] for column in columns[-3:])
    if (low > middle).any() or (high < middle).any():
        raise InputError(f"frame has a row whose {columns[-3]} lies outside low to high; expected it between them")
    keys = list(columns[:-3])
    if frame.duplicated(keys).any():
        twice = frame.loc[frame.duplicated(keys), keys].iloc[0].to_dict()
        raise InputError(f"frame has two rows for {twice}; expected one")
