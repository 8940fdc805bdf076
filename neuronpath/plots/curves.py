"""How faithful rankings are: what the first k units keep alone, and whether decisions stand without them, over k."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from ..checks import InputError, checked
from ..paths.faithfulness import Faithfulness
from ..paths.intervals import intervals
from .parts import LINE, MARKERS, SERIES, SMALL, Picture, plain, tidy


@checked
def plot_curves(curves: Faithfulness | Mapping[str, Faithfulness]) -> Figure:
    """The curves of rankings, with 95 % bootstrap bands over images.

    On the left f(k), what the first k units keep of the log-odds alone, all others ablated: 0 with none and 1 with all. On the right
    the share of the decisions that stand without the first k. The legend gives CPR and log-CPR, means over images.

    Args:
        curves: what :func:`~neuronpath.faithfulness` gives; or several of these by name, as a rule of the same images.
    """
    named = {"": curves} if isinstance(curves, Faithfulness) else dict(curves)
    if not named:
        raise InputError("curves holds none; expected at least one, by name")
    figure = Picture(figsize=(10, 3.8), layout="constrained")
    kept, stands = figure.subplots(1, 2)
    for at, (name, one) in enumerate(named.items()):
        figures = f"CPR {float(one.cpr.mean()):.2f}, log-CPR {float(one.log_cpr.mean()):.2f}"
        label = f"{plain(name)}: {figures}" if name else figures
        style = {"color": SERIES[at % len(SERIES)], "linestyle": ("-", "--", ":")[at // len(SERIES) % 3]}
        k = one.k[1:].numpy()
        _curve(kept, k, one.f[:, 1:].double().numpy(), style, MARKERS[at % len(MARKERS)], label)
        standing = one.decided_without[:, 1:].double().numpy()
        _curve(stands, k, standing, style, MARKERS[at % len(MARKERS)], label)
    for ax in (kept, stands):
        tidy(ax)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        for level in (0, 1):
            ax.axhline(level, color=LINE, linewidth=0.8, zorder=0)
    low, high = kept.get_ylim()
    kept.set_ylim(max(low, -0.5), min(high, 1.5))
    stands.yaxis.set_major_formatter(PercentFormatter(1))
    kept.set(xlabel="units on, all others ablated", ylabel="f, the share of the log-odds that is kept")
    stands.set(xlabel="units ablated", ylabel="decisions that stand")
    figure.legend(*kept.get_legend_handles_labels(), frameon=False, fontsize=SMALL, loc="outside right center")
    return figure


def _curve(ax: Axes, k: np.ndarray, values: np.ndarray, style: dict, marker: str, label: str) -> None:
    """One curve of values (B, n) over k (n,), and the band of its mean."""
    mean, low, high = intervals(values)
    ax.plot(k, mean, **style, marker=marker, markersize=4.5, markeredgecolor="white", linewidth=1.6, label=label)
    ax.fill_between(k, low, high, color=style["color"], alpha=0.18, linewidth=0)
