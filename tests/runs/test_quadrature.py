"""Nodes and weights against captum's, against numpy's integrals, and against integrals known exactly."""

from typing import get_args

import numpy as np
import pytest
from captum.attr._utils.approximation_methods import SUPPORTED_METHODS, approximation_parameters

from neuronpath.options import Rule
from neuronpath.runs.quadrature import nodes_and_weights


def test_the_names_are_captums():
    assert sorted(get_args(Rule)) == sorted({*SUPPORTED_METHODS, "gaussradau", "clenshawcurtis"})


@pytest.mark.parametrize("n_steps", [2, 3, 20, 51])
@pytest.mark.parametrize("method", sorted(set(SUPPORTED_METHODS) - {"riemann_trapezoid"}))  # captum's doesn't sum to 1
def test_captum(method, n_steps):
    step_sizes, alphas = approximation_parameters(method)
    nodes, weights = nodes_and_weights(method, n_steps)
    assert nodes == pytest.approx(alphas(n_steps), abs=1e-7)  # captum's pass through float32
    assert weights == pytest.approx(step_sizes(n_steps), abs=1e-12)


@pytest.mark.parametrize("n_steps", [2, 3, 20, 51])
def test_trapezoid_is_numpys(n_steps):
    nodes, weights = nodes_and_weights("riemann_trapezoid", n_steps)
    assert weights.sum() == pytest.approx(1)
    assert weights @ np.exp(nodes) == pytest.approx(np.trapezoid(np.exp(nodes), nodes), rel=1e-12)
    assert nodes[[0, -1]].tolist() == [0, 1]


@pytest.mark.parametrize("n_steps", [1, 2, 3, 6, 20, 48])
def test_gausslegendre_is_exact_for_polynomials(n_steps):
    nodes, weights = nodes_and_weights("gausslegendre", n_steps)
    for degree in range(2 * n_steps):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), rel=1e-10)
    beyond = weights @ nodes ** (2 * n_steps)
    assert n_steps > 10 or abs(beyond - 1 / (2 * n_steps + 1)) > 1e-14  # and no further: the degree is sharp


@pytest.mark.parametrize("n_steps", [1, 2, 3, 5, 9, 33])
def test_gaussradau_ends_at_1_and_is_exact_for_polynomials(n_steps):
    nodes, weights = nodes_and_weights("gaussradau", n_steps)
    assert nodes[-1] == 1
    for degree in range(2 * n_steps - 1):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), rel=1e-10)


@pytest.mark.parametrize("n_steps", [2, 3, 4, 9, 17, 65])
def test_clenshawcurtis_is_exact_for_polynomials_and_nested(n_steps):
    nodes, weights = nodes_and_weights("clenshawcurtis", n_steps)
    assert nodes[[0, -1]].tolist() == [0, 1]
    for degree in range(n_steps):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), rel=1e-10)
    assert (nodes_and_weights("clenshawcurtis", 2 * n_steps - 1)[0][::2] == nodes).all()


@pytest.mark.parametrize("method", get_args(Rule))
def test_every_rule_approaches_the_integral(method):
    exact = np.e - 1
    errors = [
        abs(weights @ np.exp(nodes) - exact) for nodes, weights in (nodes_and_weights(method, n) for n in (4, 400))
    ]
    assert errors[1] < max(errors[0] / 50, 1e-12)
