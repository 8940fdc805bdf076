"""Gates and baselines against plain hooks: derivatives, what ablation takes, what units are ablated to."""

import copy
from contextlib import ExitStack, contextmanager

import pytest
import torch
from small import as_logits

import neuronpath as nph
from neuronpath.models.hooks import at_rest
from neuronpath.runs.clean import clean_runs
from neuronpath.runs.gates import gated_output, mean_gates


def readers(model):
    """(kind, layer) of every site of both kinds, in the order in which the model runs."""
    return [pair for b in model.blocks for pair in (("head", b.attn.proj), ("neuron", b.mlp.fc2))]


@contextmanager
def channels_changed(model, change):
    """Every site's channels (B, N, C) pass through ``change(site, kind, channels)``: plain hooks on all tokens."""
    with ExitStack() as stack:
        for site, (kind, layer) in enumerate(readers(model)):

            def hook(_module, args, site=site, kind=kind):
                return (change(site, kind, args[0]),)

            stack.callback(layer.register_forward_pre_hook(hook).remove)
        yield


def channels_of(model, images):
    found = []
    with channels_changed(model, lambda _site, _kind, x: (found.append(x.detach()), x)[1]):
        as_logits(model, images)
    return found


def ablated(model, images, paths, gone, size):
    """The logits when every path's units are at ``gone`` (1 or B, N, C) a site, each image its own."""

    def change(site, kind, x):
        wide = size if kind == "head" else 1
        x = x.clone()
        for image, unit in enumerate(paths.units[:, site, 0].tolist()):
            at = slice(unit * wide, (unit + 1) * wide)
            x[image, :, at] = gone[site][min(image, len(gone[site]) - 1), :, at]
        return x

    with channels_changed(model, change):
        return as_logits(model, images)


@pytest.fixture(scope="module")
def tiny(random_vit, random_images):
    return random_vit(3), random_images(3, 6), random_images(9, 40)


def probability(logits, target):
    return logits.softmax(1).gather(1, target[:, None])[:, 0]


@pytest.mark.parametrize("baseline", ["zero", "mean", "paired", "resample"])
def test_attributions_sum_to_what_ablation_takes(tiny, baseline):
    model, images, others = tiny
    reference = {"zero": None, "paired": others[:6]}.get(baseline, others)
    paths = nph.find_path(model, images, method="live", baseline=baseline, reference=reference)
    if baseline == "zero":
        gone = [torch.zeros_like(x[:1]) for x in channels_of(model, images)]
    elif baseline == "mean":
        gone = [x.mean(0, keepdim=True) for x in channels_of(model, others)]
    elif baseline == "paired":
        gone = channels_of(model, others[:6])
    else:
        classes = as_logits(model, others).argmax(1)
        candidates = [
            ablated(model, images, paths, [x[i : i + 1] for x in channels_of(model, others)], 8) for i in range(40)
        ]
        taken = torch.stack([paths.probability - probability(logits, paths.target) for logits in candidates])  # (40, B)
        same = (taken - paths.removal).abs() < 1e-5
        assert same.any(0).all(), "what was taken is what some reference image's values take"
        assert all(classes[same[:, i]].ne(paths.target[i]).any() for i in range(6)), "and it is of another class"
    if baseline != "resample":
        after = probability(ablated(model, images, paths, gone, 8), paths.target)
        assert torch.allclose(paths.probability - after, paths.removal, atol=1e-6)
    total = paths.attribution.sum((1, 2))
    assert torch.allclose(total, paths.removal + paths.delta, atol=1e-6)
    assert (paths.delta.abs() <= 1e-3 * paths.removal.abs() + 1e-6).all()
    assert (paths.settings.baseline, paths.settings.influence) == (baseline, "live")


@pytest.mark.parametrize("mean", [False, True])
def test_mean_gates_are_derivatives(tiny, mean):
    """Against central differences in float64, on the way to the ablation of a path, for units on it and off it."""
    model, images, others = copy.deepcopy(tiny[0]).double(), tiny[1][:2].double(), tiny[2].double()
    vit = nph.view(model, "all", "both")
    gone = [x.mean(0, keepdim=True) if mean else 0 * x[:1] for x in channels_of(model, others)]
    path = torch.tensor([[1], [5], [3], [60], [0], [7], [2], [33]]).expand(2, -1, -1)
    ablated = gone if mean else None
    with at_rest(model):
        (run,) = clean_runs(vit, images, None, "prob", internal_batch_size=2)
        found = mean_gates(run, path, "riemann_middle", 1, ablated)  # all at alpha = 1/2
        target, half = run.target, gated_output(run, path, 0.5, ablated)

    def value(site, unit, step):
        def change(s, kind, x):
            size = 8 if kind == "head" else 1
            factor = torch.ones(x.shape[2] // size, dtype=x.dtype)
            factor[path[0, s, 0]] = 0.5
            if s == site:
                factor[unit] += step
            return gone[s] + factor.repeat_interleave(size) * (x - gone[s])

        with channels_changed(model, change):
            return probability(as_logits(model, images), target)

    for site, unit in ((0, 1), (0, 2), (3, 60), (4, 3), (7, 33), (7, 0)):
        slope = (value(site, unit, 1e-4) - value(site, unit, -1e-4)) / 2e-4
        assert slope.abs().max() > 1e-7
        assert torch.allclose(found[site][:, unit], slope, rtol=1e-4, atol=1e-9)
    assert torch.allclose(half, value(0, 1, 0.0), rtol=1e-9)


def test_bad_input(tiny):
    model, images, others = tiny
    for call, words in (
        ({"baseline": "median"}, "baseline 'median' is unknown; expected one of 'zero', 'mean', 'resample', 'paired'"),
        ({"baseline": "mean"}, "baseline 'mean' is made of other images, and reference is None"),
        ({"baseline": "zero", "reference": others}, "reference goes with baseline 'mean'"),
        ({"baseline": "mean", "reference": others[:1]}, "reference holds one image; expected at least 2"),
        ({"baseline": "paired", "reference": others}, "reference holds 40 images for 6; expected one an image"),
        ({"baseline": "mean", "reference": others[:, :1]}, "the model refuses images of shape"),
        ({"baseline": "mean", "reference": others[0]}, "reference has shape"),
        ({"baseline": "mean", "reference": others, "method": "joint"}, "baseline is a choice of method 'live'"),
        ({"baseline": "resample", "reference": images[:1].repeat(3, 1, 1, 1), "target": 4}, None),
    ):
        options = {"method": "live", **call}
        if words is None:
            target = as_logits(model, images[:1]).argmax(1).item()
            with pytest.raises(nph.InputError, match=f"every reference image is of class {target}"):
                nph.find_path(model, images, **{**options, "target": target})
            continue
        with pytest.raises(nph.InputError, match=words) as refusal:
            nph.find_path(model, images, **options)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_live_influence_of_given_units(tiny, baseline):
    model, images, others = tiny
    reference = None if baseline == "zero" else others
    paths = nph.find_path(model, images, method="live", baseline=baseline, reference=reference)
    live = nph.joint_influence(
        model, images, paths.units, units="both", token="all", influence="live", baseline=baseline, reference=reference
    )
    assert torch.allclose(live.attribution, paths.attribution, atol=1e-6)
    assert torch.allclose(live.output_change, paths.removal, atol=1e-6)
    logit = nph.joint_influence(model, images, paths.units, units="both", token="all", influence="live", output="logit")
    with nph.remove(model, paths):
        after = as_logits(model, images)
    change = (as_logits(model, images) - after).gather(1, paths.target[:, None])[:, 0]
    assert torch.allclose(logit.attribution.sum((1, 2)), change, rtol=2e-3, atol=1e-4)
    with pytest.raises(nph.InputError, match="baseline is a choice of influence 'live'"):
        nph.joint_influence(model, images, paths.units, units="both", baseline="mean", reference=others)
    with pytest.raises(nph.InputError, match="influence 'dead' is unknown; expected one of 'frozen', 'live'"):
        nph.joint_influence(model, images, paths.units, units="both", influence="dead")
