"""neuronpath benchmark: its figures against those taken by hand, and what it keeps."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import neuronpath as nph
from neuronpath.cli import main as cli
from neuronpath.jobs.benchmark.table import cell


@pytest.fixture
def command(monkeypatch, capsys):
    """``neuronpath benchmark`` with these words, in this process: its code, its output, its errors."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["neuronpath", "benchmark", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0), *capsys.readouterr()

    return call


def tables_of(folder):
    return {table["title"]: table["rows"] for table in json.loads((folder / "table.json").read_text())["tables"]}


def test_faithfulness_is_what_the_functions_give(command, tmp_path):
    words = ("--out", tmp_path / "b", "--limit", 6, "--reference", 8, "--methods", "live,random", "--seed", 3)
    code, out, err = command(*words)
    assert (code, err) == (0, "")
    paths, circuits, rankings = tables_of(tmp_path / "b").values()

    model, images, labels = nph.demo.load()
    chosen = [int(one) for one in nph.open_run(tmp_path / "b" / "paths").to_frame(["id"])["id"].unique()]
    assert len(chosen) == 6
    images, labels = images[chosen], labels[chosen]
    others = nph.Source(torch.utils.data.TensorDataset(*nph.demo.load("train")[1:])).split(8, seed=3)[0]
    reference = nph.demo.load("train")[1][[item.start for item in others]]
    live = nph.find_path(model, images, labels, method="live", reference=reference)
    assert paths[0]["takes of p"][0] == pytest.approx(float((1 - live.left / live.probability).mean()), abs=1e-4)
    assert paths[0]["flips"][0] == pytest.approx(float(live.decision_flipped.float().mean()))
    found = nph.find_circuit(model, images, criterion="keep", reference=reference)
    assert circuits[0]["units, median"][0] == float(np.median(found.size))
    curves = nph.faithfulness(model, images, nph.rank_units(model, images, reference=reference), reference=reference)
    assert rankings[0]["log-CPR"][0] == pytest.approx(float(curves.log_cpr.mean()), abs=1e-4)
    gap = rankings[0]["log-CPR"][0] - rankings[1]["log-CPR"][0]
    assert rankings[1]["below growth"][0] == pytest.approx(gap)
    with Image.open(tmp_path / "b" / "figure.png") as figure:
        assert figure.size[0] > 500
    assert "| live | 6 |" in out and out.splitlines()[-1] == f"wrote {tmp_path / 'b' / 'figure.png'}"  # noqa: PT018

    done = sorted((tmp_path / "b").glob("*/shards/*.parquet"))
    times = [file.stat().st_mtime_ns for file in done]
    assert command(*words)[0] == 0  # again: nothing is measured anew
    assert [file.stat().st_mtime_ns for file in done] == times
    code, _, err = command(*words, "--suite", "cost")
    assert code == 2
    assert "suite is 'faithfulness' there and 'cost' here" in err


def test_cost_is_in_passes(command, tmp_path):
    words = ("--out", tmp_path / "b", "--suite", "cost", "--limit", 1, "--reference", 0, "--methods", "causal")
    code, out, _ = command(*words)
    assert code == 0
    (rows,) = tables_of(tmp_path / "b").values()
    assert [row["name"] for row in rows] == ["path, causal", "circuit that keeps"]
    middle, least, most = rows[0]["F+B"]
    assert 1 < least <= middle <= most
    assert "forward + backward" in out
    file = tmp_path / "b" / "rows" / "00.json"
    file.write_text(json.dumps(rows[0] | {"F+B": [5.0, 4.0, 6.0]}))
    (tmp_path / "b" / "rows" / "01.json").unlink()
    assert command(*words)[0] == 0  # goes on: the one that is there is read, the other measured
    (again,) = tables_of(tmp_path / "b").values()
    assert again[0]["F+B"] == [5.0, 4.0, 6.0]
    assert again[1]["F+B"] != rows[1]["F+B"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--reference", 1], "n_others is 1; expected 0"),
        (["--methods", "live,none"], "none"),
        (["--suite", "compression"], "compression"),
        (["--model", "vit_tiny_patch16_224", "--no-pretrained"], "no images were named for vit_tiny_patch16_224"),
    ],
)
def test_what_cant_be_measured_is_one_line(command, tmp_path, words, reason):
    code, out, err = command("--out", tmp_path / "b", "--limit", 4, *words)
    assert (code, out) == (2, "")
    assert reason in err
    assert err.count("\n") == 1


def test_labels_that_name_no_class(command, tmp_path):
    (tmp_path / "photos" / "someone").mkdir(parents=True)
    for i in range(4):
        Image.new("L", (32, 32), 60 * i).save(tmp_path / "photos" / "someone" / f"{i}.png")
    words = (tmp_path / "photos", "--model", "demo", "--limit", 2, "--reference", 0, "--methods", "random")
    code, _, err = command("--out", tmp_path / "b", *words)
    assert code == 2
    assert "the label 'someone' names no class" in err
    assert command("--out", tmp_path / "c", "--target", "predicted", *words)[0] == 0
    assert next(iter(tables_of(tmp_path / "c").values()))[0]["images"] == "2"


def test_parts_of_a_source_are_apart_and_stay():
    source = nph.Source(np.zeros((50, 4, 4), np.uint8))
    one, other = (set(part) for part in source.split(20, 20, seed=1))
    assert (len(one), len(other), one & other) == (20, 20, set())
    assert set(source.split(20, seed=1)[0]) == one
    assert set(source.split(20, seed=2)[0]) != one
    more = nph.Source(np.zeros((60, 4, 4), np.uint8)).split(20, seed=1)[0]
    assert len(one & set(more)) >= 14  # new images displace few
    assert [len(list(part)) for part in source.split(45, 45)] == [45, 5]
    with pytest.raises(nph.InputError, match="counts is -1"):
        source.split(-1)


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        ((0.795, 0.75, 0.84), "%", "80 % [75, 84]"),
        (0.5, "%", "50 %"),
        ((12.0, 10.0, 14.4), ",.0f", "12 [10, 14]"),
        (float("nan"), "%", "-"),
        ("live", "", "live"),
        (None, "", ""),
    ],
)
def test_cells(value, form, text):
    assert cell(value, form) == text
