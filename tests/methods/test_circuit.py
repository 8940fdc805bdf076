"""Circuits by brute force over all subsets of a tiny model's units, by plain hooks, and on the digits."""

import itertools
import json
from contextlib import ExitStack

import pytest
import torch
from small import as_logits

import neuronpath as nph
from neuronpath.methods import grow


@pytest.fixture(scope="module")
def tiny(random_vit, random_images):
    """A block of 4 heads and 8 neurons, 12 units."""
    return random_vit(2, depth=1, embed_dim=8, num_heads=4, mlp_ratio=1), random_images(2, 20)


def with_only(model, images, on, gone=None):
    """The logits (n, classes) with only the units on (n, 12) (4 heads, then 8 neurons), the others at 0 or ``gone``: plain hooks."""
    parts = ((model.blocks[0].attn.proj, on[:, :4].repeat_interleave(2, 1)), (model.blocks[0].mlp.fc2, on[:, 4:]))
    with ExitStack() as stack:
        for i, (layer, mask) in enumerate(parts):

            def hook(_module, args, mask=mask, i=i):
                return (torch.where(mask[:, None], args[0], 0.0 if gone is None else gone[i]),)

            stack.callback(layer.register_forward_pre_hook(hook).remove)
        return as_logits(model, images)


def all_that_hold(model, image, criterion, target, probability):
    """Which of all 4,096 subsets do what they must, and their sizes."""
    subsets = torch.tensor(list(itertools.product([False, True], repeat=12)))
    batch = image.expand(len(subsets), -1, -1, -1)
    alone, without = with_only(model, batch, subsets), with_only(model, batch, ~subsets)
    keeps = (alone.argmax(1) == target) & (alone.softmax(1)[:, target] >= 0.9 * probability)
    breaks = without.argmax(1) != target
    holds = {"keep": keeps, "break": breaks, "both": keeps & breaks}[criterion]
    return holds, subsets.sum(1)


@pytest.mark.parametrize(("criterion", "share"), [("keep", 0.8), ("break", 0.8), ("both", 0.75)])
def test_never_smaller_than_possible_and_mostly_minimal(tiny, criterion, share):
    model, images = tiny
    circuit = nph.find_circuit(model, images, criterion=criterion, controls=False)
    minimal = []
    for i in range(len(images)):
        target, probability = int(circuit.target[i]), float(circuit.probability[i])
        holds, sizes = all_that_hold(model, images[i], criterion, target, probability)
        if not holds.any():
            assert not circuit.found[i]
            continue
        if criterion != "both":  # growth can pass by the sets that do both
            assert circuit.found[i]
        if circuit.found[i]:
            assert circuit.size[i] >= sizes[holds].min()
        minimal.append(bool(circuit.found[i] and circuit.size[i] == sizes[holds].min()))
    assert len(minimal) >= 10
    assert sum(minimal) >= share * len(minimal)


def test_figures_by_hand(demo):
    model, images, _ = demo
    reference = nph.demo.load("train")[1][:101]
    circuit = nph.find_circuit(model, images[:4], reference=reference, seed=3)
    half = reference[:51]
    means = nph.view(model, "all", "both")
    seen = {}

    def run(on, mean_of):
        with ExitStack() as stack:
            for s, site in enumerate(means.sites):

                def keep(_module, args, s=s):
                    seen[s] = args[0].mean(0, keepdim=True)

                handle = site.reader.register_forward_pre_hook(keep)
                as_logits(model, mean_of)
                handle.remove()
            for s, site in enumerate(means.sites):
                mask = on[s].repeat_interleave(site.size, 1)[:, None]

                def hook(_module, args, s=s, mask=mask):
                    return (torch.where(mask, args[0], seen[s]),)

                stack.callback(site.reader.register_forward_pre_hook(hook).remove)
            logits = as_logits(model, images[:4])
        return logits.softmax(1).gather(1, circuit.target[:, None])[:, 0], logits.argmax(1)

    masks = circuit.masks()
    alone, decided = run(masks, half)
    without, others = run([~mask for mask in masks], half)
    assert torch.allclose(circuit.kept, alone, atol=1e-5)
    assert torch.allclose(circuit.left, without, atol=1e-5)
    assert torch.equal(circuit.decision_kept, decided == circuit.target)
    assert torch.equal(circuit.decision_flipped, others != circuit.target)
    assert torch.allclose(circuit.rechecked, run(masks, reference[51:])[0], atol=1e-5)
    assert circuit.found.all()
    assert (circuit.kept >= 0.9 * circuit.probability).all()
    assert (circuit.random_kept < circuit.kept).all()
    assert (circuit.wrong_class_size > 0).any()
    assert (circuit.wrong_class_size != 0).all(), "-1 where the runner-up can't be had"
    assert torch.equal(circuit.heads, torch.stack([m.sum(1) for m in masks[::2]]).sum(0))


def test_each_image_by_itself(demo, tmp_path):
    model, images, _ = demo
    reference = nph.demo.load("train")[1][:40]
    together = nph.find_circuit(model, images[:4], criterion="break", reference=reference, names=list("abcd"))
    small = nph.find_circuit(
        model, images[:4], criterion="break", reference=reference, internal_batch_size=1, names=list("abcd")
    )
    for i in range(4):
        alone = nph.find_circuit(model, images[i : i + 1], criterion="break", reference=reference, names=["abcd"[i]])
        assert set(alone.units[0]) == set(together.units[i]) == set(small.units[i])
        assert torch.allclose(alone.random_left, together.random_left[i], atol=1e-5)
    assert together.decision_flipped.all()
    loaded = nph.Circuit.load(together.save(tmp_path / "c.json"))
    assert loaded == together
    assert loaded.to_frame().equals(together.to_frame())
    assert len(together.to_frame()) == together.size.sum()
    assert len(together.to_text().splitlines()) == 5
    assert together[-1].names == ("d",)
    with nph.remove(model, list(together.units[0]), tokens="all"):
        assert as_logits(model, images[:1]).shape == (1, 10)


def test_median_sizes_on_digits(demo):
    model, images, _ = demo
    reference = nph.demo.load("train")[1][:200]
    circuit = nph.find_circuit(model, images[:16], reference=reference, controls=False)
    assert circuit.found.all()
    assert circuit.size.median() <= 15
    assert circuit.cost.median() <= 30


def test_bad_input(tiny, random_images):
    model, images = tiny
    wrong = (as_logits(model, images).argmax(1) + 1) % 5
    last = as_logits(model, images).argmax(1)
    last[1] = wrong[1]
    for call, words in (
        ({"criterion": "hold"}, "criterion 'hold' is unknown; expected one of 'keep', 'break', 'both'"),
        ({"keep": 0}, "keep is 0; expected a finite number above 0 and at most 1"),
        ({"keep": 1.5}, "keep is 1.5"),
        ({"units": "tails"}, "units 'tails' is unknown"),
        ({"baseline": "mean"}, "baseline 'mean' is made of other images"),
        ({"baseline": "median"}, "baseline 'median' is unknown"),
        ({"criterion": "break", "target": wrong}, "the target of image 0 isn't what the model says"),
        ({"criterion": "break", "target": last, "internal_batch_size": 1}, "the target of image 1 isn't what the"),
        ({"names": ["a"]}, "names holds 1 names for 20 images"),
    ):
        with pytest.raises(nph.InputError, match=words) as refusal:
            nph.find_circuit(model, images, **call)
        assert "\n" not in str(refusal.value)
    hard = nph.find_circuit(model, images, target=wrong, controls=False)
    assert torch.equal(hard.target, wrong)
    assert ((hard.kept >= 0.9 * hard.probability) & hard.decision_kept == hard.found).all()


def test_a_file_with_a_unit_that_no_model_has_is_refused(demo, tmp_path):
    circuit = nph.find_circuit(demo[0], demo[1][:1], units="heads", controls=False)
    text = circuit.save(tmp_path / "c.json").read_text()
    document = json.loads(text)
    document["circuits"][0]["units"].append([0, 77, "head"])
    (tmp_path / "d.json").write_text(json.dumps(document))
    with pytest.raises(nph.InputError, match="head 77 of block 0 is out of range; expected 0 to 3"):
        nph.Circuit.load(tmp_path / "d.json")


@pytest.mark.parametrize("call", [1, 2])
def test_a_piece_that_memory_does_not_hold_counts_once(random_vit, random_images, monkeypatch, call):
    """It is run again in halves: what it gave before memory ran out, and what that cost, must not be there twice."""
    model, images = random_vit(2), random_images(3, 4)
    expected = nph.find_circuit(model, images, criterion="both", controls=False, internal_batch_size=4)
    calls, answer = itertools.count(), grow.gated_answer

    def full(*args):
        if next(calls) == call:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer(*args)

    monkeypatch.setattr(grow, "gated_answer", full)
    circuit = nph.find_circuit(model, images, criterion="both", controls=False, internal_batch_size=4)
    assert circuit.units == expected.units
    assert torch.equal(circuit.cost, expected.cost)


def test_seeds_beyond_those_that_torch_takes(demo):
    model, images, _ = demo
    one, two = (nph.find_circuit(model, images[:2], seed=2**33) for _ in range(2))
    assert one == two
    ranked = [nph.importance(model, images[:1], by="random", seed=seed) for seed in (2**64, 0, 1)]
    assert torch.equal(ranked[0][0], ranked[1][0])
    assert not torch.equal(ranked[0][0], ranked[2][0])
