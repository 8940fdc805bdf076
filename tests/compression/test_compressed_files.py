"""Smaller models as files: shared tensors once, read without the original, in another process, by any combination."""

import json
import os
import subprocess
import sys

import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from small import as_logits, redrawn, small_images
from test_forged import forge
from timm.data import resolve_model_data_config

import neuronpath as nph
from neuronpath.models.class_names import class_namer
from neuronpath.models.transform import transform_of

LOAD = """
import sys, torch, neuronpath as nph
torch.set_num_threads(1)
for name in sys.argv[2:]:
    model = nph.load_compressed(f"{sys.argv[1]}/{name}.safetensors")
    with torch.no_grad():
        torch.save(model(torch.load(f"{sys.argv[1]}/{name}.images")), f"{sys.argv[1]}/{name}.logits")
"""
SIZES = {"embed_dim": 48, "depth": 4, "num_heads": 2, "patch_size": 8, "img_size": 32}


def combinations(model, images):
    def prune(m):
        return nph.prune(m, nph.importance(m, by="magnitude"), 0.5, round_to=4)

    def recursive(m):
        return nph.recursive(m, 2, rank=4, images=images)

    def low_rank(m):
        return nph.low_rank(m, rank=12, images=images)

    return {
        "recursive": recursive(model),
        "tied": nph.recursive(model, 2, init="lower"),
        "low-rank": low_rank(model),
        "all three": low_rank(recursive(prune(model))),
        "the other way round": prune(recursive(low_rank(model))),
    }


@pytest.mark.parametrize("name", ["vit_small_patch16_224", "beit_base_patch16_224", "vit_srelpos_small_patch16_224"])
def test_in_another_process_the_logits_are_the_same(tmp_path, name):
    arguments = {key: value for key, value in SIZES.items() if "relpos" not in name or key != "reg"}
    model = redrawn(timm.create_model(name, num_classes=7, **arguments))
    images = small_images(model, 5)
    models = combinations(model, images)
    for which, small in models.items():
        path = nph.save_compressed(small, tmp_path / f"{which}.safetensors", arguments)
        torch.save(images, tmp_path / f"{which}.images")
        held = sum(p.numel() * p.element_size() for p in small.parameters())
        buffers = sum(b.numel() * b.element_size() for b in small.buffers() if b is not None)
        assert held < path.stat().st_size < held + buffers + 25_000  # no tensor twice
        with safe_open(path, "pt") as file:
            values = [file.get_tensor(key) for key in file.keys() if "weight" in key]  # noqa: SIM118
        assert len({v.numpy().tobytes() for v in values if v.ndim > 1}) == sum(v.ndim > 1 for v in values)
    subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path), *models], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    for which, small in models.items():
        assert torch.equal(torch.load(tmp_path / f"{which}.logits"), as_logits(small, images)), which


def test_what_is_loaded_is_tied(demo, tmp_path):
    model, images, _ = demo
    looped = nph.merge_(nph.recursive(model, 2, rank=8, images=images[:40]))
    path = nph.save_compressed(looped, tmp_path / "a.safetensors")
    again = nph.load_compressed(path)
    assert torch.allclose(as_logits(again, images), as_logits(looped, images), atol=1e-5)
    assert nph.view(again).tied == nph.view(looped).tied
    assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in looped.parameters())
    share = sum(p.numel() for p in looped.parameters()) / sum(p.numel() for p in model.parameters())
    whole = nph.save_compressed(model, tmp_path / "b.safetensors").stat().st_size
    assert path.stat().st_size / whole < share + 0.02


def test_the_transform_and_the_class_names_come_back(tmp_path):
    """The tag's and the user's own, of which the architecture's name says nothing."""
    name, birds = "vit_small_patch16_224", [f"bird {i}" for i in range(10)]
    model = timm.create_model(f"{name}.dino", depth=2, num_classes=10, pretrained_cfg_overlay={"label_names": birds})
    assert model.pretrained_cfg["mean"] != timm.create_model(name, depth=2).pretrained_cfg["mean"]
    again = nph.load_compressed(nph.save_compressed(model.eval(), tmp_path / "a.safetensors", {"depth": 2}))
    assert resolve_model_data_config(again) == resolve_model_data_config(model)
    image = Image.effect_noise((300, 250), 90)
    assert torch.equal(transform_of(again)(image), transform_of(model)(image))
    assert [class_namer(again)(label) for label in range(10)] == birds
    assert timm.create_model(name, depth=2).pretrained_cfg["mean"] == (0.5, 0.5, 0.5)  # no other model is touched


def test_files_that_say_nothing_of_images_load(demo, tmp_path):
    path = nph.save_compressed(demo[0], tmp_path / "now.safetensors")
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
    del about["data"]
    again = nph.load_compressed(forge(path, tmp_path / "old.safetensors", json.dumps(about)))
    assert again.pretrained_cfg == demo[0].pretrained_cfg


def test_files_of_version_2_load(demo, tmp_path):
    """As an earlier neuronpath wrote them: all weights, no word of parts."""
    path = nph.save_pruned(demo[0], tmp_path / "now.safetensors")
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
    assert (about.pop("parts"), about.pop("same")) == ([], {})
    old = forge(path, tmp_path / "old.safetensors", json.dumps(about))
    with safe_open(old, "pt") as file:
        metadata, weights = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(weights, old, {**metadata, "version": "2"})
    assert torch.equal(as_logits(nph.load_pruned(old), demo[1][:4]), as_logits(demo[0], demo[1][:4]))


FORGED = {
    "parts that are a number": {"parts": 5},
    "parts of no module": {"parts": [["blocks.9.attn.qkv", "weight", 3]]},
    "parts of a norm": {"parts": [["blocks.0.norm1", "weight", 3]]},
    "parts without number": {"parts": [["blocks.0.attn.qkv", "weight"]]},
    "parts that aren't there": {"parts": [["blocks.0.attn.qkv", "weight", 7]]},
    "no parts": {"parts": []},
    "a method for a weight": {"parts": [["blocks.0.attn.qkv", "forward", 3]]},
    "ties to nothing": {"same": {"blocks.0.attn.qkv.bias": "x.y"}},
    "ties of other shapes": {"same": {"blocks.0.attn.qkv.bias": "head.weight"}},
    "ties of a method": {"same": {"blocks.0.attn.qkv.forward": "head.weight"}},
    "ties that are a list": {"same": [1]},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    model = nph.recursive(nph.demo.load()[0], 2, init="lower", rank=4)
    return nph.save_compressed(model, tmp_path_factory.mktemp("looped") / "good.safetensors")


@pytest.mark.parametrize("case", FORGED)
def test_forged_parts_are_refused_in_one_line(file, tmp_path, case):
    with pytest.raises(nph.InputError, match=r"a\.safetensors") as refusal:
        nph.load_compressed(forge(file, tmp_path / "a.safetensors", FORGED[case]))
    assert "\n" not in str(refusal.value)


def test_the_size_of_images_needn_t_be_said(tmp_path):
    model = redrawn(timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=32))
    images = small_images(model, 2)
    path = nph.save_compressed(nph.low_rank(model, rank=8, images=images), tmp_path / "s.safetensors")
    assert nph.load_compressed(path)(images).shape == (2, 5)
