"""rank_units, against derivatives by plain hooks and a growth written out naively, and by what the rankings do."""

from contextlib import ExitStack
from functools import partial

import numpy as np
import pytest
import torch
from small import as_logits

import neuronpath as nph


def readers(model):
    return [layer for block in model.blocks for layer in (block.attn.proj, block.mlp.fc2)]


def mean_inputs(model, images):
    """Every reader's mean input over images, position by position."""
    seen = {}
    with ExitStack() as stack:
        for layer in readers(model):
            keep = lambda module, args: seen.__setitem__(module, args[0].mean(0, keepdim=True))  # noqa: E731
            stack.callback(layer.register_forward_pre_hook(keep).remove)
        as_logits(model, images)
    return [seen[layer] for layer in readers(model)]


def odds_and_slopes(model, image, label, gates, gone, heads=4):
    """One image's log-odds, and their derivative to every gate (N,), a gate a head or neuron."""
    gates = gates.clone().requires_grad_()
    start = 0
    with ExitStack() as stack:
        for site, layer in enumerate(readers(model)):
            count = heads if site % 2 == 0 else layer.in_features
            gate = gates[start : start + count].repeat_interleave(layer.in_features // count)
            edit = lambda _, args, gate=gate, gone=gone[site]: (gate * args[0] + (1 - gate) * gone,)  # noqa: E731
            stack.callback(layer.register_forward_pre_hook(edit).remove)
            start += count
        logits = model(image[None])[0]
    others = torch.cat([logits[:label], logits[label + 1 :]])
    odds = logits[label] - others.logsumexp(0)
    return odds.item(), torch.autograd.grad(odds, gates)[0]


@pytest.fixture(scope="module", params=["zero", "mean"])
def case(request, random_vit, random_images):
    model, images = random_vit(3, depth=2), random_images(3, 3)
    others = random_images(8, 12) if request.param == "mean" else None
    gone = [0.0] * 4 if others is None else mean_inputs(model, others)
    target = as_logits(model, images).argmax(1).tolist()
    return model, images, others, partial(odds_and_slopes, model, gone=gone), target


TOTAL = 2 * (4 + 64)


def test_gates_and_integrated(case):
    model, images, others, derive, target = case
    nodes, weights = np.polynomial.legendre.leggauss(5)
    for by, alphas, shares in (("gates", [1.0], [1.0]), ("integrated", (nodes + 1) / 2, weights / 2)):
        found = torch.cat(nph.rank_units(model, images, by=by, reference=others), 1)
        for row, image, label in zip(found, images, target, strict=True):
            expected = sum(
                w * derive(image, label, torch.full((TOTAL,), float(a)))[1] for a, w in zip(alphas, shares, strict=True)
            )
            assert torch.allclose(row, expected, rtol=1e-3, atol=1e-5)


def test_growth_written_out(case):
    model, images, others, derive, target = case
    found = torch.cat(nph.rank_units(model, images, reference=others), 1)
    surpassed = False
    for row, image, label in zip(found, images, target, strict=True):
        clean = derive(image, label, torch.ones(TOTAL))[0]
        chosen: list[int] = []
        while len(chosen) < TOTAL:
            slopes = torch.zeros(TOTAL)
            for share in (0.9, 0.4, 0.1):
                gates = torch.full((TOTAL,), share)
                gates[chosen] = 1.0
                odds, slope = derive(image, label, gates)
                slopes += slope / 3
            enough = odds >= clean
            surpassed |= enough
            worth = [(abs(s) if enough else s, unit) for unit, s in enumerate(slopes.tolist()) if unit not in chosen]
            more = max(1, len(chosen))
            chosen += [unit for _, unit in sorted(worth, reverse=True)[:more]]
        assert row.argsort(descending=True).tolist() == chosen
        assert sorted(row.tolist()) == list(range(1, TOTAL + 1))
    assert surpassed, "the second half of the rule was never tried"


def test_growth_decides_with_few_where_gates_do_not(demo):
    model, images, _ = demo
    reference = nph.demo.load("train")[1][:100]
    of = {
        by: nph.faithfulness(
            model, images[:16], partial(nph.rank_units, by=by, reference=reference), reference=reference
        )
        for by in ("growth", "integrated", "gates")
    }
    grown, integrated, gates = (of[by].log_cpr.mean() for by in of)
    assert grown > integrated + 0.05 > gates + 0.1
    assert of["growth"].cmd.mean() < 0.03 < of["integrated"].cmd.mean()


def test_an_image_s_ranking_is_its_own(demo):
    model, images, labels = demo
    whole = nph.rank_units(model, images[:6], labels[:6], units="heads", token="cls", internal_batch_size=4)
    alone = nph.rank_units(nph.view(model, "cls", "heads"), images[2:3], int(labels[2]))
    assert [tuple(site.shape) for site in whole] == [(6, 4)] * 8
    assert all(torch.equal(many[2:3], one) for many, one in zip(whole, alone, strict=True))


def test_bad_input(demo):
    model, images, _ = demo
    for options, words in (
        ({"by": "luck"}, "by 'luck' is unknown; expected one of 'growth', 'integrated', 'gates'"),
        ({"target": 10}, "target 10 is out of range"),
        ({"baseline": "mean"}, "reference is None"),
    ):
        with pytest.raises(nph.InputError, match=words):
            nph.rank_units(model, images[:2], **options)
