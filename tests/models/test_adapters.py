"""peft's adapters: a model with LoRA gives what the same model gives once LoRA is merged into its weights."""

import copy

import pytest
import timm
import torch
from small import as_logits, redrawn, small_images, small_timm
from textbook import joint_score, paper_path
from torch import nn

import neuronpath as nph
from neuronpath.models.transform import transform_of

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing")  # that peft asks transformers for
LINEARS = r"blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])"


def adapted(model: nn.Module, targets: str = LINEARS, config: type | None = None, **options) -> nn.Module:
    """The model with LoRA whose both factors are drawn, of rank 3, in a PeftModel."""
    options = {"r": 3, **options} if config is None else options
    wrapped = peft.get_peft_model(model, (config or peft.LoraConfig)(target_modules=targets, **options))
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, values in wrapped.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                noise = torch.randn(values.shape, generator=draw, dtype=values.dtype)
                values.copy_(noise / values.shape[-1] ** 0.5)
    return wrapped.eval()


def merged(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).merge_and_unload().eval()


@pytest.fixture
def model(random_vit):
    return adapted(random_vit(3).double())


@pytest.fixture
def images(random_images):
    return random_images(4, 3).double()


def found_by(model, images, units="neurons", method="joint"):
    return nph.find_path(model, images, units=units, method=method).units


def close(a, b, tolerance=1e-9):
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("units", ["neurons", "heads", "both"])
def test_paths_are_those_of_the_merged_model(random_vit, images, dora, units):
    base = random_vit(3).double()
    before = as_logits(base, images)
    model = adapted(base, use_dora=dora)
    plain = merged(model)
    assert (as_logits(model, images) - before).abs().max() > 0.1, "the adapters do nothing"
    for method in ("joint", "causal", "live"):
        found, expected = (nph.find_path(m, images, units=units, method=method) for m in (model, plain))
        assert torch.equal(found.units, expected.units)
        assert close(found.attribution, expected.attribution, 1e-5)  # float32
        assert found.settings.fingerprint == expected.settings.fingerprint
        with nph.remove(model, found), nph.remove(plain, expected):
            assert close(as_logits(model, images), as_logits(plain, images))


@pytest.mark.parametrize("targets", [r"blocks\.\d+\.mlp\.fc2", r"blocks\.[13]\.mlp\.fc2", r"blocks\.\d+\.attn\.proj"])
def test_the_paper_s_path_is_the_textbook_s(random_vit, images, targets):
    model = adapted(random_vit(3).double(), targets)
    plain = merged(model)
    with torch.no_grad():
        target = plain(images).argmax(1)
    found = nph.find_path(model, images, preset="paper")
    assert torch.equal(found.units, paper_path(plain, images, target))
    nodes, weights = [step / 20 for step in range(20)], [1 / 20] * 20
    score, attribution, change = joint_score(plain, images, target, found.units, nodes, weights)
    assert close(found.score.double(), score, 1e-6)
    assert close(found.attribution.double(), attribution, 1e-6)
    assert close(found.output_change.double(), change, 1e-6)


def test_what_is_run_is_the_whole_wrapped_model(model, images):
    assert nph.view(model).model is model
    assert nph.view(model).widths == [64] * 4
    assert nph.view(model, units="heads").widths == [4] * 4
    clean = as_logits(model, images).softmax(1).amax(1)
    assert close(nph.find_path(model, images, method="causal").probability.double(), clean, 1e-6)
    with model.disable_adapter():
        off = nph.find_path(model, images, method="causal")
        assert close(off.probability.double(), as_logits(model, images).softmax(1).amax(1), 1e-6)
    assert not close(off.probability.double(), clean, 1e-3)
    # its own forward is run, not only that of the model inside
    forward = model.forward
    model.forward = lambda images: forward(images) * 2
    with pytest.raises(nph.InputTypeError, match="does more than its family's blocks do"):
        nph.find_path(model, images, method="causal", output="logit")


@pytest.mark.parametrize("wrap", ["tuner", "inside", "merged"])
def test_other_ways_to_hold_adapters(model, images, wrap):
    expected = found_by(merged(model), images, "both")
    if wrap == "merged":
        model.merge_adapter()
    given = {"tuner": model.base_model, "inside": model.base_model.model, "merged": model}[wrap]
    assert torch.equal(found_by(given, images, "both"), expected)


@pytest.mark.parametrize("units", ["neurons", "heads", "both"])
def test_importances_and_pruning_see_the_merged_weights(model, images, units):
    plain = merged(model)
    for by in ("magnitude", "taylor", "activation"):
        found, expected = (nph.importance(m, images, by=by, units=units) for m in (model, plain))
        assert all(close(a, b, 1e-5) for a, b in zip(found, expected, strict=True))
    before = as_logits(model, images)
    small = nph.prune(model, found, 0.5, units=units, compensate=True, images=images)
    assert torch.equal(as_logits(model, images), before)
    assert not any("lora" in name for name, _ in small.named_parameters())
    assert close(
        as_logits(small, images),
        as_logits(nph.prune(plain, found, 0.5, units=units, compensate=True, images=images), images),
    )
    with nph.mask(model, found, 0.5, units=units):
        masked = as_logits(model, images)
    assert close(masked, as_logits(nph.prune(model, found, 0.5, units=units), images))


def test_a_trained_head_beside_the_adapters_is_merged_too(random_vit, images):
    model = adapted(random_vit(3).double(), modules_to_save=["head"])
    with torch.no_grad():
        model.base_model.model.head.modules_to_save.default.weight.mul_(-1)
    plain = merged(model)
    assert torch.equal(found_by(model, images), found_by(plain, images))
    importance = nph.importance(model, by="magnitude")
    assert close(
        as_logits(nph.prune(model, importance, 0.5), images), as_logits(nph.prune(plain, importance, 0.5), images)
    )
    assert nph.view(model).fingerprint == nph.view(plain).fingerprint


def test_a_gated_mlp_and_rotary_attention():
    model = small_timm("eva", "eva02_tiny_patch14_224").double()
    images = small_images(model).double()
    model = adapted(model, r"blocks\.\d+\.(mlp\.(fc1_g|fc1_x|fc2|w1|w2|w3)|attn\.proj)")
    assert nph.view(model).widths == nph.view(merged(model)).widths
    assert torch.equal(found_by(model, images, "both"), found_by(merged(model), images, "both"))


def test_torchvision_and_transformers():
    torchvision, transformers = pytest.importorskip("torchvision"), pytest.importorskip("transformers")
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 24, "mlp_dim": 40}
    vit = redrawn(torchvision.models.VisionTransformer(**sizes, num_classes=5)).double()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = adapted(copy.deepcopy(vit), r".*mlp\.3")
    assert torch.equal(found_by(model, images, "both"), found_by(merged(model), images, "both"))
    # torch's attention passes its out_proj by, and with it the adapter: heads there aren't those that the model has
    for targets in (r".*out_proj", r".*self_attention"):
        model = adapted(copy.deepcopy(vit), targets)
        assert found_by(model, images).shape == (2, 2, 1)
        with pytest.raises(
            nph.InputTypeError, match=r"can't be reached: its attention is no plain torch\.nn\.MultiheadAttention"
        ):
            nph.find_path(model, images, units="heads")

    sizes = {
        "image_size": 32,
        "patch_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 24,
        "intermediate_size": 40,
    }
    config = transformers.ViTConfig(**sizes, num_labels=5)
    vit = redrawn(transformers.ViTForImageClassification(config)).double()
    model = adapted(vit, r".*(fc2|o_proj|output\.dense)")
    assert torch.equal(found_by(model, images, "both"), found_by(merged(model), images, "both"))


def test_what_is_not_understood_is_refused(random_vit, images):
    ia3 = adapted(random_vit(3).double(), r".*fc2", peft.IA3Config, feedforward_modules=r".*fc2")
    with pytest.raises(
        nph.InputTypeError, match=r"with peft\.tuners\.ia3\.layer\.Linear; expected no adapter, or LoRA or DoRA"
    ) as refusal:
        found_by(ia3, images)
    assert "\n" not in str(refusal.value)
    ia3 = adapted(random_vit(3).double(), r".*attn\.proj", peft.IA3Config, feedforward_modules=r".*proj")
    assert torch.equal(found_by(ia3, images), found_by(merged(ia3), images))
    with pytest.raises(nph.InputTypeError, match=r"can't be reached: its attn\.proj is neither"):
        nph.find_path(ia3, images, units="heads")
    up = adapted(random_vit(3).double(), r".*qkv", peft.IA3Config, feedforward_modules=[])
    with pytest.raises(
        nph.InputTypeError, match=r"attention of class .* with peft\.tuners\.ia3\.layer\.Linear; expected plain"
    ):
        nph.importance(up, by="magnitude", units="heads")


class HandMade(nn.Module):
    """LoRA as people write it themselves."""

    def __init__(self, layer: nn.Linear, as_parameters: bool) -> None:
        super().__init__()
        if as_parameters:
            self.a, self.b = (
                nn.Parameter(torch.randn(layer.in_features, 2)),
                nn.Parameter(torch.randn(2, layer.out_features)),
            )
        else:
            self.down, self.up = nn.Linear(layer.in_features, 2), nn.Linear(2, layer.out_features)
        self.layer = layer

    def forward(self, x):
        return self.layer(x) + (self.up(self.down(x)) if hasattr(self, "up") else x @ self.a @ self.b)


@pytest.mark.parametrize("as_parameters", [True, False])
def test_adapters_of_another_kind_are_refused_not_taken_for_the_neurons(random_vit, images, as_parameters):
    model = random_vit(3)
    for block in model.blocks:
        block.mlp.fc2 = HandMade(block.mlp.fc2, as_parameters)
    with pytest.raises(nph.InputTypeError, match="may have an adapter of its own kind beside it, in HandMade"):
        found_by(model.double(), images)


def test_files_and_transforms(tmp_path, images):
    small = {"img_size": 32, "patch_size": 8, "depth": 2, "num_classes": 5}
    base = redrawn(timm.create_model("vit_tiny_patch16_224", **small))
    model = adapted(base)
    assert str(transform_of(model)) != ""
    saved = nph.load_pruned(nph.save_pruned(model, tmp_path / "m.safetensors", small))
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert close(as_logits(saved, pixels), as_logits(model, pixels), 1e-4)
