"""One circuit: its units block by block, and the probability that it keeps alone and that is left without it, beside a random one's."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..checks import InputError, check_index, checked
from ..data.given import Images, sliceable
from ..paths.circuit import Circuit
from ..paths.circuit_layout import Stacks
from ..units import Passes
from .parts import BLACK, BLUE, FAINT, LINE, ORANGE, SMALL, Picture, block_ticks, plain, show_image, tidy
from .path import MARKS, short

COLOURS = {"neuron": BLUE, "head": ORANGE}
NAMED = 2  # units of a kind and block that are named where there is no room for all names
GAP = 2.4  # rows below each kind there, for these names
DONE = {"keep": "keep the decision", "break": "break the decision", "both": "keep and break it"}


@checked
def plot_circuit(circuit: Circuit, images: Images | None = None, index: int = 0) -> Figure:
    """One image's circuit: a column a block, its neurons as circles below and its heads as triangles above.

    The more important a unit, the larger it is drawn and the lower it stands in its column; areas fall with the rank. Of a large
    circuit the two most important units of each kind and block are named, and numbers above the columns say how many there are. The
    bars are the target's probability as it is, with the circuit alone and without it, beside a random circuit of the same make-up;
    the dotted line is what the circuit had to keep.

    Args:
        circuit: as :func:`~neuronpath.find_circuit` gives it.
        images: (B, C, H, W), those of the circuits; puts the image beside it.
        index: the image's number.

    Raises:
        InputError: for an index that the circuit lacks, or for images that aren't as many.
    """
    check_index("index", index, len(circuit))
    images = sliceable(images)
    if images is not None and (images.ndim != 4 or not images.numel() or len(images) != len(circuit)):
        raise InputError(
            f"images has shape {tuple(images.shape)}; expected ({len(circuit)}, C, H, W), as many as circuits"
        )
    one = circuit[index]
    stacks = Stacks(one.units[0], one.settings.sites, GAP)
    few = stacks.across == 1
    wide = 1.2 + max(0.62, 0.14 * stacks.across) * len(stacks.blocks)
    tall = max(3.0, 1.5 + (0.21 if few else 0.17) * (stacks.height + 1))
    beside = int(images is not None)
    figure = Picture(figsize=(2.2 * beside + wide + 4.2, tall), layout="constrained")
    axes = figure.subplots(1, beside + 2, width_ratios=[2.2] * beside + [wide, 3.0])
    if images is not None:
        show_image(axes[0], images[index], one.names[0])
    _units(axes[-2], stacks, few, one.settings.passes)
    axes[-2].set_title(_title(one), fontsize=10)
    _bars(axes[-1], one)
    return figure


def _title(one: Circuit) -> str:
    target = int(one.target[0])
    of = sum(place.width for place in one.settings.sites)
    fail = "" if one.found[0] else ": not found"
    return f"class {plain(one.class_names.get(target, target))}: {len(one.units[0])} units of {of:,} that {DONE[one.criterion]}{fail}"


def _units(ax: Axes, stacks: Stacks, few: bool, passes: Passes) -> None:
    """The units as points; of ``few`` each with its name, else the names of the first below and the number above every column."""
    for block in stacks.blocks[::2]:
        ax.axvspan(block - 0.5, block + 0.5, color=FAINT, alpha=0.3, linewidth=0, zorder=0)
    aside, least, most = (0.22, 16, 95) if few else (0.0, 8, 42)
    beside: dict[str, Any] = {"textcoords": "offset points", "fontsize": SMALL, "va": "center"}
    for kind in stacks.bases:
        here = [spot for spot in stacks if spot.unit.kind == kind]
        ax.scatter([spot.x - aside for spot in here], [spot.y for spot in here], [least + most * spot.weight**2 for spot in here],
                   COLOURS[kind], marker=MARKS[kind][0], edgecolors="white", linewidths=0.5, zorder=2)  # fmt: skip
        for spot in here if few else ():
            ax.annotate(short(kind, spot.unit.index), (spot.x - aside, spot.y), (7, 0), **beside)
    for (block, kind), column in stacks.columns.items() if not few else ():
        names = "\n".join(short(kind, unit.index) for _, unit in column[:NAMED])
        base = stacks.bases[kind]
        ax.text(block, base - 0.7, names, fontsize=SMALL - 1, ha="center", va="top", linespacing=1.0)
        ax.text(block, base + stacks.rows(len(column)) - 0.35, str(len(column)), fontsize=SMALL, ha="center", va="bottom",
                weight="bold", color=COLOURS[kind])  # fmt: skip
    tidy(ax)
    ax.spines["left"].set_visible(False)
    ax.set(xlim=(stacks.blocks[0] - 0.5, stacks.blocks[-1] + 0.5), ylim=(-0.4, stacks.height + 0.6))
    block_ticks(ax, stacks.blocks, passes)
    ax.set_yticks(list(stacks.bases.values()), [f"{kind}s" for kind in stacks.bases])
    ax.tick_params("y", length=0)


def _bars(ax: Axes, one: Circuit) -> None:
    """Probabilities as bars from the top, with what they mean for the decision; those of random circuits where there are any."""
    kept = "decides the same" if one.decision_kept[0] else "decides otherwise"
    left = "decides otherwise" if one.decision_flipped[0] else "decides the same"
    bars = {
        "as it is": (one.probability, "", BLUE),
        "circuit alone": (one.kept, f"\n{kept}", BLUE),
        "random alone": (one.random_kept, "", LINE),
        "without it": (one.left, f"\n{left}", BLUE),
        "without random": (one.random_left, "", LINE),
    }
    known = {title: bar for title, bar in bars.items() if not bar[0].isnan()}
    heights = range(len(known), 0, -1)
    for y, (value, note, colour) in zip(heights, known.values(), strict=True):
        ax.barh(y, float(value), 0.62, color=colour, zorder=1)
        at: dict[str, Any] = {"textcoords": "offset points", "fontsize": SMALL, "va": "center"}
        ax.annotate(f"{float(value):.3f}{note}", (float(value), y), (4, 0), **at)
    if one.criterion != "break":
        ax.axvline(one.keep * float(one.probability), color=BLACK, linestyle=":", linewidth=1, zorder=2)
    tidy(ax)
    ax.set(xlim=(0, 1.45), xlabel="probability of the target")
    ax.set_xticks([0, 0.5, 1])
    ax.set_yticks(heights, list(known))
    ax.tick_params("y", length=0)
