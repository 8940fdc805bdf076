"""``neuronpath evaluate`` as a person would type it."""

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from commands import Result, for_digits, refused
from PIL import Image

import neuronpath as nph
from neuronpath.cli import main as cli


@pytest.fixture
def evaluate(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["neuronpath", "evaluate", *for_digits(arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return Result(int(stop.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def folder(tmp_path):
    """Held-out digits as pictures, one folder a class."""
    pixels, labels = nph.demo.load_pixels()
    for digit in range(3):
        inside = tmp_path / "pictures" / str(digit)
        inside.mkdir(parents=True)
        for i in (labels == digit).nonzero()[0][:4]:
            Image.fromarray((pixels[i] * 15).astype("uint8"), "L").resize((32, 32)).save(inside / f"{i}.png")
    return tmp_path / "pictures"


def test_digits(evaluate, tmp_path):
    files = [tmp_path / name for name in ("a.csv", "a.json", "b.csv", "b.json")]
    first = evaluate("--limit", 30, "--methods", "joint,activation,random", "--csv", files[0], "--json", files[1])
    assert first.code == 0
    assert "all images: 30" in first.out
    second = evaluate(
        "--limit", 30, "--methods", "joint,activation,random", "--csv", files[2], "--json", files[3], "--quiet"
    )
    assert second.out == ""
    assert files[0].read_bytes() == files[2].read_bytes()
    assert files[1].read_bytes() == files[3].read_bytes()
    table = pd.read_csv(files[0])
    model, images, labels = nph.demo.load()
    images, labels = images[:30], labels[:30]
    expected = nph.evaluate(
        model, images, labels, nph.find_paths(model, images, ["joint", "activation", "random"], labels)
    )
    pd.testing.assert_frame_equal(table, expected, rtol=1e-4, atol=1e-7)
    assert json.loads(files[1].read_text())["settings"]["images"] == 30
    refused(evaluate("--csv", files[0]), "a.csv", "--overwrite")


def test_a_folder(evaluate, folder, tmp_path):
    result = evaluate(folder, "--methods", "joint,random", "--csv", tmp_path / "t.csv")
    assert result.code == 0, result.err
    assert "all images: 12" in result.out
    assert evaluate(folder, "--methods", "random", "--limit", 5).out.startswith("all images: 5\n")
    (folder / "0").rename(folder / "zero")
    refused(evaluate(folder), "'zero'", "names no class", "--classes", "--target predicted")
    assert evaluate(folder, "--target", "predicted", "--methods", "random").code == 0
    mapping = tmp_path / "classes.json"
    mapping.write_text('{"zero": 0, "1": 1, "2": 2}')
    again = evaluate(folder, "--methods", "joint,random", "--classes", mapping, "--csv", tmp_path / "u.csv")
    assert again.code == 0
    merged = [
        pd.read_csv(tmp_path / name).set_index(["method", "images", "figure"])["mean"] for name in ("t.csv", "u.csv")
    ]
    pd.testing.assert_series_equal(*merged, rtol=1e-4, check_like=True)


def test_a_saved_file(evaluate, folder, tmp_path):
    files = sorted(folder.rglob("*.png"))
    model = nph.demo.load()[0]
    images, names = nph.load_images(files, model)
    labels = [int(file.parent.name) for file in files]
    path = nph.find_path(model, images, labels, names=names, method="causal").save(tmp_path / "mine.json")
    result = evaluate(folder, "--methods", "causal", "--paths", path)
    assert result.code == 0, result.err
    lines = [line.split(maxsplit=1) for line in result.out.splitlines() if line.startswith(("causal", "mine"))]
    assert lines[0][1].strip() == lines[1][1].strip()
    refused(evaluate("--methods", "causal", "--paths", path), "'mine'", "other images")
    refused(evaluate(folder, "--methods", "causal", "--paths", path, "--paths", path), "'mine' names two rows")
    document = json.loads(path.read_text())
    document["settings"]["fingerprint"] = "0" * 16
    (tmp_path / "other.json").write_text(json.dumps(document))
    refused(evaluate(folder, "--paths", tmp_path / "other.json"), "made for another model")


def test_ways_are_sought_on_the_units_of_saved_paths_and_to_a_baseline(evaluate, folder, tmp_path):
    model = nph.demo.load()[0]
    images, names = nph.load_images(sorted(folder.rglob("*.png")), model)
    paths = nph.find_path(model, images, names=names, units="heads", method="causal")
    path = paths.save(tmp_path / "mine.json")
    saved = ("--target", "predicted", "--paths", path, "--csv", tmp_path / "t.csv")
    assert evaluate(folder, "--methods", "live,random", "--reference", folder, *saved).code == 0
    table = (
        pd.read_csv(tmp_path / "t.csv")
        .query("images == 'all' and figure == 'probability_removed'")
        .set_index("method")["mean"]
    )
    live = nph.find_path(model, images, units="heads", token="cls", reference=images)
    assert table["live"] == pytest.approx(-float(live.removal.mean()), abs=1e-5)
    with nph.remove(model, paths, reference=images), torch.no_grad():
        left = model(images).softmax(1).gather(1, paths.target[:, None])[:, 0]
    assert table["mine"] == pytest.approx(float((left - paths.probability).mean()), abs=1e-5)


@pytest.mark.parametrize("baseline", ["paired", "resample"])
def test_batches_give_what_all_images_give(evaluate, folder, tmp_path, baseline):
    model = nph.demo.load()[0]
    images, _, labels = nph.load_images(folder, model, labels=True)
    pixels, _ = nph.demo.load_pixels()
    (tmp_path / "others").mkdir()
    for i in range(12):
        picture = Image.fromarray((pixels[30 + i] * 15).astype("uint8"), "L")
        picture.resize((32, 32)).save(tmp_path / f"others/{i:02}.png")
    reference, _ = nph.load_images(tmp_path / "others", model)
    words = ("--methods", "activation,random", "--reference", tmp_path / "others", "--baseline", baseline, "--seed", 3)
    assert evaluate(folder, *words, "--batch-size", 5, "--csv", tmp_path / "t.csv").code == 0
    paths = nph.find_paths(model, images, ["activation", "random"], labels, seed=3)
    expected = nph.evaluate(model, images, labels, paths, baseline=baseline, reference=reference, seed=3)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), expected, rtol=1e-4, atol=1e-6)
    (tmp_path / "others/00.png").unlink()
    if baseline == "paired":
        refused(evaluate(folder, *words, "--batch-size", 5), "reference holds 11 images for 12")


def test_the_paper_s_tables(evaluate):
    result = evaluate("--limit", 40, "--paper")
    assert result.code == 0
    for words in (
        "Joint attribution score, by method",
        "change of accuracy",
        "Similarity of classes",
        "Claims of the paper",
    ):
        assert words in result.out
    claims = [line for line in result.out.splitlines() if line.startswith("- ")]
    assert len(claims) == 8
    assert all(claim.startswith(("- holds", "- does not hold", "- open")) for claim in claims)


def test_curves(evaluate, folder, tmp_path):
    picture = tmp_path / "curves.png"
    options = ("--methods", "live,random", "--reference", folder, "--target", "predicted", "--curves", picture)
    result = evaluate(folder, *options, "--batch-size", 5)
    assert result.code == 0, result.err
    with Image.open(picture) as drawn:
        assert drawn.width > 600
    lines = result.out[result.out.index("What the first units of each path keep and take") :].splitlines()
    assert lines[2].split("  ")[-1] == "k_flip, median"
    model = nph.demo.load()[0]
    images = nph.load_images(sorted(folder.rglob("*.png")), model)[0]
    for line, method, own in ((lines[3], "live", {"reference": images}), (lines[4], "random", {})):
        paths = nph.find_path(model, images, method=method, units="both", token="all", **own)
        known = nph.faithfulness(model, images, paths, baseline="mean", reference=images)
        name, *cells = re.split(" {2,}", line)
        means = [float(cell.split()[0]) for cell in cells[:3]]
        assert name == method
        assert means == pytest.approx(
            [float(known.cpr.mean()), float(known.cmd.mean()), float(known.log_cpr.mean())], abs=1e-3
        )
        medians = [float(np.median(each)) for each in (known.k90, known.k_flip)]
        assert [float(cell.replace(",", "")) for cell in cells[3:]] == pytest.approx(medians, abs=0.5)
    refused(evaluate(folder, *options), "curves.png exists already")
    refused(evaluate(folder, "--curves", tmp_path / "curves.doc"), "curves.doc", "expected")
    refused(evaluate(folder, *options, "--csv", picture), "curves.png")
    assert evaluate("--limit", 2, "--methods", "random", "--curves", picture, "--overwrite", "--quiet").out == ""


def test_bad_input(evaluate, folder, tmp_path):
    refused(evaluate("--methods", "joint,gusto"), "'gusto'", "activation, causal")
    refused(evaluate("--target", "both"), "'--target': 'both' is not one of 'predicted', 'label'")
    refused(evaluate("--model", "vit_tiny_patch16_224", "--no-pretrained"), "no folder was named")
    refused(evaluate(tmp_path / "nowhere"), "nowhere is no folder")
    (tmp_path / "empty").mkdir()
    refused(evaluate(tmp_path / "empty"), "holds no folders")
    (tmp_path / "c.json").write_text("{")
    refused(evaluate(folder, "--classes", tmp_path / "c.json"), "c.json can't be read as JSON")
    (tmp_path / "c.json").write_text('{"0": "nought"}')
    refused(evaluate(folder, "--classes", tmp_path / "c.json"), "isn't a map of folder names to class numbers")
    (tmp_path / "c.json").write_text('{"0": 77, "1": 1, "2": 2}')
    refused(
        evaluate(folder, "--classes", tmp_path / "c.json"),
        "classes maps '0' to class 77, which the model lacks; expected 0 to 9",
    )
    (folder / "1" / "broken.png").write_bytes(b"no picture")
    result = evaluate(folder, "--methods", "random")
    assert result.code == 1
    assert "skipped: " in result.err


def test_a_table_is_not_printed_twice(evaluate, folder, tmp_path):
    (tmp_path / "c.json").write_text('{"0": 9, "1": 9, "2": 9}')  # so the model gets all of them wrong
    said = evaluate(folder, "--methods", "random", "--classes", tmp_path / "c.json").out
    assert said.startswith("all images: 12\n")
    assert "wrong" not in said
    (tmp_path / "c.json").write_text('{"0": 0, "1": 1, "2": 9}')
    assert (
        "those that the model gets wrong: 4\n"
        in evaluate(folder, "--methods", "random", "--classes", tmp_path / "c.json").out
    )


def test_an_image_that_is_read_is_never_overwritten(evaluate, folder, tmp_path):
    image = next(folder.rglob("*.png"))
    before = image.read_bytes()
    for words in ((folder,), ("--reference", folder)):
        refused(evaluate(*words, "--curves", image, "--overwrite"), f"{image} is an input; expected another name")
    assert image.read_bytes() == before
