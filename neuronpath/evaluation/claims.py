"""The paper's quantitative tables on one's own model, and which of its claims hold there.

"Discovering Influential Neuron Path in Vision Transformers" (ICLR 2025), section 4: the joint attribution score by method, what removal
and enhancement of the paths do to the probability and to accuracy, and how alike the paths of classes are.
"""

import pandas as pd

from ..paths.neuron_paths import NeuronPaths
from ..paths.statistics import similarity, stability
from .evaluate import as_text

WAYS = ("paper", "joint", "causal", "influence_pattern", "activation", "random")
RIVALS = ("influence_pattern", "activation")
TABLES = {
    "Joint attribution score, by method": ("score", "attribution"),
    "Removal and enhancement of the path: change of the target's probability": (
        "probability_removed", "probability_removed_relative", "probability_enhanced", "probability_enhanced_relative",
    ),
    "Removal and enhancement of the path: change of accuracy": ("accuracy_removed", "accuracy_enhanced"),
}  # fmt: skip


def claims(table: pd.DataFrame, halves: pd.DataFrame | None) -> list[str]:
    """Each of the paper's claims with what was found: it holds, it doesn't, or the interval leaves it open.

    ``table`` is that of :func:`~neuronpath.evaluate` with the paper's path first; ``halves`` that of
    :func:`~neuronpath.stability`.
    """
    said = []
    for figure, sign, words in (
        ("score", 1, "has a higher joint attribution score than"),
        ("probability_removed", -1, "takes more from the probability when it is removed than"),
        ("probability_enhanced", 1, "adds more to the probability when it is enhanced than"),
    ):
        for rival in RIVALS:
            row = table[(table["method"] == rival) & (table["figure"] == figure) & (table["images"] == "all")].iloc[0]
            # the rival's figure less the paper's
            low, high = sorted((-sign * row["minus_first_high"], -sign * row["minus_first_low"]))
            said.append(
                f"{verdict(low, high)}: the paper's path {words} that of {rival} (difference {low:.3g} to {high:.3g})"
            )
    best = table[(table["figure"] == "probability_removed") & (table["images"] == "all")]
    best = best.set_index("method")["mean"].idxmin()
    said.append(
        f"{'holds' if best == 'paper' else 'does not hold'}: of all methods here the paper's path takes most when it is removed "
        f"({best}'s does)"
    )
    if halves is not None and len(halves) > 1:
        low, high = (halves["frequency"] - halves["frequency_others"]).quantile([0.025, 0.975])
        said.append(
            f"{verdict(low, high)}: paths of one class are more alike than those of different classes (cosine of frequencies "
            f"{halves['frequency'].mean():.2f} against {halves['frequency_others'].mean():.2f})"
        )
    return said


def verdict(low: float, high: float) -> str:
    """What an interval of a difference says of the claim that it is positive."""
    return "holds" if low > 0 else "does not hold" if high < 0 else "open"


def as_report(table: pd.DataFrame, paths: NeuronPaths, labels: list[int] | None) -> str:
    """The tables and the claims, as text; classes with one image only are left out of their part."""
    parts = [f"{title}\n\n{as_text(table, figures=figures)}" for title, figures in TABLES.items()]
    halves = None
    if labels is not None:
        counts = pd.Series(labels).value_counts()
        kept = [i for i, label in enumerate(labels) if counts[label] > 1]
        if len({labels[i] for i in kept}) > 1:
            some, theirs = paths[kept], [labels[i] for i in kept]
            halves = stability(some, theirs)
            cosines = similarity(some, theirs).round(2).to_string()
            parts.append(f"Similarity of classes: cosine of neurons' frequencies, by the paper's paths\n\n{cosines}")
    parts.append(
        "Claims of the paper, on these images\n\n" + "\n".join(f"- {claim}" for claim in claims(table, halves))
    )
    return "\n\n".join(parts)
