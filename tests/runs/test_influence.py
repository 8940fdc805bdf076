"""Score, attribution and delta against the textbook; completeness; and that neither batches nor pieces matter."""

import copy

import numpy as np
import pytest
import textbook
import torch

import neuronpath as nph
from neuronpath.models.hooks import at_rest
from neuronpath.runs.clean import clean_runs
from neuronpath.runs.influence import path_hidden

pools = pytest.mark.parametrize("pool", ["token", "avg"])


def draw_path(n_images, widths, k, seed=0):
    """Random neurons (B, L, K), those of a block different."""
    draw = np.random.RandomState(seed)
    return torch.tensor(np.array([[draw.permutation(width)[:k] for width in widths] for _ in range(n_images)]))


def close(found, expected):
    return found.flatten().tolist() == pytest.approx(expected.flatten().tolist(), rel=1e-5, abs=1e-8)


@pools
@pytest.mark.parametrize("output", ["prob", "logit"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("quadrature", ["gausslegendre", "riemann_left"])
def test_textbook(random_vit, random_images, pool, output, k, quadrature):
    model, images, target = random_vit(31, pool).double(), random_images(32, 5).double(), torch.tensor([3, 0, 0, 4, 1])
    path = draw_path(5, [64] * 4, k)
    n = 7
    nodes, weights = np.polynomial.legendre.leggauss(n)
    nodes, weights = (
        ((nodes + 1) / 2, weights / 2) if quadrature == "gausslegendre" else (np.arange(n) / n, np.ones(n) / n)
    )
    score, attribution, change = textbook.joint_score(model, images, target, path, nodes, weights, output)

    influence = nph.joint_influence(model, images, path, target, output=output, quadrature=quadrature, n_steps=n)
    assert close(influence.score, score)
    assert close(influence.attribution, attribution)
    assert close(influence.output_change, change)
    assert close(influence.delta, attribution.sum((1, 2)) - change)


@pools
def test_a_found_path_has_the_textbooks_figures(random_vit, random_images, pool):
    model, images = random_vit(33, pool).double(), random_images(34, 5).double()
    paths = nph.find_path(model, images, [3, 0, 0, 4, 1], n_steps=6, top_k=2, method="joint")
    nodes, weights = np.polynomial.legendre.leggauss(6)
    expected = textbook.joint_score(model, images, paths.target, paths.neurons, (nodes + 1) / 2, weights / 2)
    for found, figure in zip((paths.score, paths.attribution, paths.output_change), expected, strict=True):
        assert close(found, figure)
    hidden, logits = textbook.clean(model, images)
    values = [textbook.pick(h, paths.neurons[:, b]).mean(1) for b, h in enumerate(hidden)]
    assert close(paths.activations, torch.stack(values, 1))
    assert close(paths.probability, logits.softmax(1)[torch.arange(5), paths.target])


def test_one_path_for_all_images(random_vit, random_images):
    model, images, path = random_vit(35), random_images(36, 3), [5, 6, 7, 8]
    each = nph.joint_influence(model, images, torch.tensor(path)[None, :, None].expand(3, -1, -1))
    for alike in (path, [[i] for i in path]):
        assert torch.equal(nph.joint_influence(model, images, alike).attribution, each.attribution)


def test_completeness_on_all_digits(demo):
    """The attributions sum to what the output really loses, by two plain runs of the model in float64."""
    model, images, _ = demo
    paths = nph.find_path(model, images, method="joint")
    model = copy.deepcopy(model).double().requires_grad_(False)
    change = []
    for start in range(0, len(images), 40):
        rows = slice(start, start + 40)
        pixels, target, neurons = images[rows].double(), paths.target[rows], paths.neurons[rows]
        hidden, logits = textbook.clean(model, pixels)
        without = [textbook.scale(h, neurons[:, b], 0) for b, h in enumerate(hidden)]
        lost = textbook.frozen_output(model, pixels, target, without)
        change.append(logits.softmax(1)[torch.arange(len(pixels)), target] - lost)
    change = torch.cat(change)
    rounding = 1e-7 + 1e-6 * paths.attribution.abs().sum((1, 2))  # float32's
    error = (paths.attribution.double().sum((1, 2)) - change).abs()
    assert (error <= 1e-3 * change.abs() + 1e-6 + rounding).all()
    assert (paths.delta.abs() <= 1e-3 * paths.output_change.abs() + 1e-6 + 1e-7).all()
    assert torch.allclose(paths.output_change.double(), change, rtol=1e-5, atol=1e-6)


@pools
def test_the_run_at_1_is_the_clean_run(random_vit, random_images, pool):
    model, images = random_vit(37, pool), random_images(38, 5)
    logits = model(images)
    with at_rest(model):
        (run,) = clean_runs(nph.view(model), images, None, "prob")
        found = run.replaced(run.rows, path_hidden(run, draw_path(5, [64] * 4, 3), run.rows, 1.0))
    assert torch.allclose(found, logits.softmax(1).max(1).values, rtol=1e-6, atol=1e-6)


def test_digits_in_batches_and_pieces(demo):
    model, images, _ = demo
    whole = nph.find_path(model, images[:8], method="joint")
    alone = nph.concat([nph.find_path(model, image[None], method="joint") for image in images[:8]])
    pieces = [nph.find_path(model, images[:8], method="joint", internal_batch_size=size) for size in (1, 3, 7)]
    for paths in (alone, *pieces):
        assert torch.equal(paths.neurons, whole.neurons)
        assert paths.score.tolist() == pytest.approx(whole.score.tolist(), rel=1e-5)
