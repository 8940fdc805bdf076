"""Attention heads by hand: what is removed, attributed and chosen, against plain hooks on ``attn.proj``, autograd and captum."""

from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import textbook
import torch
from captum.attr import LayerConductance
from small import as_logits

import neuronpath as nph

pools = pytest.mark.parametrize("pool", ["token", "avg"])


@contextmanager
def heads_edited(model, edit):
    """Every block's heads (B, T, 4, 8) on the pooled tokens pass through ``edit(block, heads)``: plain hooks."""
    tokens = textbook.pooled_tokens(model)

    def hook(block):
        def change(_module, args):
            x = args[0].clone()
            x[:, tokens] = edit(block, args[0][:, tokens].unflatten(2, (4, 8))).flatten(2)
            return (x,)

        return change

    with ExitStack() as stack:
        for b, block in enumerate(model.blocks):
            stack.callback(block.attn.proj.register_forward_pre_hook(hook(b)).remove)
        yield


@pools
def test_removed_on_the_tokens_that_are_pooled_alone(random_vit, random_images, pool):
    model, images = random_vit(1, pool), random_images(2, 3)
    others = torch.tensor([1.0, 0, 1, 1])[:, None]
    for block in range(4):
        with nph.remove(model, [("head", block, 1)]):
            found = as_logits(model, images)
        with heads_edited(model, lambda b, heads, block=block: heads * others if b == block else heads):
            assert torch.equal(found, as_logits(model, images))
        with nph.remove(model, [("head", block, 1)], tokens="all"):
            assert block == 3 or not torch.equal(found, as_logits(model, images))


# ---- by hand, in float64: F is the probability of the class predicted


def clean_heads(model, images):
    """Every block's heads (B, T, 4, 8) in an ordinary run, and a function that gives F (B,)."""
    clean = {}
    with heads_edited(model, lambda block, heads: clean.setdefault(block, heads.detach())):
        target = model(images).argmax(1)
    return clean, lambda x=images: model(x).softmax(1).gather(1, target[:, None])[:, 0]


@pools
def test_attribution_by_brute_force(random_vit, random_images, pool):
    """All heads held; the path's go from 0 to their values in 200 midpoints of plain forwards from the pixels."""
    model, images, path = random_vit(5, pool).double(), random_images(6, 2).double(), [2, 0, 3, 1]
    clean, output = clean_heads(model, images)
    shape = clean[0].shape[:2]

    def value(alpha):
        gates = [torch.full(shape, alpha, dtype=torch.float64, requires_grad=True) for _ in path]

        def hold(block, _heads):
            ones = torch.ones(shape, dtype=torch.float64)
            return (
                clean[block] * torch.stack([gates[block] if h == path[block] else ones for h in range(4)], 2)[..., None]
            )

        with heads_edited(model, hold):
            return output(), gates

    mean = torch.zeros(4, *shape, dtype=torch.float64)  # of F's derivative to a gate: the norm times that to the norm
    for step in range(200):
        found, gates = value((step + 0.5) / 200)
        mean += torch.stack(torch.autograd.grad(found.sum(), gates)) / 200
    norms = torch.stack([clean[b][:, :, head].norm(dim=-1) for b, head in enumerate(path)])
    change = value(1.0)[0] - value(0.0)[0]
    attribution, score = mean.sum(2).T, (norms.sum(0) * (mean / norms).sum(0)).sum(1)
    assert torch.allclose(attribution.sum(1), change, rtol=1e-4, atol=1e-6)  # the reference itself adds up
    found = nph.joint_influence(model, images, path, units="heads")
    assert ((found.attribution[..., 0] - attribution).abs() <= 1e-3 * attribution.abs().max()).all()
    assert torch.allclose(found.output_change.double(), change, rtol=1e-4, atol=1e-7)
    assert torch.allclose(found.score.double(), score, rtol=1e-3, atol=1e-3 * score.abs().max().item())


@pools
def test_methods_by_hand(random_vit, random_images, pool):
    model, images = random_vit(7, pool).double(), random_images(8, 4).double()
    clean, output = clean_heads(model, images)
    ones = torch.ones(4, 1, 4, 1, dtype=torch.float64)  # a gate on each image's every head

    def slopes(gates, value=output):
        """F's derivatives to the gates on the blocks' heads, (B, L, 4)."""
        gates = [gate.clone().requires_grad_() for gate in gates]
        with heads_edited(model, lambda block, heads: heads * gates[block]):
            return torch.stack([g[:, 0, :, 0] for g in torch.autograd.grad(value().sum(), gates)], 1)

    nodes, weights = np.polynomial.legendre.leggauss(8)
    knowledge = torch.zeros(4, 4, 4, dtype=torch.float64)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        for block in range(4):
            at = [ones * (node if b == block else 1) for b in range(4)]
            knowledge[:, block] += weight * slopes(at)[:, block]
    flow = []
    for block in model.blocks:
        given = {"target": model(images).argmax(1), "n_steps": 10, "attribute_to_layer_input": True}
        found = LayerConductance(lambda x: model(x).softmax(1), block.attn.proj).attribute(images, **given)
        flow.append(found[:, textbook.pooled_tokens(model)].sum(1).unflatten(1, (4, 8)).sum(2))
    expected = {
        "activation": torch.stack([heads.norm(dim=-1).mean(1) for heads in clean.values()], 1),
        "causal": slopes([ones] * 4),
        "knowledge": knowledge,
        "conductance": torch.stack(flow, 1),
    }
    for method, values in expected.items():
        found = nph.find_path(model, images, units="heads", method=method, top_k=2)
        assert torch.equal(found.units, values.topk(2).indices), method


@pools
def test_influence_patterns_by_hand(random_vit, random_images, pool):
    """Products of derivatives from norms to norms, each to a common change of a head's norm on all of its tokens."""
    model, image = random_vit(9, pool).double(), random_images(10, 1).double()
    _, output = clean_heads(model, image)
    found = nph.find_path(
        model, image, units="heads", method="influence_pattern", n_steps=3, quadrature="riemann_middle"
    )
    products, path = [1.0] * 3, []
    for block in (3, 2, 1, 0):
        derivatives = []
        for alpha in (1 / 6, 1 / 2, 5 / 6):
            change, norms = torch.zeros(4, dtype=torch.float64, requires_grad=True), []

            def shift(b, heads, change=change, norms=norms, block=block):
                heads = heads * (1 + change[:, None] / heads.norm(dim=-1, keepdim=True)) if b == block else heads
                norms.append(heads.norm(dim=-1).sum((0, 1)))
                return heads

            with heads_edited(model, shift):
                value = output(alpha * image)
            behind = value.sum() if block == 3 else norms[block + 1][path[0]]
            derivatives.append(torch.autograd.grad(behind, change)[0])
        mean = sum(p * d for p, d in zip(products, derivatives, strict=True))
        path.insert(0, int(mean.argmax()))
        products = [p * d[path[0]] for p, d in zip(products, derivatives, strict=True)]
    assert found.units[0, :, 0].tolist() == path
