"""path_graph: what it takes, that it leaves the model alone, and how good its estimates are on the digits."""

import copy

import pytest
import torch
from others import OwnViT, view_own  # noqa: F401  (it registers)
from small import as_logits, redrawn

import neuronpath as nph


def same(a, b, **tolerance):
    return all(
        torch.allclose(x, y, equal_nan=True, **tolerance)
        for name in ("effects", "total")
        for x, y in zip(getattr(a, name), getattr(b, name), strict=True)
    )


@pytest.fixture(scope="module")
def tiny(random_vit, random_images):
    model, images = random_vit(3), random_images(3, 5)
    return model, images, random_images(9, 12), nph.find_path(model, images, method="causal", units="both", token="all")


@pytest.mark.parametrize("options", [{}, {"check": True}, {"inside": True}, {"baseline": "resample"}], ids=str)
def test_images_together_and_one_at_a_time(tiny, options):
    model, images, others, paths = tiny
    options = {**options, "reference": others} if "baseline" in options else options
    together = nph.path_graph(model, images, paths, **options)
    small = nph.path_graph(model, images, paths, internal_batch_size=3, **options)
    assert same(together, small, rtol=1e-3, atol=1e-5)
    for i in range(5):
        alone = nph.path_graph(model, images[i : i + 1], paths[i], **options)
        assert alone.units == together[i].units
        assert same(together[i], alone, rtol=1e-3, atol=1e-5)
    assert together.names == paths.names
    assert torch.equal(together.target, paths.target)


def test_images_whose_blocks_are_called_with_masks_of_their_own():
    """Senders of several images run together, each with its image's mask."""
    torch.manual_seed(0)
    model, images = redrawn(OwnViT()), torch.randn(3, 3, 32, 32)
    paths = nph.find_path(model, images, method="causal")
    together = nph.path_graph(model, images, paths, check=True)
    assert all(effects[0, -1].abs() > 1e-4 for effects in together.effects)
    for i in range(3):
        assert same(together[i], nph.path_graph(model, images[i : i + 1], paths[i], check=True), rtol=1e-3, atol=1e-5)


def test_circuits_of_different_sizes(demo):
    model, images, _ = demo
    reference = nph.demo.load("train")[1][:60]
    circuit = nph.find_circuit(model, images[:4], reference=reference, controls=False, criterion="break")
    graph = nph.path_graph(model, images[:4], circuit, reference=reference)
    assert graph.settings.baseline == "mean"
    assert [set(units) for units in graph.units] == [set(units) for units in circuit.units]
    assert len({len(units) for units in graph.units}) > 1, "of one size they test little"
    for i, units in enumerate(graph.units):
        order = [(unit.block, unit.kind == "neuron", unit.index) for unit in units]
        assert order == sorted(order)
        later = torch.tensor([[a[:2] < b[:2] for b in order] for a in order])
        assert torch.equal(~graph.effects[i][:, :-1].isnan(), later)
        alone = nph.path_graph(model, images[i : i + 1], circuit[i], reference=reference)
        assert same(graph[i], alone, rtol=1e-3, atol=1e-4)
    with pytest.raises(nph.InputError, match="baseline 'mean' is made of other images, and reference is None"):
        nph.path_graph(model, images[:4], circuit)


def test_a_circuit_alone(demo):
    """With all other units ablated F is what the circuit alone keeps, and a unit's total what it loses without the unit."""
    model, images, _ = demo
    reference = nph.demo.load("train")[1][:3]  # too few to be halved, so the circuit was found with their mean
    circuit = nph.find_circuit(model, images[:2], reference=reference, controls=False, units="heads")
    graph = nph.path_graph(model, images[:2], circuit, reference=reference, inside=True)
    assert graph.patched
    assert torch.allclose(graph.value.sigmoid(), circuit.kept, atol=1e-4)
    i = int(circuit.size.argmax())
    logits = []
    for units in (graph.units[i], graph.units[i][1:]):
        with nph.keep(model, list(units), tokens="all", reference=reference):
            logits.append(as_logits(model, images[i : i + 1])[0].double())
    p = torch.stack(logits).softmax(1)[:, circuit.target[i]]
    whole, without = (p / (1 - p)).log().tolist()
    assert graph.total[i][0].item() == pytest.approx(whole - without, abs=1e-3)


def test_estimates_against_real_patching_on_digits(demo):
    """Live paths of heads and neurons: every third of 24 digits."""
    model, images, _ = demo
    images = images[:24:3]
    paths = nph.find_path(model, images, method="live", n_steps=4)
    checked = nph.path_graph(model, images, paths, check=True)
    assert checked.pearson.median() > 0.97
    assert checked.pearson.min() > 0.85
    estimate = nph.path_graph(model, images, paths)
    assert estimate.pearson.isnan().all()
    assert not estimate.patched
    for i in range(len(images)):
        later = ~estimate.effects[i][:, :-1].isnan()
        both = torch.stack([each.effects[i][:, :-1][later] for each in (estimate, checked)])
        assert torch.corrcoef(both)[0, 1].item() == pytest.approx(checked.pearson[i].item(), abs=1e-3)
        assert torch.equal(estimate.effects[i][:, -1], checked.effects[i][:, -1])


def test_outputs(tiny):
    model, images, _, paths = tiny
    logits = as_logits(model, images)
    target = paths.target[:, None]
    odds = nph.path_graph(model, images, paths)
    p = logits.double().softmax(1).gather(1, target)[:, 0]
    assert torch.allclose(odds.value.double(), (p / (1 - p)).log(), atol=1e-4)
    assert odds.settings.output == "log-odds"
    logit = nph.path_graph(model, images, paths, output="logit")
    assert torch.allclose(logit.value, logits.gather(1, target)[:, 0], atol=1e-5)
    own = nph.path_graph(
        model, images, paths, output=lambda answer, target: 2 * answer.gather(1, target[:, None])[:, 0]
    )
    assert all(
        torch.allclose(2 * a, b, atol=1e-5, equal_nan=True) for a, b in zip(logit.effects, own.effects, strict=True)
    )


def test_a_model_without_a_head(random_vit, random_images):
    model, images = random_vit(3, num_classes=0), random_images(3, 2)
    energy = lambda features, _target: features.square().sum(1)  # noqa: E731
    paths = nph.find_path(model, images, method="causal", units="both", output=energy)
    graph = nph.path_graph(model, images, paths, output=energy)
    assert torch.allclose(graph.value, as_logits(model, images).square().sum(1), rtol=1e-4)
    assert graph.target.tolist() == [-1, -1]
    with pytest.raises(nph.InputTypeError, match="VisionTransformer has no classes"):
        nph.path_graph(model, images, paths)


def test_a_model_of_one_class(random_vit, random_images):
    model, images = random_vit(0, depth=2, num_classes=1), random_images(1, 2)
    paths = nph.find_path(model, images, output="logit")
    with pytest.raises(nph.InputError, match=r"one class, .*; expected output='sigmoid' or 'logit'$"):
        nph.path_graph(model, images, paths)
    assert all(total.isfinite().all() for total in nph.path_graph(model, images, paths, output="logit").total)


def test_the_model_is_left_as_it_was(tiny):
    model, images, _, paths = tiny
    model = copy.deepcopy(model).train()
    model.blocks[0].attn.qkv.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]

    def fails(answer, _target):
        raise RuntimeError("on purpose")

    graph = nph.path_graph(model, images, paths, check=True)
    assert same(graph, nph.path_graph(tiny[0], images, paths, check=True), rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="on purpose"):
        nph.path_graph(model, images, paths, output=fails)
    assert model.training
    assert all(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_bad_input(tiny, demo, random_vit):
    model, images, others, paths = tiny
    cases = [
        ((demo[0], demo[1][:5], paths), {}, "these paths were made for another model"),
        ((random_vit(3, depth=2), images, paths), {}, "these paths were made for another model"),
        ((model, images[:3], paths), {}, "images holds 3 images for 5 paths or circuits; expected as many"),
        ((model, images, paths.units), {}, "paths is a Tensor; expected NeuronPaths, or Circuit"),
        ((model, images, paths), {"baseline": "median"}, "baseline 'median' is unknown; expected one of 'zero'"),
        ((model, images, paths), {"baseline": "mean"}, "reference is None"),
        ((model, images, paths), {"baseline": "paired", "reference": others}, "reference holds 12 images for 5"),
        ((model, images, paths), {"output": "energy"}, "output is 'energy'; expected one of 'prob'"),
        ((model, images, paths), {"internal_batch_size": 0}, "internal_batch_size is 0"),
        ((model, images[:0], paths), {}, "empty batch"),
    ]
    for args, options, words in cases:
        with pytest.raises(nph.InputError, match=words) as refusal:
            nph.path_graph(*args, **options)
        assert "\n" not in str(refusal.value)
