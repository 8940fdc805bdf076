"""Live gates: the path whose removal the output would feel most, to first order, from one forward and one backward.

Multiply every unit on the pooled tokens by a gate c that stays in the ordinary run. The derivative of F to c at c = 1 is the
unit's value times F's gradient to it with nothing held: what its removal takes from F, later blocks' answers included, to
first order. The largest of every site make the path; what its removal really takes is then measured by removing it.

Gates at c = 1 are those of Molchanov et al., "Importance Estimation for Neural Network Pruning" (CVPR 2019), section 3.1.

It is what method "live" would begin with at the least cost, and doesn't refine.
"""

from ..runs.clean import CleanRun
from ..runs.gates import clean_gates
from .registry import Found, Search, largest, register_method


@register_method("causal", live=True)
def locate_causal(run: CleanRun, search: Search) -> Found:
    """The largest gates of every site."""
    return Found(largest(clean_gates(run), search.top_k))
