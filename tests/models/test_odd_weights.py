"""Files of weights that hold something else than ordinary tensors, and devices that hold no numbers: one line each."""

import warnings

import pytest
import timm
import torch

import neuronpath as nph

TINY = "vit_tiny_patch16_224"
ODD = {
    "0-d": (lambda w: torch.tensor(1.0), r"head.weight has shape \(\)"),
    "1-d": (lambda w: torch.zeros(5), r"head.weight has shape \(5,\)"),
    "a row that is a thousand million rows": (lambda w: torch.zeros(1).expand(10**9, 192), r"shape \(1000000000, 192\)"),
    "empty": (lambda w: torch.zeros(0, 192), "doesn't fit"),
    "sparse": (lambda w: w.to_sparse(), "holds head.weight, which is a sparse tensor; expected ordinary tensors"),
    "compressed": (lambda w: w.to_sparse_csr(), "holds head.weight, which is a sparse tensor"),
    "nested": (lambda w: torch.nested.nested_tensor([w]), "holds head.weight, which is a nested tensor"),
    "meta": (lambda w: w.to("meta"), "holds head.weight, which is a tensor on the meta device"),
    "quantized": (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.quint8), "which is a quantized tensor"),
    "complex": (lambda w: w.to(torch.complex64), r"which is a tensor of torch\.complex64"),
    "float8": (lambda w: w.to(torch.float8_e4m3fn), r"which is a tensor of torch\.float8_e4m3fn"),
    "whole numbers": (lambda w: w.to(torch.int8), r"head.weight holds torch\.int8 for torch\.float32"),
    "truth values": (lambda w: w > 0, r"head.weight holds torch\.bool for torch\.float32"),
}  # fmt: skip


@pytest.fixture(scope="module")
def weights():
    return timm.create_model(TINY, num_classes=3).state_dict()


@pytest.mark.filterwarnings("ignore")  # torch's, of tensors of these kinds
@pytest.mark.parametrize("kind", ODD)
def test_odd_tensors(weights, kind, tmp_path):
    make, words = ODD[kind]
    torch.save({**weights, "head.weight": make(weights["head.weight"])}, tmp_path / "w.pth")
    with pytest.raises(nph.InputError, match=words) as refusal:
        nph.load_model(TINY, checkpoint=tmp_path / "w.pth")
    assert "w.pth" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_other_precisions_are_taken(weights, tmp_path):
    torch.save({name: value.to(torch.bfloat16) for name, value in weights.items()}, tmp_path / "w.pth")
    with warnings.catch_warnings():
        model = nph.load_model(TINY, checkpoint=tmp_path / "w.pth")
    assert torch.equal(model.head.weight, weights["head.weight"].to(torch.bfloat16).float())


@pytest.mark.parametrize("thing", [[1, 2], {}, {"state_dict": {"a": {"b": 1}}}, {1: 2}, 5, "x", None])
def test_files_without_weights(thing, tmp_path):
    torch.save(thing, tmp_path / "w.pth")
    with pytest.raises(nph.InputError, match=r"w\.pth can't be read"):
        nph.load_model(TINY, checkpoint=tmp_path / "w.pth")


@pytest.mark.parametrize("content", [b"", b"x", b"\x80\x04.", b"PK\x03\x04" + bytes(100), bytes(1000)])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_files_of_no_sense(content, ending, tmp_path):
    (tmp_path / f"w.{ending}").write_bytes(content)
    with pytest.raises(nph.InputError, match=rf"w\.{ending} can't be read") as refusal:
        nph.load_model(TINY, checkpoint=tmp_path / f"w.{ending}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("device", ["meta", "hpu", "privateuseone", "xla", "cuda:99", "nonsense", "", " cpu", "cpu:-1"])
def test_devices(device):
    with pytest.raises(nph.InputError, match=r"isn't there; expected auto or one of cpu"):
        nph.load_model("demo", device=device)
