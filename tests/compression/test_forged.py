"""Files of pruned models that were made by hand, their digest right; and a disk that is full."""

import hashlib
import json
import os

import pytest
import torch
from limits import full_disk
from safetensors import safe_open
from safetensors.torch import save_file

import neuronpath as nph

DEEP = "[" * 2000 + "]" * 2000
ABOUT = {
    "deep": DEEP,
    "a list": [],
    "a number": 5,
    "nothing": None,
    "empty": {},
    "an architecture that is a number": {"architecture": 5},
    "that is a list": {"architecture": ["vit_tiny_patch16_224"]},
    "that is no ViT": {"architecture": "resnet18"},
    "that is unknown": {"architecture": "\x1b[31mevil"},
    "that is a hub's": {"architecture": "hf-hub:someone/evil"},
    "that is a folder": {"architecture": "local-dir:/etc"},
    "that has an unknown tag": {"architecture": "vit_tiny_patch16_224.evil"},
    "arguments that are a list": {"arguments": [1]},
    "arguments that are none": {"arguments": None},
    "widths that are none": {"widths": None},
    "widths that are a number": {"widths": 5},
    "widths that are texts": {"widths": ["x"] * 12},
    "widths of halves": {"widths": [0.5] * 12},
    "widths below 0": {"widths": [-1] * 12},
    "too many widths": {"widths": [5] * 10**5},
    "heads that are texts": {"heads": ["x"] * 12},
    "heads in a map": {"heads": {"x": 1}},
    "data that are a list": {"data": ["mean"]},
    "data that are none": {"data": None},
    **{
        f"data with {name} {value!r}": {"data": {name: value}}
        for name, values in {
            "input_size": (5, [3, 224], [3, 10**9, 10**9], [3, 0, 0], [3, 22.4, 22.4], "x"),
            "mean": ([], ["x"], 0.5, [float("nan")] * 3, [1e400] * 3),
            "std": ([0, 0, 0], [-1, -1, -1], None, [True] * 3),
            "interpolation": ("evil", 5, ["bicubic"]),
            "crop_pct": (0, -1, 1e-9, float("nan"), "x", [0.9]),
            "crop_mode": (5, None, {}),
            "label_names": ("cat", [5], {"0": "cat"}),
            "url": ("http://evil",),
            "\x1b[31m": (5,),
        }.items()
        for value in values
    },
    **{
        f"{name} {value!r}": {"arguments": {"num_classes": 5, name: value}}
        for name, values in {
            "img_size": (10**9, -1, 0, "x", [1, 2, 3], None, 1e400, {}),
            "embed_dim": (10**9, -1, 0, "x", 1.5, 7),
            "depth": (10**9, -1, 0, "x", 1.5),
            "mlp_ratio": (1e9, -1, "x", 1e400),
            "num_heads": (0, -1, 10**9, "x", 5),
            "num_classes": (-1, 10**12, "x", None),
            "patch_size": (0, -1, 10**9, "x"),
            "norm_layer": ("evil", 5),
            "act_layer": ("evil", 5, "os.system"),
            "block_fn": ("evil", 5),
            "weight_init": ("evil", 5),
            "features_only": (True,),
            "pretrained_cfg": ({"url": "http://evil"},),
            "checkpoint_path": ("/etc/passwd",),
            "pretrained": (True,),
            "global_pool": ("evil", 5),
            "evil": (5,),
        }.items()
        for value in values
    },
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=32).eval()
    path = tmp_path_factory.mktemp("forged") / "good.safetensors"
    return nph.save_pruned(nph.prune(model, nph.importance(model, by="magnitude"), 0.1), path, {"img_size": 32})


def forge(file, to, changes, **tensors):
    with safe_open(file, "pt") as source:
        metadata = source.metadata()
        weights = {key: source.get_tensor(key) for key in source.keys()} | tensors  # noqa: SIM118
    about = json.loads(metadata["about"])
    text = (
        changes
        if isinstance(changes, str)
        else json.dumps({**about, **changes} if isinstance(changes, dict) else changes)
    )
    found = hashlib.sha256(text.encode())
    for name, value in sorted(weights.items()):
        found.update(name.encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    save_file(weights, to, {**metadata, "about": text, "digest": found.hexdigest()})
    return to


def test_the_forger_knows_the_digest(file, tmp_path):
    again = nph.load_pruned(forge(file, tmp_path / "a.safetensors", {}))
    assert torch.equal(again.head.weight, nph.load_pruned(file).head.weight)


@pytest.mark.parametrize("case", ABOUT)
def test_forged_files_are_refused_in_one_line(file, tmp_path, case):
    forged = forge(file, tmp_path / "a.safetensors", {} if ABOUT[case] == {} else ABOUT[case])
    if ABOUT[case] == {}:
        forged = forge(file, forged, "{}")
    with pytest.raises(nph.InputError, match=r"a\.safetensors") as refusal:
        nph.load_pruned(forged)
    assert "\n" not in str(refusal.value)
    assert "\x1b" not in str(refusal.value)


@pytest.mark.parametrize(
    "tensors",
    [
        {"head.weight": torch.tensor(1.0)},
        {"head.weight": torch.zeros(5, 192, dtype=torch.int8)},
        {"head.weight": torch.zeros(5, 192, dtype=torch.complex64)},
        {"head.weight": torch.zeros(0)},
        {"evil": torch.zeros(1)},
    ],
)
def test_forged_weights(file, tmp_path, tensors):
    with pytest.raises(nph.InputError, match=r"doesn't fit VisionTransformer"):
        nph.load_pruned(forge(file, tmp_path / "a.safetensors", {}, **tensors))


def test_a_full_disk(tmp_path, demo):
    path = tmp_path / "a.safetensors"
    path.write_text("precious")
    words = r"a\.safetensors can't be written: .*[Ff]ile too large"
    with full_disk(10_000), pytest.raises(nph.InputError, match=words) as refusal:
        nph.save_pruned(demo[0], path, overwrite=True)
    assert "\n" not in str(refusal.value)
    assert path.read_text() == "precious"
    assert os.listdir(tmp_path) == ["a.safetensors"]
