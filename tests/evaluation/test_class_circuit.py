"""A class's circuit by brute force over a tiny model's subsets, its figures by plain hooks, and on images not used to find it."""

import itertools
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from small import as_logits

import neuronpath as nph
from neuronpath.models.outputs import run_model
from neuronpath.paths.statistics import halves_of
from neuronpath.runs import baselines


def with_only(vit, images, on, gone=None):
    """The logits with only the units of ``on`` (a site (n, U) or (1, U)), the others at 0 or ``gone``: plain hooks."""
    with ExitStack() as stack:
        for s, site in enumerate(vit.sites):
            mask = on[s].repeat_interleave(site.size, 1)[:, None]

            def hook(_module, args, s=s, mask=mask):
                return (torch.where(mask, args[0], 0.0 if gone is None else gone[s]),)

            stack.callback(site.reader.register_forward_pre_hook(hook).remove)
        return as_logits(vit.model, images)


def masks_of(vit, units):
    masks = [torch.zeros(1, width, dtype=torch.bool) for width in vit.widths]
    for unit in units:
        (site,) = (s for s, place in enumerate(vit.places) if (place.block, place.kind) == (unit.block, unit.kind))
        masks[site][0, unit.index] = True
    return masks


@pytest.fixture(scope="module")
def tiny(random_vit, random_images):
    """A block of 4 heads and 8 neurons, 12 units, and images with the model's own decisions."""
    model, images = random_vit(2, depth=1, embed_dim=8, num_heads=4, mlp_ratio=1), random_images(2, 40)
    return model, images, as_logits(model, images).argmax(1)


@pytest.mark.parametrize("criterion", ["keep", "break"])
def test_by_brute_force(tiny, criterion):
    """Of all 4,096 subsets, those that do what is asked of a class's images on average: none is much smaller."""
    model, images, labels = tiny
    vit = nph.view(model, "all", "both")
    found = nph.class_circuit(model, images, labels, criterion=criterion, halves=False)
    subsets = torch.tensor(list(itertools.product([False, True], repeat=12)))
    sizes, more, possible = subsets.sum(1), [], 0
    for label, circuit in found.items():
        here = images[labels == label]
        probability = as_logits(model, here).softmax(1)[:, label]
        kept, same, flipped = torch.zeros(3, len(subsets))
        for image, p in zip(here, probability, strict=True):
            batch = image.expand(len(subsets), -1, -1, -1)
            alone = with_only(vit, batch, [subsets[:, :4], subsets[:, 4:]])
            without = with_only(vit, batch, [~subsets[:, :4], ~subsets[:, 4:]])
            kept += (alone.softmax(1)[:, label] / p).clamp(max=1)
            same += alone.argmax(1) == label
            flipped += without.argmax(1) != label
        kept, same, flipped = (total / len(here) for total in (kept, same, flipped))
        holds = (kept >= 0.9) & (same >= 0.9) if criterion == "keep" else flipped >= 0.9
        mine = torch.cat(masks_of(vit, circuit.units), 1)[0]
        number = int((subsets == mine).all(1).nonzero())
        assert bool(holds[number]) == circuit.found
        possible += bool(holds.any())
        if circuit.found:
            more.append(int(sizes[number] - sizes[holds].min()))
    assert len(more) >= possible - 1 >= 3  # growth can pass by the sets that break
    assert min(more) == 0
    assert max(more) <= 2


@pytest.fixture(scope="module")
def digits(demo):
    model, images, labels = demo
    some = torch.isin(labels, torch.tensor([3, 5, 8]))
    reference = nph.demo.load("train")[1][:101]
    return (
        model,
        images[some],
        labels[some],
        reference,
        nph.class_circuit(model, images[some], labels[some], reference=reference),
    )


def test_figures_by_hand(digits):
    model, images, labels, reference, found = digits
    assert list(found) == [3, 5, 8]
    vit = nph.view(model, "all", "both")
    right = as_logits(model, images).argmax(1) == labels
    means = []
    for part in (reference[:51], reference[51:]):
        seen = {}
        with ExitStack() as stack:
            for s, site in enumerate(vit.sites):
                keep = lambda _module, args, s=s: seen.__setitem__(s, args[0].mean(0, keepdim=True))  # noqa: E731
                stack.callback(site.reader.register_forward_pre_hook(keep).remove)
            as_logits(model, part)
        means.append(seen)
    halves = {c: halves_of(((labels == c) & right).nonzero()[:, 0].numpy(), c, 0) for c in (3, 5, 8)}
    for label, circuit in found.items():
        assert circuit.found
        on = masks_of(vit, circuit.units)
        others = np.concatenate([halves[c][1] for c in (3, 5, 8) if c != label])
        sets = {"own": halves[label][0], "held out": halves[label][1], "others": others}
        figures = circuit.figures.set_index(["images", "circuit", "figure"])
        for name, chosen in sets.items():
            truth, pixels = labels[chosen][:, None], images[chosen]
            before = as_logits(model, pixels).softmax(1).gather(1, truth)
            alone, without = with_only(vit, pixels, on, means[0]), with_only(vit, pixels, [~m for m in on], means[0])
            again = with_only(vit, pixels, on, means[1])
            expected = {
                "kept": (alone.softmax(1).gather(1, truth) / before),
                "left": (without.softmax(1).gather(1, truth) / before),
                "decision_kept": alone.argmax(1) == truth[:, 0],
                "decision_flipped": without.argmax(1) != truth[:, 0],
                "says_class": alone.argmax(1) == label,
                "rechecked": (again.softmax(1).gather(1, truth) / before),
            }
            for figure, values in expected.items():
                row = figures.loc[(name, "class", figure)]
                assert row["mean"] == pytest.approx(values.float().mean().item(), abs=1e-5)
                assert row["low"] <= row["mean"] <= row["high"]
                assert row["n"] == len(chosen)
        assert figures.loc[("own", "class", "kept"), "mean"] >= 0.9
        assert (
            figures.loc[("held out", "class", "kept"), "mean"]
            > figures.loc[("held out", "random", "kept"), "mean"] + 0.2
        )
        assert figures.loc[("others", "class", "kept"), "mean"] < 0.7  # it is the class's


def test_the_held_out_half_is_not_used(digits):
    model, images, labels, reference, found = digits
    right = as_logits(model, images).argmax(1) == labels
    _, held = halves_of(((labels == 5) & right).nonzero()[:, 0].numpy(), 5, 0)
    changed = images.clone()
    changed[held] = images[held] + 0.05 * torch.randn(images[held].shape, generator=torch.Generator().manual_seed(0))
    assert (as_logits(model, changed).argmax(1) == labels)[held].all()  # so the halves are the same
    again = nph.class_circuit(model, changed[labels == 5], 5, reference=reference)[5]
    assert again.units == nph.class_circuit(model, images[labels == 5], 5, reference=reference)[5].units
    figures = [c.figures.set_index(["images", "circuit", "figure"])["mean"] for c in (again, found[5])]
    assert figures[0]["held out", "class", "kept"] != pytest.approx(figures[1]["held out", "class", "kept"], abs=1e-4)


def test_whatever_the_batches(digits):
    model, images, labels, reference, _ = digits
    one, *others = (
        nph.class_circuit(
            model, images[labels == 5][:16], 5, criterion="break", reference=reference, internal_batch_size=size
        )[5]
        for size in (None, 1, 3)
    )
    for again in others:
        assert again.units == one.units
        np.testing.assert_allclose(again.figures["mean"], one.figures["mean"], atol=1e-4)


def test_others_values_are_run_a_few_images_at_a_time(digits, monkeypatch):
    """What units are on the images drawn comes from as many at a time as all else, and is what it is without that limit."""
    model, images, labels, reference, _ = digits
    options = {"units": "heads", "baseline": "resample", "reference": reference[:40]}
    whole = nph.class_circuit(model, images[labels == 5][:24], 5, **options)[5]
    sizes = []
    monkeypatch.setattr(baselines, "run_model", lambda *of: sizes.append(len(of[1])) or run_model(*of))
    few = nph.class_circuit(model, images[labels == 5][:24], 5, **options, internal_batch_size=4)[5]
    assert sizes[0] == 40  # the references' classes
    assert max(sizes[1:]) == 4
    assert few.units == whole.units
    np.testing.assert_allclose(few.figures["mean"], whole.figures["mean"], atol=1e-5)


def test_one_image_is_its_own_circuit(digits):
    """Of a single image the search is find_circuit's."""
    model, images, labels, reference, _ = digits
    mine = nph.find_circuit(model, images[:1], labels[:1], criterion="break", reference=reference, controls=False)
    (shared,) = nph.class_circuit(
        model, images[:1], labels[:1], criterion="break", reference=reference, halves=False
    ).values()
    assert shared.units == mine.units[0]
    assert shared.cost == pytest.approx(float(mine.cost))
    figures = shared.figures.set_index(["images", "circuit", "figure"])["mean"]
    assert figures["own", "class", "left"] == pytest.approx(float(mine.left / mine.probability), abs=1e-5)
    assert set(shared.figures["images"]) == {"own"}


def test_bad_input(digits):
    model, images, labels, _, _ = digits
    for arguments, options, words in (
        ((images[:1], 4), {}, "class 4 has 0 of its 1 images that the model takes for it; expected at least 2"),
        ((images[:2], 12), {}, "target 12 is out of range; expected 0 to 9"),
        ((images[:2], None), {}, "labels is None"),
        ((images, labels), {"criterion": "hold"}, "criterion 'hold' is unknown"),
        ((images, labels), {"keep": 0}, "keep is 0"),
        ((images, labels), {"baseline": "paired", "reference": images}, "baseline 'paired' is of single images"),
        ((images, labels), {"baseline": "mean"}, "reference is None"),
    ):
        with pytest.raises(nph.InputError, match=words):
            nph.class_circuit(model, *arguments, **options)
