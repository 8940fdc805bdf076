"""``neuronpath run`` as a person would type it."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from commands import Result, refused
from PIL import Image

import neuronpath as nph
from neuronpath.cli import main as cli


@pytest.fixture
def run(monkeypatch, capsys):
    """``neuronpath run`` with these arguments, in this process."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["neuronpath", "run", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return Result(int(stop.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def photos(tmp_path):
    pixels, labels = nph.demo.load_pixels()
    for i in range(12):
        (tmp_path / "photos" / str(labels[i])).mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels[i] * 15).astype(np.uint8), "L").save(tmp_path / f"photos/{labels[i]}/{i}.png")
    return tmp_path / "photos"


def test_a_folder_of_images(run, photos, tmp_path):
    words = (photos, "--model", "demo", "--out", tmp_path / "run", "--method", "causal", "--target", "label")
    result = run(*words)
    assert (result.code, result.err) == (0, "")
    assert result.out == f"12 rows in 2 files, 0 images skipped; nph.open_run('{tmp_path}/run') reads them\n"
    images, names = nph.load_images(photos, nph.load_model("demo"))
    labels = [int(name.split("/")[-2]) for name in names]
    whole = nph.find_path(nph.load_model("demo"), images, labels, method="causal")
    found = nph.open_run(tmp_path / "run").paths([name.removeprefix(f"{photos}/") for name in names])
    assert torch.equal(found.units, whole.units)
    assert torch.equal(found.target, whole.target)
    assert run(*words).code == 0
    refused(run(*words, "--top-k", 2), "top_k is 1 there and 2 here")
    refused(run(*words, "--methods", "live"), "'methods' is no option of find_path")
    (photos / "3/bad.png").write_bytes(b"x")
    result = run(photos, "--model", "demo", "--out", tmp_path / "bad", "--method", "causal", "--quiet")
    assert (result.code, result.out) == (1, "")
    assert "bad.png is damaged or no image" in result.err


def test_what_is_missing_is_named(run, tmp_path):
    refused(run("--model", "vit_tiny_patch16_224", "--out", tmp_path / "run"), "no images were named")
    refused(run(tmp_path, "--out", tmp_path / "run"), "no model was named")
    refused(run("memory://nowhere", "--model", "demo", "--out", tmp_path / "run"), "memory://nowhere")
    refused(run("--out", "/dev/null/run"), "/dev/null/run can't be used")


def test_a_target_that_is_no_number(run, photos, tmp_path):
    words = (photos, "--model", "demo", "--out", tmp_path / "run", "--method", "causal")
    for target in ("--3", "-", "3.5"):
        refused(run(*words, f"--target={target}"), f"target {target!r} names no class of")
    refused(run(*words, "--target=-3"), "target -3 is out of range")


def test_ctrl_c_and_again(photos, tmp_path):
    one = next(photos.rglob("*.png"))
    for i in range(12, 240):  # so many that the signal comes before the end
        (one.parent / f"{i}.png").write_bytes(one.read_bytes())
    words = [sys.executable, "-c", "from neuronpath.cli.main import main; main()", "run", photos, "--model", "demo",
             "--out", tmp_path / "run", "--shard-size", "1", "--method", "causal"]  # fmt: skip
    process = subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(tmp_path.glob("run/shards/0*"))) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    keeps, said = err.splitlines()
    assert (process.returncode, said) == (130, "neuronpath: interrupted; no file was left half-written")
    assert re.fullmatch(r".*run keeps \d+ files? of results; the same command goes on there", keeps)
    done = {file: file.stat().st_mtime_ns for file in nph.open_run(tmp_path / "run").files}
    assert 2 <= len(done) < 240
    assert not [name for name in os.listdir(tmp_path / "run/shards") if name.startswith(".")]
    subprocess.run(list(map(str, words)), check=True, capture_output=True)
    run = nph.open_run(tmp_path / "run")
    assert len(run) == len(set(run.to_frame(["id"])["id"])) == 240
    assert all(file.stat().st_mtime_ns == when for file, when in done.items())


def test_the_digits_have_labels(run, tmp_path):
    result = run("--out", tmp_path / "run", "--task", "evaluate", "--methods", "activation", "--units", "neurons")
    assert (result.code, result.err) == (0, "")
    frame = nph.open_run(tmp_path / "run").to_frame(["id", "label"])
    assert frame.sort_values("id")["label"].tolist() == nph.demo.load_pixels()[1].tolist()
