"""Models by the names and from the files that people have."""

import argparse
import collections
import json

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from small import redrawn
from timm.models import save_for_hf
from torch import nn

import neuronpath as nph
from neuronpath.models.transform import transform_of

TINY = "vit_tiny_patch16_224"
OTHERS = "ignore:checkpoint .* are left out"


@pytest.fixture(scope="module")
def weights():
    return redrawn(timm.create_model(TINY, num_classes=5)).state_dict()


def prefixed(weights, prefix):
    return {f"{prefix}{name}": value for name, value in weights.items()}


def same(model, weights):
    found = model.state_dict()
    return found.keys() == weights.keys() and all(torch.equal(value, weights[name]) for name, value in found.items())


class Net(nn.Module):
    """As Lightning's modules and training wrappers hold a model."""

    def __init__(self, name, model):
        super().__init__()
        self.add_module(name, model)


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(lambda w: w, id="plain"),
        pytest.param(lambda w: {"state_dict": w, "epoch": 3, "args": argparse.Namespace(lr=0.1)}, id="timm"),
        pytest.param(lambda w: {"model": prefixed(w, "module."), "optimizer": {"state": {0: {"m": w["pos_embed"]}}}}, id="DDP"),
        pytest.param(lambda w: prefixed(w, "_orig_mod."), id="compiled"),
        pytest.param(lambda w: prefixed(w, "module._orig_mod."), id="both"),
        pytest.param(lambda w: {n.replace("blocks.0.", "blocks.0._orig_mod."): v for n, v in w.items()}, id="a block"),
        pytest.param(lambda w: {"state_dict": prefixed(w, "net.backbone.")}, id="backbone"),
        pytest.param(lambda w: {"model": {"weights": w}}, id="deep"),
        pytest.param(
            lambda w: {"state_dict": {n: torch.zeros_like(v) for n, v in w.items()}, "state_dict_ema": w},
            id="EMA",
            marks=pytest.mark.filterwarnings(OTHERS),
        ),
        pytest.param(
            lambda w: prefixed({n: torch.zeros_like(v) for n, v in w.items()}, "model.") | prefixed(w, "ema.module."),
            id="EMA beside",
            marks=pytest.mark.filterwarnings(OTHERS),
        ),
    ],
)  # fmt: skip
def test_checkpoints_with_any_prefix(held, weights, tmp_path):
    torch.save(held(weights), tmp_path / "w.pth")
    assert same(nph.load_model(TINY, checkpoint=tmp_path / "w.pth"), weights)


@pytest.mark.parametrize("name", [TINY, "deit_tiny_distilled_patch16_224", "eva02_tiny_patch14_224"])
def test_weights_for_images_of_another_size(name, tmp_path):
    """The size is read from the position embedding: behind one token, two, and one that counts patches of 14 pixels."""
    model = timm.create_model(name, num_classes=5, img_size=112)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    found = nph.load_model(name, checkpoint=tmp_path / "w.pth")
    assert same(found, model.state_dict())
    Image.new("RGB", (200, 150)).save(tmp_path / "photo.png")
    assert nph.load_images(tmp_path / "photo.png", found)[0].shape == (1, 3, 112, 112)


def test_a_lightning_checkpoint(weights, tmp_path):
    """Its keys as lightning 2 writes them; the weights of the loss, under other names, are named and left out."""
    model = timm.create_model(TINY, num_classes=5)
    model.load_state_dict(weights)
    state = Net("model", model).state_dict() | {"loss.weight": torch.ones(5)}
    checkpoint = {
        "epoch": 1, "global_step": 20, "pytorch-lightning_version": "2.5.0", "state_dict": state, "loops": {"fit_loop": {}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "best_model_path": "x.ckpt"}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}], "lr_schedulers": [],
        "hparams_name": "kwargs", "hyper_parameters": {"lr": 1e-3, "name": TINY},
    }  # fmt: skip
    torch.save(checkpoint, tmp_path / "last.ckpt")
    with pytest.warns(
        UserWarning, match="under 'state_dict.model' are taken, 1 others are left out: state_dict.loss.weight"
    ):
        assert same(nph.load_model(TINY, checkpoint=tmp_path / "last.ckpt"), weights)


def refuse(match, *arguments, **options):
    with pytest.raises(nph.InputError, match=match) as caught:
        nph.load_model(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_checkpoints_that_are_refused(weights, tmp_path):
    file = tmp_path / "w.pth"
    torch.save(prefixed(weights, "student.") | prefixed(weights, "teacher."), file)
    refuse("holds 2 models that fit, 'student', 'teacher'; expected one", TINY, checkpoint=file)
    body = {name: value for name, value in weights.items() if not name.startswith("head.")}
    torch.save(prefixed(body, "backbone.") | {"fc.weight": torch.ones(5, 192), "fc.bias": torch.ones(5)}, file)
    with pytest.warns(UserWarning, match="2 others are left out: fc.weight, fc.bias"):
        refuse("head.weight is missing; head.bias is missing; a head of your own can't be made", TINY, checkpoint=file)
    torch.save({"state_dict": weights, "config": collections.Counter, "more": argparse.ArgumentParser}, file)
    refuse("UnpicklingError: it holds argparse.ArgumentParser.* save only model.state_dict", TINY, checkpoint=file)
    torch.save(prefixed({"norm.weight": torch.ones(3)}, "blocks.0."), file)
    refuse("doesn't fit VisionTransformer: .* is missing", TINY, checkpoint=file)


def test_a_folder_that_timm_saved(weights, tmp_path):
    model = timm.create_model(TINY, num_classes=5)
    model.load_state_dict(weights)
    save_for_hf(model, tmp_path / "mine", model_config={"label_names": list("abcde")}, safe_serialization=True)
    for name in (f"local-dir:{tmp_path}/mine", str(tmp_path / "mine")):
        loaded = nph.load_model(name)
        assert same(loaded, weights)
        paths = nph.find_path(loaded, torch.randn(2, 3, 224, 224), 1, method="random")
        assert paths.class_names[1] == "b"
    assert not same(nph.load_model(str(tmp_path / "mine"), pretrained=False), weights)
    save_file({n: v + 1 for n, v in weights.items()}, tmp_path / "more.safetensors")
    assert same(
        nph.load_model(str(tmp_path / "mine"), checkpoint=tmp_path / "more.safetensors"),
        {n: v + 1 for n, v in weights.items()},
    )


def test_names_that_are_refused(tmp_path):
    refuse(
        "has no model 'vit_tin_patch16_224', and neither has torchvision; near names: vit_tiny_patch16_224",
        "vit_tin_patch16_224",
    )
    refuse("near names: vit_b_16", "vit_b_166")
    refuse("holds no config.json that can be read", str(tmp_path))
    refuse("can't be had", f"local-dir:{tmp_path}/none")
    refuse(r"can't be made .*; expected no tag, or one of .*augreg_in21k", f"{TINY}.nonsense", pretrained=False)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nonsense"}))
    refuse("can't be had", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": {}}))
    refuse("ResNet is no vision transformer", str(tmp_path), pretrained=False)


def test_without_a_network_hub_names_are_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refuse(
        "hf-hub:timm/vit_tiny_none can't be|weights of hf-hub:timm/vit_tiny_none can't be had",
        "hf-hub:timm/vit_tiny_none",
    )
    pytest.importorskip("transformers")
    refuse("the pretrained weights of neuronpath/none can't be had", "neuronpath/none")


def test_torchvision_by_name(monkeypatch, tmp_path):
    from torchvision.models import get_model

    model = nph.load_model("vit_b_32", pretrained=False)
    assert nph.view(model).widths == [3072] * 12
    image = Image.new("RGB", (300, 260), "red")
    pixels = transform_of(model)(image)
    assert pixels.shape == (3, 224, 224)
    assert torch.allclose(
        pixels[:, 0, 0], torch.tensor([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]), atol=1e-5
    )
    weights = get_model("vit_b_32", num_classes=3).state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    assert same(nph.load_model("vit_b_32", checkpoint=tmp_path / "w.safetensors"), weights)

    def unreachable(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models.get_model", unreachable)
    refuse("weights of vit_b_32 can't be|vit_b_32 can't be made", "vit_b_32")


def test_a_folder_that_transformers_saved(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, hidden_size=48, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
    )  # fmt: skip
    model = redrawn(transformers.ViTForImageClassification(config))
    folder = tmp_path / "mine"
    model.save_pretrained(folder)
    loaded = nph.load_model(str(folder))
    assert same(loaded, model.state_dict())
    Image.new("RGB", (40, 30), "white").save(tmp_path / "white.png")
    with pytest.raises(nph.InputTypeError, match="doesn't say how its images are transformed"):
        nph.load_images(tmp_path / "white.png", loaded)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    loaded = nph.load_model(str(folder))
    images, _ = nph.load_images(tmp_path / "white.png", loaded)
    assert torch.equal(images, torch.ones(1, 3, 32, 32))
    assert set(nph.find_path(loaded, images).class_names.values()) <= {"cat", "dog"}
    assert not same(nph.load_model(str(folder), pretrained=False), model.state_dict())
    body = transformers.ViTModel(config)
    body.save_pretrained(tmp_path / "body")
    assert not nph.view(nph.load_model(str(tmp_path / "body"))).has_head
    config.architectures = ["ViTForImageClassification"]
    config.save_pretrained(tmp_path / "body")
    refuse("lack classifier", str(tmp_path / "body"))


def test_random_weights_leave_the_random_numbers_of_cpu_and_gpu_alone(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    state = torch.get_rng_state()
    first, second = (nph.load_model(TINY, pretrained=False) for _ in range(2))
    assert same(first, second.state_dict())
    assert torch.equal(torch.get_rng_state(), state)
    assert not seeded
