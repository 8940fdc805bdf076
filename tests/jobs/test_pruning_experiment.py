"""The pruning experiment: its runs, its resuming, its figures, its command."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from commands import Result
from PIL import Image
from small import as_logits

import neuronpath as nph
from neuronpath.cli import main as cli
from neuronpath.compression.cost import multiply_adds
from neuronpath.jobs.pruning.data import Data, digits
from neuronpath.jobs.pruning.experiment import run_experiment
from neuronpath.jobs.pruning.files import at_work
from neuronpath.jobs.pruning.plan import Plan
from neuronpath.jobs.pruning.tables import TIMES, resampled

WORDS = ("--importances", "magnitude,random,taylor", "--keeps", "0.5,0.0625", "--seeds", "2", "--calibration", "16",
         "--latency-batch", "1")  # fmt: skip
N_RUNS = 3 * 2 * 2 * 2  # importances, keeps, scopes, seeds


@pytest.fixture
def prune_experiment(monkeypatch, capsys):
    """``prune-experiment`` with these arguments, in this process, on the first 24 held-out digits."""
    whole = digits()
    few = type(whole)(whole.pool[:64], whole.pool_labels[:64], whole.test[:24], whole.test_labels[:24])
    monkeypatch.setattr("neuronpath.jobs.pruning.data.digits", lambda: few)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["prune-experiment", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.prune_experiment_main()
        return Result(int(stop.value.code or 0), *capsys.readouterr())

    return call


def test_every_run_is_what_prune_gives(prune_experiment, tmp_path, demo):
    result = prune_experiment(*WORDS, "--out", tmp_path / "e")
    assert (result.code, result.err) == (0, "")
    runs = pd.read_csv(tmp_path / "e/runs.csv")
    assert len(runs) == N_RUNS
    model, images, labels = demo
    rows = runs[(runs.importance == "magnitude") & (runs.scope == "global") & (runs.keep == 0.0625)]
    small = nph.prune(model, nph.importance(model, by="magnitude"), 0.0625, scope="global")
    right = (as_logits(small, images[:24]).argmax(1) == labels[:24]).float().mean().item()
    assert rows["accuracy"].tolist() == pytest.approx([right, right])
    assert set(rows["parameters"]) == {sum(p.numel() for p in small.parameters())}
    # 8 x 256 neurons, 1/16 stays, each worth a row, a bias and a column of 64, on 65 tokens
    gone = 8 * 256 - 8 * 16
    assert rows["parameters"].iloc[0] == sum(p.numel() for p in model.parameters()) - gone * 129
    assert rows["multiply_adds"].iloc[0] == multiply_adds(model, images[:1]) - gone * 128 * 65
    summary = pd.read_csv(tmp_path / "e/summary.csv")
    pd.testing.assert_frame_equal(summary, pd.read_json(tmp_path / "e/summary.json"), check_dtype=False, rtol=1e-6)
    assert (summary.low <= summary.accuracy).all()
    assert (summary.accuracy <= summary.high).all()
    with Image.open(tmp_path / "e/figure.png") as figure:
        assert figure.size[0] > 1000


def test_calibration_and_test_images_never_overlap():
    data = digits()
    pool = {image.numpy().tobytes() for image in data.pool}
    same = sum(image.numpy().tobytes() in pool for image in data.test)
    assert same == 0
    assert (len(data.pool), len(data.test)) == (1437, 360)


def test_killed_and_started_again_it_ends_with_the_same_table(tmp_path):
    words = [sys.executable, "-c", "from neuronpath.cli.main import prune_experiment_main as m; m()", *WORDS, "--seeds", "1",
             "--keeps", "0.0625", "--recover-epochs", "1", "--quiet", "--out"]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen([*words, str(tmp_path / "killed")], env=env, stderr=subprocess.DEVNULL)
    runs = tmp_path / "killed/runs"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not runs.exists() or len(list(runs.glob("seed*.json"))) < 3):
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    done = {path.name: path.stat().st_mtime_ns for path in runs.glob("seed*.json")}
    assert 3 <= len(done) < 12
    for folder in ("killed", "whole"):
        subprocess.run([*words, str(tmp_path / folder)], env=env, check=True)
    assert all((runs / name).stat().st_mtime_ns == when for name, when in done.items())
    for table in ("runs.csv", "summary.csv"):
        again, whole = (pd.read_csv(tmp_path / folder / table).drop(columns=list(TIMES), errors="ignore")
                        for folder in ("killed", "whole"))  # fmt: skip
        assert again.equals(whole)


def test_the_paper_s_protocol(prune_experiment, tmp_path, demo, monkeypatch):
    monkeypatch.setattr("neuronpath.jobs.pruning.plan.PAPER_K", (2,))
    monkeypatch.setattr("neuronpath.jobs.pruning.plan.PAPER_SHARES", (0.3, 1.0))
    result = prune_experiment("--protocol", "paper", "--seeds", 1, "--calibration", 64, "--out", tmp_path / "e")
    assert (result.code, result.err) == (0, "")
    runs = pd.read_csv(tmp_path / "e/runs.csv")
    model, images, labels = demo
    assert len(runs) == 4 * labels[:24].unique().numel()
    label = int(runs["label"].iloc[0])
    draw = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    _, pool, pool_labels = nph.demo.load("train")
    paths = nph.find_path(model, pool[:64][draw], pool_labels[:64][draw], method="joint", top_k=2)
    best = [values.topk(2).indices for values in nph.importance(paths, target=label)]
    own = images[:24][labels[:24] == label]
    with nph.keep(model, torch.stack(best)):
        right = (as_logits(model, own).argmax(1) == label).float().mean().item()
    row = runs[(runs.label == label) & (runs.masked == 1.0) & (runs.kept == "path")]
    assert row["accuracy"].item() == pytest.approx(right)
    with Image.open(tmp_path / "e/figure.png") as figure:
        assert figure.size[0] > 500


def test_a_folder_of_images(prune_experiment, tmp_path, monkeypatch):
    pixels, labels = nph.demo.load_pixels()
    for index in range(60):
        folder = tmp_path / "images" / str(labels[index])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels[index] * 15).astype(np.uint8), "L").resize((32, 32)).save(folder / f"{index}.png")
    words = ("--importances", "activation", "--keeps", "0.5", "--scopes", "block", "--calibration", "10", "--seeds", "1",
             tmp_path / "images", "--model", "demo")  # fmt: skip
    result = prune_experiment(*words, "--out", tmp_path / "e")
    assert (result.code, result.err) == (0, "")
    assert pd.read_csv(tmp_path / "e/summary.csv")["accuracy"].item() > 0.8
    settings = json.loads((tmp_path / "e/settings.json").read_text())
    monkeypatch.setattr("neuronpath.jobs.pruning.data.HELD", 0)  # as for more images than memory has room for
    assert prune_experiment(*words, "--out", tmp_path / "read").code == 0
    assert json.loads((tmp_path / "read/settings.json").read_text()) == settings
    tables = [
        pd.read_csv(tmp_path / each / "runs.csv").drop(columns=list(TIMES), errors="ignore") for each in ("e", "read")
    ]
    pd.testing.assert_frame_equal(*tables)
    assert settings["test"] == sum(n // 2 for n in np.bincount(labels[:60]))
    # named otherwise, one file damaged; then two images of each class
    (tmp_path / "images/0").rename(tmp_path / "images/zero")
    (tmp_path / "images/1/damaged.png").write_text("no picture")
    (tmp_path / "classes.json").write_text(json.dumps({"zero": 0} | {str(digit): digit for digit in range(1, 10)}))
    result = prune_experiment(*words, "--classes", tmp_path / "classes.json", "--out", tmp_path / "f")
    assert result.code == 1
    assert result.err.startswith("skipped: ")
    assert "damaged.png is damaged" in result.err
    again = json.loads((tmp_path / "f/settings.json").read_text())
    assert again.pop("images") != settings.pop("images")  # the same ones, in another order
    assert again == settings
    (tmp_path / "lacking.json").write_text(json.dumps({"zero": 10} | {str(digit): digit for digit in range(1, 10)}))
    result = prune_experiment(*words, "--classes", tmp_path / "lacking.json", "--out", tmp_path / "h")
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert "classes maps 'zero' to class 10, which the model lacks; expected 0 to 9" in result.err
    assert not (tmp_path / "h").exists()
    few = ("--classes", tmp_path / "classes.json", "--limit", 20, "--quiet", "--out", tmp_path / "g")
    assert prune_experiment(*words, *few).code == 0
    assert json.loads((tmp_path / "g/settings.json").read_text())["test"] == 10


def test_bad_input(prune_experiment, tmp_path):
    def refused(*words):
        *arguments, message = words
        result = prune_experiment(*arguments)
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
        assert message in result.err

    out = ("--out", tmp_path / "e")
    refused(*out, "--importances", "path,magic", "importance 'magic' is unknown")
    refused(*out, "--keeps", "0.5,0", "keep is 0.0; expected a share above 0")
    refused(*out, "--keeps", "half", "--keeps has 'half'")
    refused(*out, "--scopes", "layer", "scope 'layer' is unknown")
    refused(*out, "--seeds", 0, "seeds is 0")
    refused(*out, "--keeps", "0.5,0.5", "keeps names one twice")
    refused(*out, "--method", "foo", "method 'foo' is unknown")
    refused(*out, "--top-k", 300, "top_k is 300; expected a whole number from 1 to 256, the neurons of a block")
    refused(*out, "--recover-epochs", -1, "recover_epochs is -1; expected 0 or more")
    refused(*out, "--protocol", "paper", "--calibration", 1, "expected more than 1 of them")
    refused(*out, "--protocol", "thesis", "'thesis' is not one of 'prune', 'paper'")
    refused(*out, "--model", "vit_tiny_patch16_224", "no folder was named for vit_tiny_patch16_224")
    refused(
        *out, "--model", "demo", tmp_path / "none", "is no folder; expected one with a folder of images for each class"
    )
    (tmp_path / "images/cat").mkdir(parents=True)
    refused(*out, "--model", "demo", tmp_path / "images", "holds 'cat', which names no class of VisionTransformer")
    (tmp_path / "images/3").mkdir()
    Image.new("L", (32, 32)).save(tmp_path / "images/3/one.png")
    (tmp_path / "images/cat").rmdir()
    refused(*out, "--model", "demo", tmp_path / "images", "has one image of class 3; expected two at least")
    assert not (tmp_path / "e").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("precious")
    refused("--out", tmp_path / "full", "full isn't empty and holds no experiment")
    assert prune_experiment(*WORDS, "--keeps", "0.5", "--scopes", "block", "--quiet", *out).code == 0
    refused(*WORDS, *out, "holds another experiment (keeps, scopes differ)")
    file = next((tmp_path / "e/runs").iterdir())
    whole = json.loads(file.read_text())
    odd = ({"accuracy": "high"}, {"accuracy": float("nan")}, {"accuracy": 2}, {"wrong": [24]}, {"wrong": None}, {"latency_s": 0},
           {"seed": 7}, {"parameters": None}, {"widths": 3})  # fmt: skip
    damaged = [json.dumps(whole | change) for change in odd] + [
        '{"seed',
        "[]",
        "[" * 100_000,
        '{"seed": 7, "accuracy": 1}',
    ]
    for text in damaged:
        file.write_text(text)
        refused(*WORDS, "--keeps", "0.5", "--scopes", "block", *out,
                "is damaged; expected what an earlier run wrote (delete it and its run is made again)")  # fmt: skip
    (tmp_path / "e/settings.json").write_text("[]")
    refused(*WORDS, *out, "settings.json is damaged")
    (tmp_path / "e/settings.json").unlink()
    (tmp_path / "e/settings.json").mkdir()
    refused(*WORDS, *out, "settings.json is a folder; expected what an earlier run wrote (choose another folder)")
    refused(
        *WORDS,
        "--out",
        tmp_path / "full/thesis.txt/e",
        "can't be used: Not a directory; expected a folder, new or of an experiment",
    )
    assert (tmp_path / "full/thesis.txt").read_text() == "precious"


KILLED = """
import os, signal, sys
from pathlib import Path
import neuronpath.jobs.folder as folder
from neuronpath.jobs.pruning.files import at_work
folder.write_whole = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
with at_work(Path(sys.argv[1]), {"seeds": 1}):
    pass
"""
WORKING = """
import sys
from pathlib import Path
from neuronpath.jobs.pruning.files import at_work
with at_work(Path(sys.argv[1]), {"seeds": 1}):
    print("at work", flush=True)
    sys.stdin.read()
"""


def test_killed_before_its_settings_were_written_it_goes_on(tmp_path):
    """Nothing is left of the run but a folder without settings, or a half-written file."""
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "e")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "e").iterdir()] == ["runs"]
    (tmp_path / "e/.neuronpath-half.json").write_text("{")
    (tmp_path / "e/runs/.neuronpath-half.json").write_text("{")
    with pytest.raises(nph.InputError, match="isn't empty and holds no experiment"):
        at_work(tmp_path / "e", {"seeds": 1}).__enter__()
    (tmp_path / "e/runs/.neuronpath-half.json").unlink()
    for _ in range(2):
        with at_work(tmp_path / "e", {"seeds": 1}) as (runs,):
            assert list(runs.iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == ["runs", "settings.json"]


def test_a_second_process_in_the_folder_is_refused_until_the_first_ends(tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", WORKING, str(tmp_path / "e")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert first.stdout.readline() == b"at work\n"
    with pytest.raises(
        nph.InputError, match=r"another process is at work in .*; wait for its end, or choose another folder"
    ):
        at_work(tmp_path / "e", {"seeds": 1}).__enter__()
    first.kill()
    first.wait()
    first.stdin.close()
    first.stdout.close()
    with at_work(tmp_path / "e", {"seeds": 1}) as (runs,):
        assert runs.is_dir()


def test_other_images_are_another_experiment(demo, tmp_path):
    model, images, labels = demo
    plan = Plan(importances=("magnitude",), keeps=(0.5,), scopes=("block",), seeds=1, calibration=4)
    data = Data(images[:8], labels[:8], images[8:16], labels[8:16])
    run_experiment(model, data, plan, tmp_path / "e")
    with pytest.raises(nph.InputError, match=r"another experiment \(images differ\)"):
        run_experiment(model, replace(data, test_labels=data.test_labels.roll(1)), plan, tmp_path / "e")


def test_intervals_by_hand():
    """Of one seed they are binomial: the standard error of 36 right in 40 is the root of 0.9 x 0.1 / 40."""
    draws = resampled([[0, 1, 2, 3]], 40)
    assert draws.mean() == pytest.approx(0.9, abs=0.005)
    assert draws.std() == pytest.approx((0.9 * 0.1 / 40) ** 0.5, rel=0.1)
    with pytest.raises(nph.InputError, match="calibration is 0"):
        Plan(calibration=0)
