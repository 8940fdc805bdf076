"""Interventions do what they say, to the tokens that they say, and leave nothing behind."""

import copy

import pytest
import torch
from small import as_logits, small_images, small_timm

import neuronpath as nph


def without_columns(model, neurons, factor=0.0):
    """A hand-edited copy: the neurons' columns of fc2 multiplied by a factor, which acts on all tokens."""
    edited = copy.deepcopy(model)
    with torch.no_grad():
        for block, chosen in zip(edited.blocks, neurons, strict=True):
            block.mlp.fc2.weight[:, torch.as_tensor(chosen).reshape(-1)] *= factor
    return edited


MODELS = {
    "class token": ("vision_transformer", "vit_small_patch16_224"),
    "patches, registers": ("vision_transformer", "vit_medium_patch16_reg4_gap_256"),
    "SwiGLU": ("vision_transformer", "vit_giant_patch14_dinov2"),
    "relative": ("beit", "beit_base_patch16_224"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("factor", [0.0, 3.0])
def test_on_all_tokens_equals_edited_weights(name, factor):
    model = small_timm(*MODELS[name])
    images, neurons = small_images(model, 3), [[1, 5], [0, 2], [7, 3]]
    plain = as_logits(model, images)
    with nph.enhance(model, neurons, factor, tokens="all"):
        found = as_logits(model, images)
    assert torch.allclose(found, as_logits(without_columns(model, neurons, factor), images), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, plain)
    assert torch.equal(as_logits(model, images), plain)


def test_each_image_has_its_own_path(demo):
    model, images, _ = demo
    paths = nph.find_path(model, images[:4])
    with nph.remove(model, paths):
        together = as_logits(model, images[:4])
    for index in range(4):
        with nph.remove(model, paths[index]):
            assert torch.allclose(as_logits(model, images[index : index + 1])[0], together[index], atol=1e-5)
    clean, removed = as_logits(model, images[:4]).softmax(-1), together.softmax(-1)
    drop = (clean - removed).gather(1, paths.target[:, None])[:, 0]
    assert torch.allclose(drop, paths.removal, atol=1e-6)


def test_removal_on_the_path_s_tokens_only():
    """A hook written out by hand: class token, neuron 3 of block 1."""
    model = small_timm("vision_transformer", "vit_small_patch16_224")
    images = small_images(model, 3)
    neurons = [0, 3, 9]

    def hook(block):
        def zero(_module, args):
            x = args[0].clone()
            x[:, 0, neurons[block]] = 0
            return (x,)

        return zero

    handles = [b.mlp.fc2.register_forward_pre_hook(hook(i)) for i, b in enumerate(model.blocks)]
    expected = as_logits(model, images)
    for handle in handles:
        handle.remove()
    with nph.remove(model, neurons):
        assert torch.allclose(as_logits(model, images), expected, atol=1e-6)


def test_keep_and_set_to():
    model = small_timm("vision_transformer", "vit_small_patch16_224")
    images, neurons = small_images(model, 3), torch.tensor([[1, 5], [0, 2], [7, 3]])
    others = [
        sorted(set(range(width)) - set(chosen.tolist()))
        for width, chosen in zip(nph.view(model).widths, neurons, strict=True)
    ]
    with nph.keep(model, neurons, tokens="all"):
        assert torch.allclose(
            as_logits(model, images), as_logits(without_columns(model, others), images), rtol=1e-4, atol=1e-5
        )
    with nph.set_to(model, neurons, 0.0):
        zeroed = as_logits(model, images)
    with nph.remove(model, neurons):
        assert torch.equal(as_logits(model, images), zeroed)
    means = nph.mean_activations(model, images)
    with nph.set_to(model, neurons, means):
        first = as_logits(model, images)
    assert not torch.allclose(first, zeroed)
    seen = []
    handle = model.blocks[1].mlp.fc2.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, 0].mean(0)))
    as_logits(model, images)
    handle.remove()
    assert torch.allclose(means[1], seen[0], atol=1e-6)


def test_nested_acts_from_the_outside_in():
    model = small_timm("vision_transformer", "vit_small_patch16_224")
    images, neurons = small_images(model, 2), [1, 2, 3]
    with nph.enhance(model, neurons, 3.0), nph.enhance(model, neurons, 2.0):
        twice = as_logits(model, images)
    with nph.enhance(model, neurons, 6.0):
        assert torch.allclose(as_logits(model, images), twice, atol=1e-5)
    with nph.enhance(model, neurons, 3.0), nph.set_to(model, neurons, 0.5):
        last = as_logits(model, images)
    with nph.set_to(model, neurons, 0.5):
        assert torch.equal(as_logits(model, images), last)


def test_nothing_stays_after_an_exception():
    model = small_timm("vision_transformer", "vit_small_patch16_224").train()
    hooks = sum(len(module._forward_pre_hooks) for module in model.modules())
    with pytest.raises(ZeroDivisionError), nph.remove(model, [1, 2, 3]):
        raise ZeroDivisionError
    assert sum(len(module._forward_pre_hooks) for module in model.modules()) == hooks
    assert model.training


def test_a_compiled_model(demo):
    model, images, _ = demo
    paths = nph.find_path(model, images[:2])
    with nph.remove(model, paths):
        expected = as_logits(model, images[:2])
    compiled = torch.compile(copy.deepcopy(model), backend="eager")
    plain = as_logits(compiled, images[:2])
    with nph.remove(compiled, paths):
        assert torch.allclose(as_logits(compiled, images[:2]), expected, atol=1e-6)
    assert torch.equal(as_logits(compiled, images[:2]), plain)


def test_bad_input(demo):
    model, images, _ = demo
    paths = nph.find_path(model, images[:2])
    with pytest.raises(nph.InputError, match="the batch has 3 images, but there are 2 paths"), nph.remove(model, paths):
        model(images[:3])
    other = small_timm("vision_transformer", "vit_small_patch16_224")
    for call in (nph.remove, nph.keep):
        with pytest.raises(nph.InputError, match="made for another model"), call(other, paths):
            pass
    with pytest.raises(nph.InputError, match="neuron 99999 of block 0 is out of range"), nph.remove(model, [99999] * 8):
        pass
    with pytest.raises(nph.InputError, match="tokens 'path' is unknown; expected one of 'auto', 'pooled', 'cls'"):
        nph.remove(model, [1] * 8, tokens="path")
    for units, words in (
        ([(8, 0)], "block 8 is out of range; expected 0 to 7"),
        ([("head", 0, 4)], "head 4 of block 0 is out of range; expected 0 to 3"),
        ([(0, 256)], "neuron 256 of block 0 is out of range"),
        ([("tail", 0, 4)], "kind of unit 'tail' is unknown; expected one of 'head', 'neuron'"),
        ([(1.5, 2)], "names no unit; expected"),
    ):
        with pytest.raises(nph.InputError, match=words):
            nph.remove(model, units)
    with pytest.raises(nph.InputError, match="block 1, head 2 is asked of neurons"):
        nph.keep(model, [("head", 1, 2)], units="neurons")
    with pytest.raises(nph.InputError, match="value holds tensors of shapes"):
        nph.set_to(model, [1] * 8, [torch.zeros(3)] * 8)


@pytest.mark.parametrize("baseline", [None, "zero", "mean", "paired", "resample"])
def test_removal_to_a_baseline_is_what_the_search_measured(demo, baseline):
    model, images, others = demo[0], demo[1][:4], demo[1][100:140]
    reference = {"zero": None, "paired": others[:4]}.get(baseline, others)
    paths = nph.find_path(model, images, baseline=baseline, reference=reference)
    pixels = images if baseline == "resample" else None
    for call, expected in ((nph.remove, paths.left), (nph.enhance, paths.probability + paths.enhancement)):
        with call(model, paths, baseline=baseline, reference=reference, images=pixels):
            after = as_logits(model, images).softmax(-1)
        assert torch.allclose(after.gather(1, paths.target[:, None])[:, 0], expected, atol=1e-6)
    table = nph.evaluate(model, images, None, {"live": paths}, baseline=baseline, reference=reference)
    means = table[table["images"] == "all"].set_index("figure")["mean"]
    assert means["probability_removed"] == pytest.approx(-float(paths.removal.mean()), abs=1e-6)
    assert means["flips"] == pytest.approx(float(paths.decision_flipped.float().mean()))


def test_what_was_drawn_by_the_paths_seed_is_drawn_again(demo):
    """What the search measured under "resample" is what all else measures of its paths, by their own seed."""
    model, images, others = demo[0], demo[1][:3], demo[1][100:140]
    drawn = {"baseline": "resample", "reference": others}
    paths = nph.find_path(model, images, **drawn, seed=3)
    with nph.remove(model, paths, **drawn, images=images):
        left = as_logits(model, images).softmax(-1).gather(1, paths.target[:, None])[:, 0]
    assert torch.allclose(left, paths.left, atol=1e-6)
    options = {"units": "both", "token": "all", "influence": "live"}
    influence = nph.joint_influence(model, images, paths.units, **options, **drawn, seed=3)
    assert torch.allclose(influence.attribution, paths.attribution, atol=1e-6)
    size = paths.units[0].numel()
    curves = nph.faithfulness(model, images, paths, reference=others, k=[size])
    assert torch.allclose(curves.without[:, curves.k == size][:, 0], paths.left.logit(), atol=1e-3)
    graphs = [nph.path_graph(model, images, paths, reference=others, **seed) for seed in ({}, {"seed": 3}, {"seed": 0})]
    assert graphs[0].settings.seed == 3
    same, other = (all(torch.equal(a, b) for a, b in zip(graphs[0].total, g.total, strict=True)) for g in graphs[1:])
    assert same
    assert not other


def test_the_mean_of_one_unit_by_hand(demo):
    """Neuron 3 of block 1 at its mean, position by position; and all neurons but that one at theirs."""
    model, images, others = demo[0], demo[1][:3], demo[1][100:140]
    seen = []
    handle = model.blocks[1].mlp.fc2.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    as_logits(model, others)
    handle.remove()
    mean = seen[0].mean(0)

    def hook(keep):
        def edit(_module, args):
            x = mean.expand_as(args[0]).clone() if keep else args[0].clone()
            x[..., 3] = args[0][..., 3] if keep else mean[..., 3]
            return (x,)

        return edit

    handle = model.blocks[1].mlp.fc2.register_forward_pre_hook(hook(False))
    expected = as_logits(model, images)
    handle.remove()
    with nph.remove(model, [(1, 3)], tokens="all", reference=others):
        assert torch.allclose(as_logits(model, images), expected, atol=1e-5)
    whole = [(block, i) for block in range(8) if block != 1 for i in range(256)]
    handle = model.blocks[1].mlp.fc2.register_forward_pre_hook(hook(True))
    expected = as_logits(model, images)
    handle.remove()
    with nph.keep(model, [*whole, (1, 3)], tokens="all", reference=others):
        assert torch.allclose(as_logits(model, images), expected, atol=1e-5)


def test_baselines_that_cannot_be_had(demo):
    model, images, _ = demo
    for options, words in (
        ({"baseline": "mode"}, "baseline 'mode'"),
        ({"baseline": "mean"}, "reference is None"),
        ({"baseline": "mean", "reference": images[:1]}, "holds one image"),
        ({"baseline": "resample", "reference": images[:9]}, "expected images="),
        ({"baseline": "zero", "reference": images[:9]}, "expected none with 'zero'"),
        ({"reference": images[0]}, "reference"),
    ):
        with pytest.raises(nph.InputError, match=words):
            nph.remove(model, [(1, 3)], **options)
    for change in (nph.remove, nph.keep):
        with (
            change(model, [(1, 3)], baseline="paired", reference=images[:8]),
            pytest.raises(
                nph.InputError, match="the batch has 3 images, but units are ablated as on 8; expected as many"
            ),
        ):
            model(images[:3])


def test_gradient_checkpointing(demo):
    """Of blocks that share weights the gradients are the same with it; of one block run several times it is refused."""
    images = demo[1][:4]

    def gradients(model, checkpointing):
        model.set_grad_checkpointing(checkpointing)
        model.zero_grad()
        with nph.remove(model, [[3], [4], [5], [6], [7], [8], [9], [10]], units="neurons"):
            model(images).square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    looped = nph.recursive(demo[0], 2, init="lower", rank=2)
    for plain, recomputed in zip(gradients(looped, False), gradients(looped, True), strict=True):
        assert torch.allclose(plain, recomputed, rtol=1e-4, atol=1e-5)
    repeated = copy.deepcopy(demo[0])
    repeated.blocks = torch.nn.Sequential(*list(repeated.blocks[:2]) * 4)
    assert all(grad.isfinite().all() for grad in gradients(repeated, False))
    with pytest.raises(
        nph.InputError, match=r"gradient checkpointing calls them again .*set_grad_checkpointing\(False\)"
    ):
        gradients(repeated, True)
