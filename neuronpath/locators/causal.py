"""Live gates: the path whose removal the output would feel most, to first order, from one forward and one backward.

Multiply every neuron on the pooled tokens by a gate c that stays in the ordinary run. The derivative of F to c at c = 1 is the
neuron's value times F's gradient to it with nothing held: what its removal takes from F, later blocks' answers included, to
first order. The largest of every block make the path; what its removal really takes is then measured by removing it.

Gates at c = 1 are those of Molchanov et al., "Importance Estimation for Neural Network Pruning" (CVPR 2019), section 3.1.
"""

import torch

from ..runs import CleanRun
from .registry import Found, Search, register_method


@register_method("causal", live=True)
def locate_causal(run: CleanRun, search: Search) -> Found:
    gates = [(values * gradient).sum(1) for values, gradient in zip(run.hidden, run.live_gradients, strict=True)]
    return Found(torch.stack([gate.topk(search.top_k).indices for gate in gates], 1))
