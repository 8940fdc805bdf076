"""The curves of a ranking and their figures, against a second, naive implementation with plain hooks."""

from contextlib import ExitStack, nullcontext

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


@pytest.mark.parametrize("kind", ["path", "path of neurons", "circuit"])
def test_paths_and_circuits_rank_their_own_units_and_no_others(random_vit, random_images, kind):
    model, images = random_vit(3, depth=2), random_images(3, 3)
    if kind == "circuit":
        ranking = nph.find_circuit(model, images, criterion="both", controls=False)
        first = ranking.units
    else:
        units = "both" if kind == "path" else "neurons"
        ranking = nph.find_path(model, images, method="live", units=units, top_k=2)
        frame = ranking.to_frame().sort_values(["image", "attribution"], ascending=[True, False])
        first = [
            [nph.Unit(row.block, row.unit, row.kind) for row in rows.itertuples()] for _, rows in frame.groupby("image")
        ]
    own = max(map(len, first))
    assert own >= 3
    numbers = range(own + 1)
    found = nph.faithfulness(model, images, ranking, k=[*numbers, own + 60])
    assert found.k.tolist() == [*numbers, own + 60, 2 * 64 + (8 if kind != "path of neurons" else 0)]
    clean = as_logits(model, images)
    target = clean.argmax(1)
    for i, units in enumerate(first):
        for at, k in enumerate(numbers[: len(units) + 1]):
            with nph.remove(model, units[:k], tokens="all") if k else nullcontext():
                logits = as_logits(model, images[i : i + 1])[0]
            p = logits.double().softmax(0)[target[i]].item()
            assert found.without[i, at].item() == pytest.approx(np.log(p / (1 - p)), abs=1e-3)
    again = nph.faithfulness(model, images, ranking, k=[*numbers, own + 60], seed=1)
    for i, units in enumerate(first):
        assert torch.equal(again.alone[i, : len(units) + 1], found.alone[i, : len(units) + 1])
    assert not torch.allclose(again.alone[:, own + 1], found.alone[:, own + 1], atol=1e-3)
    for i in range(3):
        alone = nph.faithfulness(model, images[i : i + 1], ranking[i], k=[own + 60])
        assert torch.allclose(alone.alone[0, 1], found.alone[i, own + 1], atol=1e-4)


def test_a_function_is_asked_once_for_the_units_in_question(demo):
    model, images, labels = demo
    calls = []

    def ranking(given, these, target):
        calls.append((given, these, target))
        return nph.rank_units(given, these, target)

    found = nph.faithfulness(model, images[:5], ranking, labels[:5], units="heads", internal_batch_size=2)
    (given, these, target), *more = calls
    assert more == []
    assert len(these) == 5
    assert torch.equal(target, labels[:5])
    assert (given.token, {place.kind for place in given.places}) == ("all", {"head"})
    ranked = nph.rank_units(model, images[:5], labels[:5], units="heads")
    expected = nph.faithfulness(model, images[:5], ranked, labels[:5], units="heads")
    assert torch.allclose(found.alone, expected.alone, atol=1e-4)


@pytest.mark.parametrize("kind", ["one for all", "each its own", "both"])
def test_rankings_are_sorted_as_they_are_used(random_vit, random_images, kind, monkeypatch):
    """Once a chunk: of one ranking for all images one row, else the chunk's; the curves are those of all rows at once."""
    model, images = random_vit(3, depth=2), random_images(3, 7)
    draw = torch.Generator().manual_seed(0)
    widths = nph.view(model, "all", "both").widths
    ranking = [torch.randn(width, generator=draw) for width in widths]
    own = {"one for all": (), "each its own": range(len(widths)), "both": (1,)}[kind]
    for site in own:
        ranking[site] = torch.randn(7, widths[site], generator=draw)
    rows = []
    sort = torch.Tensor.sort
    monkeypatch.setattr(torch.Tensor, "sort", lambda self, *a, **k: rows.append(len(self)) or sort(self, *a, **k))
    found = nph.faithfulness(model, images, ranking, internal_batch_size=3)
    assert rows == ([3, 3, 1] if own else [1, 1, 1])
    whole = nph.faithfulness(model, images, [each.expand(7, -1) for each in ranking], internal_batch_size=3)
    for name in ("alone", "without", "probability_alone", "decided_without"):
        assert torch.equal(getattr(found, name), getattr(whole, name))


def test_concat(demo):
    model, images, _ = demo
    parts = [nph.faithfulness(model, images[at], nph.rank_units, k=[3]) for at in (slice(2), slice(2, 5))]
    both = nph.Faithfulness.concat(parts)
    whole = nph.faithfulness(model, images[:5], nph.rank_units, k=[3])
    assert both.k.tolist() == whole.k.tolist() == [0, 3, 2080]
    assert torch.allclose(both.alone, whole.alone, atol=1e-3)
    assert torch.equal(both.decided_without, whole.decided_without)
    other = nph.faithfulness(model, images[:1], nph.rank_units, k=[4])
    for wrong, words in (([], "concat got no curves"), ([*parts, other], "different numbers of units")):
        with pytest.raises(nph.InputError, match=words):
            nph.Faithfulness.concat(wrong)


def test_bad_input(demo):
    model, images, _ = demo
    ranking = nph.importance(model, by="random", units="both")
    for call, words in (
        ((ranking[:3],), "ranking has"),
        (([*ranking[:-1], ranking[-1][:7]],), "ranking has"),
        (([*ranking[:-1], ranking[-1] * torch.nan],), "ranking holds NaN"),
        ((ranking, 10), "target 10 is out of range"),
        ((lambda *_: ranking[1:],), "ranking has"),
        ((nph.find_path(model, images[:3], method="random"),), "ranking holds 3 paths or circuits for 2 images"),
    ):
        with pytest.raises(nph.InputError, match=words):
            nph.faithfulness(model, images[:2], *call)
    with pytest.raises(nph.InputError, match="k holds 2081; expected numbers of units from 0 to 2080"):
        nph.faithfulness(model, images[:2], ranking, k=[1, 2081])
    paths = nph.find_path(model, images[:2], method="random", units="both")
    with pytest.raises(nph.InputError, match="is asked of neurons"):
        nph.faithfulness(model, images[:2], paths, units="neurons")
