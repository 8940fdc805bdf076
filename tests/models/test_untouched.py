"""A model leaves as it came: its outputs, hooks, flags and modes, and torch's own state, whatever happens in between."""

import copy

import pytest
import torch

import neuronpath as nph
from neuronpath.runs.alpha import along_path

HOOKS = [
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
]


def use_joint(model, images):
    influence = nph.joint_influence(model, images, [3] * len(model.blocks))
    return influence.score.tolist(), influence.attribution.tolist()


USES = {
    "default": nph.find_path,
    "paper": lambda model, images: nph.find_path(model, images, preset="paper", n_steps=2),
    "joint_influence": use_joint,
}
uses = pytest.mark.parametrize("use", USES.values(), ids=USES)
pools = pytest.mark.parametrize("pool", ["token", "avg"])


@pytest.fixture
def model(random_vit, pool):
    """In a state that no cleaning up by halves would restore: modes and flags mixed, a hook of the user's own."""
    model = random_vit(11, pool, drop_rate=0.5, attn_drop_rate=0.3, proj_drop_rate=0.3, drop_path_rate=0.2)
    model.train()
    model.blocks[1].eval()
    model.blocks[2].mlp.drop1.eval()
    model.blocks[0].attn.qkv.weight.requires_grad_(False)
    model.head.bias.requires_grad_(False)
    model.blocks[3].mlp.fc2.register_forward_pre_hook(lambda module, args: None)
    model.norm.register_forward_hook(lambda module, args, output: None)
    return model


@pytest.fixture
def images(random_images):
    return random_images(12, 2)


def state_of(model):
    """All that could be left behind, copied."""
    return {
        "hooks": [{name: list(getattr(module, name).items()) for name in HOOKS} for module in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "training": [module.training for module in model.modules()],
        "tensors": [(name, value.dtype, value.requires_grad, id(value)) for name, value in model.named_parameters()],
        "numbers": {name: value.numpy().tobytes() for name, value in model.state_dict().items()},
        "gradients": [parameter.grad for parameter in model.parameters()],
        "random": torch.get_rng_state().tolist(),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "default_dtype": torch.get_default_dtype(),
        "attention": (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()),
    }


@pools
@uses
def test_nothing_is_left_behind(model, images, use):
    before, pixels = state_of(model), images.clone()
    use(model, images)
    assert state_of(model) == before
    assert torch.equal(images, pixels)
    assert images.grad is None
    assert not images.requires_grad


@pools
@uses
def test_logits_are_the_same_bits(model, images, use):
    model.eval()
    before = model(images)
    use(model, images)
    assert torch.equal(model(images), before)


class DeliberateError(Exception):
    pass


@pools
@uses
@pytest.mark.parametrize("call", [1, 2, 3])
def test_nothing_is_left_behind_by_an_exception(model, images, use, call, monkeypatch):
    calls, forward_head = [], type(model).forward_head

    def fail(self, *args, **kwargs):
        calls.append(None)
        if len(calls) == call:
            raise DeliberateError
        return forward_head(self, *args, **kwargs)

    before = state_of(model)
    monkeypatch.setattr(type(model), "forward_head", fail)
    with pytest.raises(DeliberateError):
        use(model, images)
    assert len(calls) == call
    assert state_of(model) == before


@pools
@uses
def test_nothing_is_left_behind_by_an_exception_in_a_block(model, images, use, monkeypatch):
    """In the second use of the last block's MLP, where hooks of both kinds are in place."""
    calls, forward = [], type(model.blocks[-1].mlp.act).forward

    def fail(self, x):
        calls.append(None)
        if len(calls) == len(model.blocks) + 3:
            raise DeliberateError
        return forward(self, x)

    before = state_of(model)
    monkeypatch.setattr(type(model.blocks[-1].mlp.act), "forward", fail)
    with pytest.raises(DeliberateError):
        use(model, images)
    assert state_of(model) == before


@pools
def test_train_mode_gives_the_paths_of_eval_mode(model, images):
    with torch.no_grad():
        noisy = model(images), model(images)
    assert not torch.equal(*noisy)  # the dropout is at work
    paths = nph.find_path(model, images)
    assert paths == nph.find_path(copy.deepcopy(model).eval(), images)
    with torch.no_grad():
        probability = model.eval()(images).softmax(1).max(1)
    assert torch.equal(paths.target, probability.indices)
    assert torch.allclose(paths.probability, probability.values, atol=1e-6)


@pools
@uses
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_in_any_grad_mode(model, images, use, mode):
    expected = use(model, images)
    with mode():
        before = state_of(model)
        assert use(model, images) == expected
        assert state_of(model) == before
        assert use(model, images.clone()) == expected  # images that are inference tensors themselves


def test_under_inference_mode_with_other_images(random_vit, random_images):
    model, images, others = random_vit(0, depth=2), random_images(1, 4), random_images(2, 8)
    labels = torch.tensor([0, 0, 1, 1])

    def found():
        paths = nph.find_path(model, images, reference=others)
        curve = along_path(model, images, paths, reference=others, n_points=3)
        classes = nph.class_path(model, images, labels, halves=False)
        return [
            paths.units, paths.attribution, curve.value, curve.slope, classes[0].units, classes[1].units,
            *nph.rank_units(model, images, reference=others), nph.find_circuit(model, images, reference=others).kept,
        ]  # fmt: skip

    expected = found()
    with torch.inference_mode():
        inside = found()
    assert all(torch.equal(a, b) for a, b in zip(inside, expected, strict=True))


@pools
def test_images_that_want_a_gradient(model, images):
    expected = nph.find_path(model, images)
    wanting = images.clone().requires_grad_()
    assert nph.find_path(model, wanting) == expected
    circuit = nph.find_circuit(model, images)
    assert nph.find_circuit(model, wanting).random_kept.equal(circuit.random_kept)
    assert nph.faithfulness(model, wanting, expected).log_cpr.equal(nph.faithfulness(model, images, expected).log_cpr)
    drawn = {"baseline": "resample", "reference": torch.cat([images.flip(0), images.flip(3)])}
    assert nph.rank_units(model, wanting, **drawn)[0].equal(nph.rank_units(model, images, **drawn)[0])
    model.eval()
    with nph.remove(model, expected, images=wanting, **drawn):
        inside = model(images)
    with nph.remove(model, expected, images=images, **drawn):
        assert model(images).equal(inside)


@pools
def test_float64_stays_float64(model, images):
    model.double()
    nph.find_path(model, images)  # float32 images meet the model's dtype
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert images.dtype == torch.float32
