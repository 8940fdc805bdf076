"""One circuit: its units block by block, and the probability that it keeps alone and that is left without it, beside a random one's."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..checks import InputError, InputTypeError
from ..paths.circuit import Circuit
from ..paths.circuit_layout import Stacks
from .parts import BLUE, FAINT, LINE, ORANGE, SMALL, TEXT, Picture, plain, show_image, tidy
from .path import MARKS, short

COLOURS = {"neuron": BLUE, "head": ORANGE}
NAMED = 2  # units of a kind and block that are named where there is no room for all names
ROW = 0.21  # inches


class Bar(NamedTuple):
    """A probability with what it means for the decision."""

    title: str
    value: float
    note: str
    ours: bool


def plot_circuit(circuit: Circuit, images: Tensor | None = None, index: int = 0) -> Figure:
    """One image's circuit: a column a block, its neurons as circles below and its heads as triangles above.

    The more important a unit the larger it is drawn, and the lower it stands in its column (areas fall with the rank). Of a large
    circuit the two most important of each kind and block are named. The bars are the target's probability as it is, with the circuit
    alone and without it, beside a random circuit of the same make-up.

    Args:
        circuit: as :func:`~neuronpath.find_circuit` gives it.
        images: (B, C, H, W), those of the circuit; puts the image beside it.
        index: the image's number.

    Raises:
        InputError: for an index that the circuit lacks, or for images that aren't as many.
    """
    _check(circuit, images, index)
    one = circuit[index]
    picture = None if images is None else images[index]
    target = int(one.target[0])
    done = {"keep": "keep the decision", "break": "break it", "both": "keep it, and break it"}[one.criterion]
    heads = int(one.heads[0])
    title = f"class {plain(one.class_names.get(target, str(target)))}: {len(one.units[0])} units of {sum(p.width for p in one.settings.sites):,}"
    return _drawn(one, Stacks(one.units[0], one.settings.sites), title, picture)


def _drawn(one, stacks, title, picture):
    stacks = Stacks(one.units[0], one.settings.sites, 1.0 if stacks.across == 1 else 2.4)
    blocks = len(stacks.blocks)
    named = stacks.across == 1
    row = ROW if named else 0.17
    wide = 1.2 + (0.62 if named else max(0.62, 0.14 * stacks.across)) * blocks
    tall = max(1.5 + row * (stacks.height + 1), 3.0)
    beside = int(picture is not None)
    figure = Picture(figsize=(2.2 * beside + wide + 4.2, tall), layout="constrained")
    axes = figure.subplots(1, beside + 2, width_ratios=[2.2] * beside + [wide, 3.0])
    if picture is not None:
        show_image(axes[0], picture, one.names[0])
    _units(axes[beside], stacks)
    axes[beside].set_title(title, fontsize=10)
    _bars(axes[beside + 1], _bars_of(one), one.keep * float(one.probability[0]) if one.criterion != "break" else None)
    return figure


def _units(ax: Axes, stacks: Stacks) -> None:
    spots = list(stacks)
    named = stacks.across == 1
    for at, block in enumerate(stacks.blocks):
        if at % 2 == 0:
            ax.axvspan(block - 0.5, block + 0.5, color=FAINT, alpha=0.3, linewidth=0, zorder=0)
    largest = 95 if named else 42
    for kind in stacks.bases:
        here = [spot for spot in spots if spot.unit.kind == kind]
        ax.scatter(
            [spot.x - (0.22 if named else 0) for spot in here],
            [spot.y for spot in here],
            [8 + largest * spot.weight**2 for spot in here],
            COLOURS[kind], marker=MARKS[kind][0], edgecolors="white", linewidths=0.5, zorder=2,
        )  # fmt: skip
        for (block, each), column in stacks.columns.items():
            if each != kind:
                continue
            if named:
                for at, (rank, unit) in enumerate(column):
                    spot = stacks.spot(at, rank, unit)
                    ax.annotate(
                        short(kind, unit.index),
                        (spot.x - 0.22, spot.y),
                        (7, 0),
                        textcoords="offset points",
                        fontsize=SMALL,
                        va="center",
                    )
            else:
                names = "\n".join(short(kind, unit.index) for _, unit in column[:NAMED])
                ax.text(
                    block, stacks.bases[kind] - 0.7, names, fontsize=SMALL - 1, ha="center", va="top", linespacing=1.0
                )
                top = stacks.bases[kind] + -(-len(column) // stacks.across)
                ax.text(
                    block,
                    top - 0.35,
                    f"{len(column)}",
                    fontsize=SMALL,
                    ha="center",
                    va="bottom",
                    weight="bold",
                    color=COLOURS[kind],
                )
    tidy(ax)
    ax.spines["left"].set_visible(False)
    ax.set(xlim=(stacks.blocks[0] - 0.5, stacks.blocks[-1] + 0.5), ylim=(-0.4, stacks.height + 0.6), xlabel="block")
    ax.set_xticks(stacks.blocks)
    ax.set_yticks([base for base in stacks.bases.values()], [f"{kind}s" for kind in stacks.bases])
    ax.tick_params("y", length=0)


def _bars_of(one: Circuit) -> list[Bar]:
    bars = [Bar("as it is", float(one.probability[0]), "", True)]
    kept = "decides the same" if one.decision_kept[0] else "decides otherwise"
    bars.append(Bar("circuit alone", float(one.kept[0]), kept, True))
    if not one.random_kept[0].isnan():
        bars.append(Bar("random alone", float(one.random_kept[0]), "", False))
    flips = "decides otherwise" if one.decision_flipped[0] else "decides the same"
    bars.append(Bar("without it", float(one.left[0]), flips, True))
    if not one.random_left[0].isnan():
        bars.append(Bar("without random", float(one.random_left[0]), "", False))
    return bars


def _bars(ax: Axes, bars: Sequence[Bar], goal: float | None) -> None:
    """Probabilities as bars, from the top, the goal as a line."""
    heights = range(len(bars), 0, -1)
    ax.barh(heights, [bar.value for bar in bars], 0.62, color=[BLUE if bar.ours else LINE for bar in bars], zorder=1)
    for y, bar in zip(heights, bars, strict=True):
        ax.annotate(
            f"{bar.value:.3f}" + (f"\n{bar.note}" if bar.note else ""),
            (bar.value, y),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
        )
    if goal is not None:
        ax.axvline(goal, color="black", linestyle=":", linewidth=1, zorder=2)
    tidy(ax)
    ax.set(xlim=(0, 1.45), xlabel="probability of the target")
    ax.set_xticks([0, 0.5, 1])
    ax.set_yticks(heights, [bar.title for bar in bars])
    ax.tick_params("y", length=0, labelsize=TEXT)


def _check(circuit: Circuit, images: Tensor | None, index: int) -> None:
    """Refuse what is no circuit, an index that it lacks, and images that aren't its own."""
    if not isinstance(circuit, Circuit):
        raise InputTypeError(f"circuit is a {type(circuit).__name__}; expected a Circuit, as find_circuit gives it")
    if not -len(circuit) <= index < len(circuit):
        raise InputError(f"index {index} is out of range; expected 0 to {len(circuit) - 1}")
    if images is not None and len(images) != len(circuit):
        raise InputError(f"images holds {len(images)} images for {len(circuit)} circuits; expected as many")
