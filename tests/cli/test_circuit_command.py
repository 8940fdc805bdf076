"""The command neuronpath circuit: what it prints, writes and refuses."""

import io
import sys

import numpy as np
import pytest
import torch
from commands import Result, draw_digits, for_digits, refused
from PIL import Image

import neuronpath as nph
from neuronpath.cli import main as cli


@pytest.fixture
def circuit(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["neuronpath", "circuit", *for_digits(arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return Result(int(stop.value.code or 0), *capsys.readouterr())

    return call


def test_without_arguments_ten_digits(circuit, tmp_path):
    files = ("--out", tmp_path / "c.json", "--plot", tmp_path / "c.png", "--report", tmp_path / "c.html")
    result = circuit("--criterion", "break", *files)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[13:] == [f"wrote {path}" for path in files[1::2]]
    saved = nph.Circuit.load(tmp_path / "c.json")
    assert saved.decision_flipped.all()
    model, images, labels = nph.demo.load()
    first = [int((labels == d).nonzero()[0]) for d in range(10)]
    again = nph.find_circuit(model, images[first], criterion="break", reference=nph.demo.load("train")[1][:400])
    assert again.units == saved.units
    assert f"{len(saved.units[3])} (" in lines[4]
    drawn = io.BytesIO()
    nph.plots.plot_circuit(saved[0], images[first][:1]).savefig(drawn)
    assert np.array_equal(Image.open(tmp_path / "c.png"), Image.open(drawn))
    assert lines[12] == saved.summary()
    page = (tmp_path / "c.html").read_text()
    assert saved.summary().replace("'", "&#39;") in page
    assert page.count('class="point ') == int(saved.size.sum())
    assert page.count('<svg class="graph"') == 10


def test_images_of_ones_own_in_batches(circuit, tmp_path):
    folder = tmp_path / "digits"
    draw_digits(folder, 0, 3)
    (folder / "broken.png").write_bytes(b"no image")
    words = ("--model", "demo", "--criterion", "break", "--quiet", "--out", tmp_path / "c.json")
    result = circuit(folder, *words, "--batch-size", 2)
    assert result.code == 1
    assert "broken.png is damaged" in result.err
    saved = nph.Circuit.load(tmp_path / "c.json")
    assert saved.settings.baseline == "zero"
    assert [name[-5:] for name in saved.names] == ["0.png", "1.png", "2.png"]
    assert circuit(folder, *words, "--overwrite", "--reference", folder.parent / "none").code == 2
    assert torch.equal(nph.Circuit.load(tmp_path / "c.json").kept, saved.kept)


def test_bad_arguments_are_refused_in_one_line(circuit, tmp_path):
    refused(circuit("--criterion", "hold"), "'--criterion': 'hold' is not one of 'keep', 'break', 'both'")
    refused(circuit("--keep", 2), "keep is 2.0")
    refused(circuit("--baseline", "mode"), "'--baseline': 'mode' is not one of 'zero', 'mean'")
    refused(circuit("--model", "vit_tiny_patch16_224", "--no-pretrained"), "no images were named")
    (tmp_path / "c.json").write_text("precious")
    refused(circuit("--out", tmp_path / "c.json"), "c.json exists already", "--overwrite")
    refused(circuit("--plot", tmp_path / "c.json"), "c.json exists already", "--overwrite")
    refused(circuit("--report", tmp_path / "c.json"), "c.json exists already", "--overwrite")
    refused(circuit("--plot", tmp_path / "c.bmpp"), "c.bmpp names no kind of picture")
    refused(circuit("--out", tmp_path / "d.png", "--plot", tmp_path / "d.png"), "d.png is named for two outputs")
    assert [file.name for file in tmp_path.iterdir()] == ["c.json"]
    assert (tmp_path / "c.json").read_text() == "precious"


def test_ablated_to_zero_without_a_reference(circuit, tmp_path):
    result = circuit(
        "--baseline", "zero", "--criterion", "break", "--no-controls", "--quiet", "--out", tmp_path / "c.json"
    )
    assert (result.code, result.out) == (0, "")
    assert nph.Circuit.load(tmp_path / "c.json").settings.baseline == "zero"


def test_classes_are_called_as_the_file_says(circuit, tmp_path):
    (tmp_path / "names.json").write_text('{"3": "a three", "5": "a five"}')
    words = ("--target", 3, "--no-controls", "--baseline", "zero", "--keep", 0.5, "--class-names")
    result = circuit(*words, tmp_path / "names.json", "--out", tmp_path / "c.json")
    assert result.out.count("a three") == 10
    assert nph.Circuit.load(tmp_path / "c.json").class_names == {3: "a three"}
    (tmp_path / "few.txt").write_text("none\none\n")
    refused(circuit(*words, tmp_path / "few.txt"), "class_names holds 2 names for 10 classes")
    refused(circuit(*words, tmp_path / "names.json", "--out", tmp_path / "names.json", "--overwrite"), "names.json")


def test_a_reference_image_is_never_overwritten(circuit, tmp_path):
    for i in range(2):
        Image.new("L", (32, 32), 99 * i).save(tmp_path / f"{i}.png")
    before = (tmp_path / "1.png").read_bytes()
    result = circuit(tmp_path / "0.png", "--reference", tmp_path, "--plot", tmp_path / "1.png", "--overwrite")
    refused(result, "1.png is an input; expected another name")
    assert (tmp_path / "1.png").read_bytes() == before


def test_paired_references_are_paired_across_batches(circuit, tmp_path):
    for folder, first in (("images", 0), ("others", 20)):
        draw_digits(tmp_path / folder, first, 3)
    words = ("--reference", tmp_path / "others", "--baseline", "paired", "--no-controls", "--batch-size", 1)
    assert circuit(tmp_path / "images", *words, "--quiet", "--out", tmp_path / "c.json").code == 0
    model = nph.demo.load()[0]
    one, other = (nph.load_images(tmp_path / folder, model)[0] for folder in ("images", "others"))
    whole = nph.find_circuit(model, one, baseline="paired", reference=other, controls=False)
    assert nph.Circuit.load(tmp_path / "c.json").units == whole.units
