"""Nodes and weights on [0, 1], by captum's names."""

from typing import get_args

import numpy as np
from numpy.polynomial.legendre import Legendre

from ..checks import InputError, check_one_of
from ..options import Rule


def nodes_and_weights(method: Rule, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """``n_steps`` nodes in [0, 1] and their weights, each of shape (n_steps,), float64; the weights sum to 1.

    The rules are captum's, but for ``riemann_trapezoid``: captum 0.9 gives each of its n nodes a weight of 1/n (the
    ends half of that), so its weights sum to 1 - 1/n; here the inner ones are 1/(n - 1), as the rule has it. ``gaussradau`` is not
    captum's: its last node is 1, which costs nothing where the clean run is known, and it is exact to degree 2 n - 2
    (Abramowitz and Stegun, 25.4.31, turned round). ``clenshawcurtis`` isn't either: its nodes are among those of twice as many less
    one, so that adding nodes keeps those that were run (Clenshaw and Curtis, Numerische Mathematik 2, 1960).
    """
    check_one_of("quadrature", method, get_args(Rule))
    fewest = 2 if method in ("riemann_trapezoid", "clenshawcurtis") else 1
    if isinstance(n_steps, bool) or not isinstance(n_steps, int | np.integer) or not fewest <= n_steps <= 1000:
        raise InputError(f"n_steps is {n_steps!r}; expected a whole number from {fewest} to 1000 for {method}")
    if method == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(n_steps)
        return (nodes + 1) / 2, weights / 2
    if method == "clenshawcurtis":
        last, at = n_steps - 1, np.pi * np.arange(n_steps) / (n_steps - 1)
        k = np.arange(1, last // 2 + 1)
        weights = (1 - np.where(2 * k == last, 1, 2) / (4 * k**2 - 1) @ np.cos(2 * np.outer(k, at))) / last
        weights[[0, -1]] /= 2
        return (1 - np.cos(at)) / 2, weights
    if method == "gaussradau":
        low = Legendre.basis(n_steps - 1)
        inner = np.sort(
            -((low + Legendre.basis(n_steps)) // Legendre([1, 1])).roots().real
        )  # on [-1, 1], without the end
        weights = (1 + inner) / (n_steps * low(inner)) ** 2
        return (np.append(inner, 1.0) + 1) / 2, np.append(weights, 2 / n_steps**2) / 2
    if method == "riemann_trapezoid":
        weights = np.full(n_steps, 1 / (n_steps - 1))
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, n_steps), weights
    shift = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[method]
    return (np.arange(n_steps) + shift) / n_steps, np.full(n_steps, 1 / n_steps)
