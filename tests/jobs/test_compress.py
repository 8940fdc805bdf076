"""Smaller models side by side: their sizes, their figures, the folder that goes on, the command."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from commands import Result, refused
from PIL import Image
from small import as_logits, small_images, small_timm

import neuronpath as nph
from neuronpath.cli import main as cli
from neuronpath.compression.cost import multiply_adds
from neuronpath.compression.sized import sized, with_blocks
from neuronpath.data.given import Stream
from neuronpath.jobs.pruning.data import digits


@pytest.fixture
def compress(monkeypatch, capsys):
    """``neuronpath compress`` with these arguments, in this process, on the first 40 held-out digits."""
    whole = digits()
    few = type(whole)(whole.pool[:96], whole.pool_labels[:96], whole.test[:40], whole.test_labels[:40])
    monkeypatch.setattr("neuronpath.jobs.pruning.data.digits", lambda: few)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["neuronpath", "compress", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return Result(int(stop.value.code or 0), *capsys.readouterr())

    return call


def size(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("equal", ["parameters", "multiply-adds"])
def test_models_are_as_small_as_they_were_asked_to_be(demo, equal):
    model, images, _ = demo

    def cost(one):
        return size(one) if equal == "parameters" else multiply_adds(one, images[:1])

    ways = ["low-rank", "prune", "prune+low-rank", "low-rank+prune"]
    ways += ["recursive", "recursive+low-rank", "low-rank+recursive", "recursive+prune"] * (equal == "parameters")
    for way in ways:
        for share in (0.6, 0.4):
            small = sized(model, way, share, images[:48], equal)
            found = cost(small) / cost(model)
            assert share - 0.05 < found < share + 0.03, (way, share, found)
            assert ("recursive" in way) == bool(nph.view(small).tied)
    for way in ("first-blocks", "every-other"):
        assert abs(cost(sized(model, way, 0.5, images[:4], equal)) / cost(model) - 0.5) < 0.06


def test_fewer_blocks_are_the_model_s_own(demo):
    model, images, _ = demo
    small = with_blocks(model, [0, 2, 5])
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images[:3]))))
    for i in (0, 2, 5):
        x = model.blocks[i](x)
    assert torch.allclose(as_logits(small, images[:3]), model.forward_head(model.norm(x)), atol=1e-5)
    assert len(model.blocks) == 8
    model = small_timm("eva", "eva02_base_patch14_224", depth=4)
    images = small_images(model, 8)
    assert len(nph.view(sized(model, "every-other", 0.5, images)).blocks) == 2
    for share in (0.7, 0.5):
        small = sized(model, "recursive+low-rank", share, images, unique=2, layout="sequence")
        assert size(small) / size(model) == pytest.approx(share, abs=0.05)


def test_every_run_is_measured_and_kept(compress, tmp_path, demo):
    words = (
        "--methods",
        "low-rank,recursive,first-blocks",
        "--shares",
        "0.4",
        "--calibration",
        "64",
        "--out",
        tmp_path / "e",
    )
    result = compress(*words, "--epochs", 1, "--latency-batch", 2)
    assert (result.code, result.err) == (0, "")
    assert f"wrote {tmp_path / 'e/results.csv'}" in result.out
    table = pd.read_csv(tmp_path / "e/results.csv")
    assert list(table.method) == ["as it is", *(m for m in ("low-rank", "recursive", "first-blocks") for _ in "ab")]
    assert table.distilled.tolist() == [False, *[False, True] * 3]
    model, images, labels = demo
    wanted = as_logits(model, images[:40]).log_softmax(1)
    for row in table.itertuples():
        name = f"{row.method}_{row.share}{'_distilled' * row.distilled}".replace(" ", "-")
        file = tmp_path / f"e/models/{name}.safetensors"
        small = nph.load_compressed(file)
        said = as_logits(small, images[:40]).log_softmax(1)
        assert row.accuracy == pytest.approx((said.argmax(1) == labels[:40]).double().mean().item())
        assert row.agreement == pytest.approx((said.argmax(1) == wanted.argmax(1)).double().mean().item())
        assert row.kl == pytest.approx((wanted.exp() * (wanted - said)).sum(1).mean().item(), abs=1e-5)
        assert row.parameters == pytest.approx(size(small) / size(model))
        assert row.low <= row.accuracy <= row.high
        whole = tmp_path / "e/models/as-it-is_1.0.safetensors"
        assert row.bytes == pytest.approx(file.stat().st_size / whole.stat().st_size)
    by = table.set_index(["method", "distilled"])
    assert by.kl["first-blocks", True] < by.kl["first-blocks", False]
    assert by.multiply_adds["recursive", False] == pytest.approx(1)  # merged
    with Image.open(tmp_path / "e/figure.png") as figure:
        assert figure.size[0] > 600
    assert not list((tmp_path / "e/training").iterdir())

    def made(call):
        (tmp_path / "e/results.csv").unlink()
        again = compress(*call)
        assert (again.code, again.err) == (0, "")
        return pd.read_csv(tmp_path / "e/results.csv")

    pd.testing.assert_frame_equal(made([*words, "--epochs", 1, "--latency-batch", 2]), table)
    refused(compress(*words), "holds another comparison (epochs, latency_batch differ)")
    (tmp_path / "e/runs/low-rank_0.4.json").write_text("{}")
    refused(compress(*words, "--epochs", 1, "--latency-batch", 2), "low-rank_0.4.json is damaged")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_killed_in_distillation_and_started_again_it_ends_with_the_same_models(tmp_path):
    program = "from neuronpath.cli.main import main; main()"
    words = [
        "--methods",
        "recursive",
        "--shares",
        "0.3",
        "--epochs",
        "2",
        "--train",
        "100",
        "--batch",
        "4",
        "--calibration",
        "32",
    ]
    words = [sys.executable, "-c", program, "compress", *words, "--quiet", "--latency-batch", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def started(out):
        return subprocess.Popen([*words, "--out", tmp_path / out], env=environment)

    assert started("whole").wait() == 0
    process = started("killed")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("training/*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.01)  # until half of it is done
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "killed").glob("runs/*distilled*"))
    assert started("killed").wait() == 0
    names = [file.name for file in sorted((tmp_path / "whole/models").iterdir())]
    assert len(names) == 3
    for name in names:
        models = [nph.load_compressed(tmp_path / out / "models" / name) for out in ("whole", "killed")]
        for one, other in zip(*(model.state_dict().values() for model in models), strict=True):
            assert torch.equal(one, other)
    runs = [json.loads((tmp_path / out / "results.json").read_text()) for out in ("whole", "killed")]
    whole, killed = ([(run["kl"], run["accuracy"], run["parameters"]) for run in table] for table in runs)
    assert whole == killed


def test_a_folder_of_images(compress, tmp_path, monkeypatch):
    images, labels = nph.demo.load_pixels("test")
    for i in range(60):
        (tmp_path / "photos" / str(labels[i])).mkdir(parents=True, exist_ok=True)
        Image.fromarray((images[i] * 15).astype("uint8")).resize((32, 32)).save(
            tmp_path / f"photos/{labels[i]}/{i}.png"
        )
    words = (
        "--model",
        "demo",
        "--methods",
        "low-rank",
        "--shares",
        "0.5",
        "--equal",
        "multiply-adds",
        "--latency-batch",
        1,
    )
    result = compress(tmp_path / "photos", *words, "--out", tmp_path / "e")
    assert (result.code, result.err) == (0, "")
    assert pd.read_csv(tmp_path / "e/results.csv").multiply_adds[1] == pytest.approx(0.5, abs=0.02)
    words = (*words, "--epochs", 1, "--batch", 8, "--calibration", 10)
    compress(tmp_path / "photos", *words, "--out", tmp_path / "held")
    monkeypatch.setattr("neuronpath.jobs.pruning.data.HELD", 0)  # as for more images than memory has room for
    monkeypatch.setattr("neuronpath.jobs.pruning.data.BATCH", 8)
    read, batches = Stream.__getitem__, []
    monkeypatch.setattr(Stream, "__getitem__", lambda self, at: batches.append(found := read(self, at)) or found)
    result = compress(tmp_path / "photos", *words, "--out", tmp_path / "read")
    assert (result.code, result.err) == (0, "")
    in_pool, in_test = (sum(f(n) for n in np.bincount(labels[:60])) for f in (lambda n: (n + 1) // 2, lambda n: n // 2))
    assert in_pool > in_test
    assert max(len(found) for found in batches if found.ndim == 4) == in_test  # never the whole pool
    held, again = (pd.read_csv(tmp_path / out / "results.csv") for out in ("held", "read"))
    same = ["method", "distilled", "accuracy", "agreement", "kl", "parameters", "bytes"]
    pd.testing.assert_frame_equal(again[same], held[same])


def test_bad_input(compress, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    for words, expected in (
        (("--methods", "magic"), "method 'magic' is unknown; expected one of 'low-rank', 'recursive'"),
        (("--methods", ""), "expected"),
        (("--methods", "prune+"), "method '' is unknown"),
        (("--methods", "prune,prune"), "methods are prune, prune; expected some, each once"),
        (("--shares", "1.5"), "a share is 1.5; expected a finite number above 0 and at most 1"),
        (("--shares", "half"), "--shares has 'half'; expected numbers"),
        (("--equal", "size"), "'size' is not one of 'parameters', 'multiply-adds'"),
        (("--equal", "multiply-adds"), "loops save no multiply-adds"),
        (("--layout", "ring"), "'ring' is not one of 'cycle', 'sequence', 'phases'"),
        (("--methods", "recursive", "--unique", 3), "unique is 3, which doesn't divide the 8 blocks"),
        (("--lr", 0), "lr is 0.0; expected a finite number above 0"),
        (("--epochs", -1), "Invalid value for '--epochs'"),
        (("--model", "vit_tiny_patch16_224"), "no folder was named for vit_tiny_patch16_224"),
        (("--out", tmp_path / "full"), "isn't empty and holds no comparison"),
    ):
        refused(compress("--out", tmp_path / "e", *words), expected)
