"""The curves of a ranking and their figures, against a second, naive implementation with plain hooks."""

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from small import as_logits

import neuronpath as nph


def naive(model, images, target, ranking, means=None):
    """One image and one k at a time: lists of (k, log-odds alone, log-odds without)."""
    readers = [layer for b in model.blocks for layer in (b.attn.proj, b.mlp.fc2)]
    flat = torch.cat(ranking)
    best = sorted(range(len(flat)), key=lambda unit: (-flat[unit].item(), unit))
    shares = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    numbers = sorted({0, 1, *(max(1, round(s * len(flat))) for s in shares)})

    def odds(image, label, on):
        with ExitStack() as stack:
            start = 0
            for site, (layer, values) in enumerate(zip(readers, ranking, strict=True)):
                mask = torch.tensor([unit in on for unit in range(start, start + len(values))])
                mask = mask.repeat_interleave(layer.in_features // len(values))
                gone = 0.0 if means is None else means[site]
                hook = lambda _m, args, mask=mask, gone=gone: (torch.where(mask, args[0], gone),)  # noqa: E731
                stack.callback(layer.register_forward_pre_hook(hook).remove)
                start += len(values)
            p = as_logits(model, image[None]).double().softmax(1)[0, label].item()
        return np.log(p / (1 - p))

    everything = set(range(len(flat)))
    rows = []
    for image, label in zip(images, target.tolist(), strict=True):
        first = [set(best[:k]) for k in numbers]
        rows.append(
            [
                (k, odds(image, label, s), odds(image, label, everything - s))
                for k, s in zip(numbers, first, strict=True)
            ]
        )
    return np.array(rows)  # (B, n, 3)


@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_against_a_naive_implementation(random_vit, random_images, baseline):
    model, images, others = random_vit(3, depth=2), random_images(3, 3), random_images(8, 12)
    reference = others if baseline == "mean" else None
    ranking = nph.importance(model, images, by="causal", units="both")
    found = nph.faithfulness(model, images, ranking, reference=reference)
    means = None
    if baseline == "mean":
        means, handles = {}, []
        for i, layer in enumerate(layer for b in model.blocks for layer in (b.attn.proj, b.mlp.fc2)):
            hook = lambda _m, args, i=i: means.__setitem__(i, args[0].mean(0, keepdim=True))  # noqa: E731
            handles.append(layer.register_forward_pre_hook(hook))
        as_logits(model, others)
        for handle in handles:
            handle.remove()
    target = as_logits(model, images).argmax(1)
    rows = naive(model, images, target, ranking, means)
    k, alone, without = rows[0, :, 0], rows[..., 1], rows[..., 2]
    assert found.k.tolist() == k.tolist()
    assert np.allclose(found.alone, alone, atol=1e-4)
    assert np.allclose(found.without, without, atol=1e-4)
    f = (alone - alone[:, :1]) / (alone[:, -1:] - alone[:, :1])
    x = k / k[-1]
    area = lambda y, x: ((y[:, 1:] + y[:, :-1]) / 2 * np.diff(x)).sum(1)  # noqa: E731
    assert np.allclose(found.cpr, area(f, x), rtol=1e-3, atol=1e-3)
    assert np.allclose(found.cmd, area(abs(1 - f), x), rtol=1e-3, atol=1e-3)
    logs = np.log(k[1:])
    assert np.allclose(found.log_cpr, area(f[:, 1:].clip(0, 1), logs) / logs[-1], rtol=1e-3, atol=1e-3)
    p = 1 / (1 + np.exp(-alone))
    assert found.k90.tolist() == [k[np.argmax(row >= 0.9 * row[-1])] for row in p]
    frame = found.to_frame().set_index("figure")
    assert frame.loc["cpr", "mean"] == pytest.approx(area(f, x).mean(), rel=1e-3, abs=1e-3)
    assert (frame["low"] <= frame["mean"]).all()


def test_a_ranking_by_gates_beats_a_random_one(demo):
    model, images, _ = demo
    reference = nph.demo.load("train")[1][:100]
    gates = nph.faithfulness(
        model, images[:24], nph.importance(model, images[:100], by="taylor", units="both"), reference=reference
    )
    drawn = nph.faithfulness(model, images[:24], nph.importance(model, by="random", units="both"), reference=reference)
    assert gates.log_cpr.mean() > drawn.log_cpr.mean() + 0.1
    assert gates.k_flip.double().median() < drawn.k_flip.double().median()
    assert torch.allclose(gates.f[:, 0], torch.zeros(24))
    assert torch.allclose(gates.f[:, -1], torch.ones(24))
    each = [values.expand(24, -1) for values in nph.importance(model, by="random", units="both")]
    again = nph.faithfulness(model, images[:24], each, reference=reference, internal_batch_size=5)
    assert torch.allclose(again.alone, drawn.alone, atol=1e-3)


def test_bad_input(demo):
    model, images, _ = demo
    ranking = nph.importance(model, by="random", units="both")
    for call, words in (
        ((ranking[:3],), "ranking has"),
        (([*ranking[:-1], ranking[-1][:7]],), "ranking has"),
        (([*ranking[:-1], ranking[-1] * torch.nan],), "ranking holds NaN"),
        ((ranking, 10), "target 10 is out of range"),
    ):
        with pytest.raises(nph.InputError, match=words):
            nph.faithfulness(model, images[:2], *call)
