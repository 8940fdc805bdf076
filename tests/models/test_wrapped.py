"""Models that hold a vision transformer: its units, the whole model's outputs."""

import warnings

import pytest
import timm
import torch
from PIL import Image
from small import redrawn
from torch import nn

import neuronpath as nph

SMALL = {"img_size": 32, "patch_size": 8, "depth": 3, "embed_dim": 48, "num_heads": 2}
LOUD = "ignore:.*is no vision transformer itself:UserWarning"


def vit(**changes):
    return redrawn(timm.create_model("vit_tiny_patch16_224", **{"num_classes": 5, **SMALL, **changes}))


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3])[:, None, None])

    def forward(self, images):
        return (images - self.mean) / 0.25


class Classifier(nn.Module):
    """A backbone without a head, and a head of one's own; features the way ``way`` says."""

    def __init__(self, backbone, head, way="forward"):
        super().__init__()
        self.backbone, self.head, self.way = backbone, head, way

    def forward(self, x):
        if self.way == "forward":
            return self.head(self.backbone(x))
        tokens = self.backbone.forward_features(x)
        return self.head(tokens[:, 0] if self.way == "cls" else tokens[:, 1:].mean(1))


class Lit(nn.Module):
    """As Lightning's modules are: the model is a part, and ``forward`` calls it."""

    def __init__(self, model):
        super().__init__()
        self.model, self.loss = model, nn.CrossEntropyLoss()

    def forward(self, x):
        return self.model(x)


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def split(model):
    """The same model twice: as timm has it, and as a backbone with its head taken out to a module of one's own."""
    backbone = vit(num_classes=0)
    backbone.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("head.")})
    head = nn.Linear(48, 5)
    head.load_state_dict(model.head.state_dict())
    return backbone, head


def same(one, other, pixels=True):
    """Equal paths; random ones are drawn by the pixels, so that those are equal only of the same pixels."""
    assert torch.equal(one.units, other.units)
    for name in ["attribution", "removal", "probability", "left", "enhancement"] + ["random_left"] * pixels:
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=2e-5), name


BY_PIXELS = ("conductance", "influence_pattern", "random")  # from an image of zeros, or drawn by the pixels
METHODS = ("live", "joint", "causal", "activation", "knowledge", *BY_PIXELS)


@pytest.mark.filterwarnings(LOUD)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_path_of_the_model_inside(method, images):
    model = vit()
    plain = nph.find_path(model, Normalised()(images), method=method)
    if method not in BY_PIXELS:
        same(nph.find_path(nn.Sequential(Normalised(), model), images, method=method), plain, pixels=False)
    same(nph.find_path(Classifier(*split(model)), Normalised()(images), method=method), plain)
    same(nph.find_path(Lit(nn.DataParallel(model)), Normalised()(images), method=method), plain)


@pytest.mark.filterwarnings(LOUD)
@pytest.mark.parametrize("preset", ["paper", "progressive"])
def test_presets(preset, images):
    model = vit()
    same(nph.find_path(Classifier(*split(model)), images, preset=preset), nph.find_path(model, images, preset=preset))


@pytest.mark.filterwarnings(LOUD)
def test_heads_that_read_the_blocks_output_by_themselves(images):
    """forward_features and a pooling of one's own: the inner model's forward is never called."""
    model = vit()
    backbone, head = split(model)
    same(nph.find_path(Classifier(backbone, head, "cls"), images), nph.find_path(model, images))
    mean = vit(global_pool="avg", fc_norm=False)
    own = Classifier(vit(num_classes=0), nn.Linear(48, 5), "mean")
    own.backbone.load_state_dict({k: v for k, v in mean.state_dict().items() if not k.startswith("head.")})
    own.head.load_state_dict(mean.head.state_dict())
    same(nph.find_path(own, images), nph.find_path(mean, images))
    with pytest.raises(nph.InputTypeError, match="or token='all' where Classifier reads other tokens"):
        nph.find_path(own, images, method="joint")  # on the class token, which this head doesn't read
    same(
        nph.find_path(own, images, method="joint", token="all"),
        nph.find_path(mean, images, method="joint", token="all"),
    )


def test_what_was_found_is_said_once(images):
    model = nn.Sequential(Normalised(), vit())
    with pytest.warns(UserWarning, match=r"Sequential is no vision transformer itself: .*'1' \(VisionTransformer\)"):
        paths = nph.find_path(model, images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nph.find_path(model, images)
        nph.importance(model, by="magnitude")
        nph.prune(model, nph.importance(paths), keep=0.5, units="both")
        nph.view(nn.DataParallel(vit()))  # these wrappers are no models


def test_several_are_refused_by_name(images):
    both = nn.ModuleDict({"student": vit(), "teacher": vit()})
    with pytest.raises(
        nph.InputTypeError, match="ModuleDict holds 2 vision transformers: student, teacher; expected one"
    ):
        nph.find_path(both, images)
    with pytest.raises(nph.InputTypeError, match="ModuleList is no vision transformer that neuronpath knows"):
        nph.find_path(nn.ModuleList([nn.Linear(2, 2)]), images)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = vit()

    def forward(self, x):
        return self.net(x) + self.net(x.flip(-1))


@pytest.mark.filterwarnings(LOUD)
def test_a_model_that_runs_twice_is_refused(images):
    with pytest.raises(nph.InputTypeError, match="Twice ran its 3 blocks 6 times in all; expected each of them once"):
        nph.find_path(Twice(), images)


@pytest.mark.filterwarnings(LOUD)
def test_everything_else_takes_them(images, tmp_path):
    model = vit()
    plain = nph.find_path(model, images)
    whole = Classifier(*split(model)).eval()
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    paths = nph.find_path(whole, images)
    one, other = nph.find_circuit(whole, images), nph.find_circuit(model, images)
    assert one.units == other.units
    assert torch.allclose(one.kept, other.kept, atol=1e-5)
    for change in (nph.remove, nph.keep):
        with change(whole, paths), torch.no_grad():
            changed = whole(images)
        with change(model, plain), torch.no_grad():
            assert torch.allclose(model(images), changed, atol=1e-5)
    assert torch.allclose(
        torch.cat(nph.importance(whole, images, by="taylor", target=plain.target)),
        torch.cat(nph.importance(model, images, by="taylor", target=plain.target)),
        atol=1e-5,
    )
    for importance, units in ((nph.importance(whole, by="magnitude"), None), (nph.importance(paths), "both")):
        small = nph.prune(whole, importance, 0.5, units=units)
        assert isinstance(small, Classifier)
        with torch.no_grad(), nph.mask(whole, importance, 0.5, units=units):
            masked = whole(images)
        assert torch.allclose(small(images), masked, atol=1e-5)
    paths.save(tmp_path / "paths.json")
    with nph.remove(whole, nph.NeuronPaths.load(tmp_path / "paths.json")):
        whole(images)
    graph = nph.path_graph(whole, images, paths)
    assert torch.allclose(graph.value, nph.path_graph(model, images, plain).value, atol=1e-4)
    assert nph.faithfulness(whole, images, paths)
    nph.report(whole, images, paths, tmp_path / "report.html")
    with pytest.raises(nph.InputError, match="Classifier carries no name that timm knows"):
        nph.save_pruned(whole, tmp_path / "whole.safetensors")
    Image.new("RGB", (40, 40)).save(tmp_path / "grey.png")
    with pytest.raises(nph.InputTypeError, match="only the VisionTransformer in it does"):
        nph.load_images(tmp_path, whole)
    after = whole.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any("forward" in vars(module) for module in whole.modules())


@pytest.mark.filterwarnings(LOUD)
def test_paths_of_the_model_inside_fit_the_whole_and_back(images):
    model = vit()
    whole = nn.Sequential(Normalised(), model)
    with nph.remove(whole, nph.find_path(model, images)):
        whole(images)
    assert nph.find_path(whole, images).settings.model == "vit_tiny_patch16_224"


@pytest.mark.filterwarnings(LOUD)
def test_names_are_of_the_head_that_is_there(images):
    inner = redrawn(timm.create_model("vit_tiny_patch16_224", **SMALL))  # ImageNet's 1000 classes
    assert nph.find_path(nn.Sequential(Normalised(), inner), images, 1, method="random").class_names[1] == "goldfish"
    own = nn.Sequential(inner, nn.Linear(1000, 1000))
    assert nph.find_path(own, images, 1, method="random").class_names == {}
    named = nph.find_path(own, images, 1, method="random", class_names={1: "crab"})
    assert named.class_names == {1: "crab"}

    class Subset(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = inner

        def forward(self, x):
            return self.net(x)[:, 500:520]

    assert nph.find_path(Subset(), images, 1, method="random").class_names == {}
    assert nph.find_circuit(Subset(), images, controls=False).class_names == {}


@pytest.mark.filterwarnings(LOUD)
def test_features_of_a_wrapped_model_without_a_head(images):
    body = nn.Sequential(Normalised(), vit(num_classes=0))
    with pytest.raises(nph.InputTypeError, match="has no classes"):
        nph.find_path(body, images)
    paths = nph.find_path(body, images, output=lambda features, target: features[:, 7])
    expected = nph.find_path(body[1], body[0](images), output=lambda features, target: features[:, 7])
    assert torch.allclose(paths.removal, expected.removal, atol=1e-4)


@pytest.mark.filterwarnings(LOUD)
def test_compiled_inside_and_outside(images):
    model = vit()
    plain = nph.find_path(model, images)
    same(nph.find_path(Lit(torch.compile(model)), images), plain)
    same(nph.find_path(torch.compile(Lit(model)), images), plain)


@pytest.mark.filterwarnings(LOUD)
def test_other_libraries_inside(images):
    from torchvision.models import VisionTransformer

    inner = redrawn(VisionTransformer(32, 8, 3, 2, 48, 64, num_classes=5))
    same(nph.find_path(Lit(inner), images), nph.find_path(inner, images))
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=5,
    )
    inner = redrawn(transformers.ViTForImageClassification(config))

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = inner

        def forward(self, x):
            return self.net(x).logits

    same(nph.find_path(Logits(), images), nph.find_path(inner, images))
