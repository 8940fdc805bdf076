"""The commands as a person would type them: what they print, write, refuse and leave alone."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from commands import Result, draw_digits, for_digits, refused
from PIL import Image
from safetensors.torch import save_file

import neuronpath as nph
from neuronpath.cli import main as cli

TINY = "vit_tiny_patch16_224"


@pytest.fixture
def find_path(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """``find-path`` with these arguments, in this process."""

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["find-path", *for_digits(arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.find_path_main()
        return Result(int(stop.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    """A grey picture of a digit, as a file."""
    pixels, _ = nph.demo.load_pixels()
    path = tmp_path / "digit.png"
    Image.fromarray((pixels[0] * 15).astype(np.uint8), "L").resize((32, 32)).save(path)
    return path


def test_names_that_parquet_cant_hold_are_refused_before_the_work(find_path, digit, tmp_path, monkeypatch):
    odd = digit.rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    monkeypatch.setattr("neuronpath.methods.find_path", pytest.fail)
    refused(find_path(odd, "--out", tmp_path / "p.parquet"), r"caf\udce9.png is no UTF-8", "expected .json")


def test_without_arguments_one_digit_of_each_class(find_path, tmp_path):
    result = find_path("--out", tmp_path / "p.json", "--plot", tmp_path / "p.png")
    assert result.code == 0
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[13].startswith("h2+224: head 2 and neuron 224 of a block")
    assert lines[14:] == [f"wrote {tmp_path / name}" for name in ("p.json", "p.png")]
    assert re.split(r" {2,}", lines[0])[-4:] == ["without it", "without random", "flips", "relative delta"]
    assert (
        "10 images, units ablated to 0: removing the path takes 81% of the target's probability on average (a random path: 7%)"
        in lines[12]
    )
    saved = nph.NeuronPaths.load(tmp_path / "p.json")
    model, images, labels = nph.demo.load()
    first = [int((labels == d).nonzero()[0]) for d in range(10)]
    again = nph.find_path(model, images[first])
    assert torch.equal(saved.units, again.units)
    assert again.columns()["path"][4] in lines[5]
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size[0] > 500


def test_searches_that_ended_early_are_counted(find_path, monkeypatch):
    monkeypatch.setattr("neuronpath.methods.live.EFFORTS", {"standard": [(("riemann_left", 1), 1)]})
    said = find_path().out
    assert re.search(
        r"^--effort thorough goes on with the \d+ of 10 searches that ended before they were done$", said, re.M
    )


def test_a_limit_takes_images_from_all_over_a_folder(find_path, tmp_path):
    for i in range(10):
        (tmp_path / "in" / f"{i % 5}").mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32), 20 * i).save(tmp_path / "in" / f"{i % 5}" / f"{i}.png")
    words = ("--model", "demo", "--limit", "5", "--method", "causal", "--quiet", "--out", tmp_path / "p.json")
    assert find_path(tmp_path / "in", *words).code == 0
    names = [Path(name).parent.name for name in nph.NeuronPaths.load(tmp_path / "p.json").names]
    assert names == ["0", "1", "2", "3", "4"]  # a folder each


def test_a_report_of_all_images(find_path, tmp_path):
    assert find_path("--quiet", "--report", tmp_path / "r.html", "--out", tmp_path / "p.json") == (0, "", "")
    page = (tmp_path / "r.html").read_text()
    assert page.count('<article id="image-') == 10
    refused(find_path("--report", tmp_path / "r.html"), "r.html exists already")
    refused(find_path("--report", tmp_path / "p.json", "--out", tmp_path / "p.json", "--overwrite"), "two outputs")


def test_as_a_process_and_as_a_subcommand(tmp_path):
    done = [
        subprocess.run([sys.executable, "-c", f"from neuronpath.cli.main import {name}; {name}()", *words],
                       capture_output=True, text=True, check=False)
        for name, words in (("find_path_main", ["nope.png"]), ("main", ["find-path", "nope.png"]))
    ]  # fmt: skip
    assert [d.returncode for d in done] == [2, 2]
    assert all(d.stdout == "" and d.stderr.count("\n") == 1 and "nope.png doesn't exist" in d.stderr for d in done)


def test_a_timm_model_by_name_with_own_checkpoint(find_path, tmp_path):
    torch.manual_seed(3)
    model = timm.create_model(TINY, num_classes=7).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.pth")
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (300, 260, 3), np.uint8)).save(tmp_path / "noise.png")
    found = []
    for weights in ("w.safetensors", "w.pth"):
        out = tmp_path / f"{weights}.json"
        result = find_path(tmp_path / "noise.png", "--model", TINY, "--checkpoint", tmp_path / weights, "--out", out)
        assert (result.code, result.err) == (0, "")
        found.append(nph.NeuronPaths.load(out))
    assert found[0] == found[1]
    config = timm.data.resolve_model_data_config(model)
    with Image.open(tmp_path / "noise.png") as noise:
        image = timm.data.create_transform(**config)(noise.convert("RGB"))
    with torch.no_grad():
        assert found[0].predicted[0] == model(image[None]).argmax()


def test_imagenet_names_where_they_apply(find_path, digit):
    result = find_path(digit, "--model", TINY, "--no-pretrained", "--target", 1, "--n-steps", 1, "--quadrature",
                       "riemann_middle")  # fmt: skip
    assert result.code == 0
    assert "goldfish" in result.out
    assert result.err == "the model's weights are random (--no-pretrained): what it says of images means nothing\n"


def test_options_reach_the_search(find_path, digit, tmp_path):
    out = tmp_path / "p.json"
    result = find_path(digit, "--top-k", 2, "--output", "logit", "--target", 4, "--preset", "paper", "--n-steps", 5,
                       "--device", "cpu", "--batch-size", 3, "--quiet", "--out", out)  # fmt: skip
    assert result == (0, "", "")
    paths = nph.NeuronPaths.load(out)
    model, _, _ = nph.demo.load()
    images, _ = nph.load_images(digit, model)
    again = nph.find_path(model, images, 4, top_k=2, output="logit", preset="paper", n_steps=5)
    assert torch.equal(paths.neurons, again.neurons)
    assert paths.settings.quadrature == "riemann_left"
    assert paths.target.tolist() == [4]


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (("--method", "causal"), {"method": "causal"}),
        (("--method", "joint", "--objective", "complete"), {"method": "joint", "objective": "complete"}),
        (("--units", "neurons", "--effort", "thorough"), {"units": "neurons", "effort": "thorough"}),
        (("--preset", "progressive"), {"preset": "progressive"}),
        (("--precision", "bf16"), {"precision": "bf16"}),
    ],
)
def test_methods_reach_the_search(find_path, digit, tmp_path, words, call):
    assert find_path(digit, "--quiet", "--out", tmp_path / "p.json", *words) == (0, "", "")
    model, _, _ = nph.demo.load()
    images, _ = nph.load_images(digit, model)
    again = nph.find_path(model, images, names=[str(digit)], **call)
    assert nph.NeuronPaths.load(tmp_path / "p.json") == again


def test_a_baseline_of_other_images(find_path, digit, tmp_path):
    """A folder of them, or of the embedded digits 400 of the training half."""
    model, images, _ = nph.demo.load()
    others = tmp_path / "others"
    draw_digits(others, 1, 3)
    assert find_path(digit, "--reference", others, "--quiet", "--out", tmp_path / "p.json").code == 0
    reference, (one, names) = nph.load_images(others, model)[0], nph.load_images(digit, model)
    assert nph.NeuronPaths.load(tmp_path / "p.json") == nph.find_path(model, one, reference=reference, names=names)
    assert find_path("--baseline", "mean", "--quiet", "--out", tmp_path / "d.json").code == 0
    again = nph.find_path(model, images[[12]], reference=nph.demo.load("train")[1][:400])
    assert torch.equal(nph.NeuronPaths.load(tmp_path / "d.json").units[0], again.units[0])
    refused(find_path(digit, "--baseline", "mean"), "baseline 'mean' is made of other images")
    refused(find_path(digit, "--method", "joint", "--reference", others), "baseline is a choice of method 'live'")


def test_paired_references_are_paired_across_batches(find_path, tmp_path):
    model = nph.demo.load()[0]
    for folder, first in (("images", 0), ("others", 20)):
        draw_digits(tmp_path / folder, first, 5)
    words = (tmp_path / "images", "--reference", tmp_path / "others", "--baseline", "paired", "--batch-size", 2)
    assert find_path(*words, "--quiet", "--report", tmp_path / "p.html", "--out", tmp_path / "p.json").code == 0
    (one, names), (other, _) = (nph.load_images(tmp_path / folder, model) for folder in ("images", "others"))
    whole = nph.find_path(model, one, baseline="paired", reference=other, names=names)
    found = nph.NeuronPaths.load(tmp_path / "p.json")
    assert torch.equal(found.units, whole.units)
    assert torch.allclose(found.left, whole.left, atol=1e-5)
    (tmp_path / "images/2.png").write_bytes(b"x")
    refused(find_path(*words), "2.png is damaged", "expected none left out with 'paired'")
    for i in range(2, 5):
        (tmp_path / f"others/{i}.png").unlink()
    refused(find_path(*words), "reference holds 2 images for 5; expected one an image with 'paired'")


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_model_whose_heads_cannot_be_reached_says_so_in_one_line(find_path, digit, tmp_path, monkeypatch):
    from neuronpath.methods import find

    monkeypatch.setattr(find, "heads_lack", lambda *_: "its heads can't be reached")
    result = find_path(digit)
    assert result.code == 0
    assert result.err == "find-path: its heads can't be reached: the path is of neurons alone\n"


def test_a_folder_skips_and_counts_what_it_cannot_read(find_path, digit, tmp_path):
    (digit.parent / "broken.png").write_bytes(digit.read_bytes()[:60])
    (digit.parent / "notes.txt").write_text("no image, and not named like one")
    result = find_path(digit.parent)
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert result.err.startswith("skipped: ")
    assert "broken.png" in result.err
    assert "1 images, 1 skipped" in result.out
    digit.unlink()
    refused_after_skip = find_path(digit.parent)
    assert refused_after_skip.code == 2
    assert "none of the 1 images could be read" in refused_after_skip.err


def unreadable(kind: str, folder: Path, digit: Path) -> Path:
    path = folder / f"{kind}.png"
    if kind == "zero-byte":
        path.touch()
    elif kind == "text":
        path.write_text("I am no picture")
    elif kind == "truncated":
        Image.fromarray(np.random.RandomState(0).randint(0, 255, (64, 64, 3), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:-2000])
    elif kind == "damaged":
        data = bytearray(digit.read_bytes())
        data[20:60] = bytes(40)
        path.write_bytes(data)
    elif kind == "bomb":
        Image.new("1", (20000, 10000)).save(path)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "doesn't exist"),
        ("zero-byte", "is empty"),
        ("text", "damaged or no image"),
        ("truncated", "damaged or no image"),
        ("damaged", "damaged or no image"),
        ("bomb", "too large"),
    ],
)
def test_an_unreadable_image_is_refused(find_path, digit, tmp_path, kind, words):
    path = unreadable(kind, tmp_path, digit)
    refused(find_path(path, "--out", tmp_path / "p.json"), str(path), words)
    assert not (tmp_path / "p.json").exists()


def test_bad_arguments_are_refused_in_one_line(find_path, digit, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(find_path(tmp_path / "empty"), "empty holds no images")
    refused(find_path(digit, "--model", "vit_tiny_patch16"), "vit_tiny_patch16", "near names", TINY)
    refused(find_path(digit, "--model", "resnet18", "--no-pretrained"), "ResNet", "no vision transformer")
    refused(find_path("--model", TINY, "--no-pretrained"), "no images were named")
    refused(find_path(digit, "--out", tmp_path / "paths.csv"), "paths.csv names no kind of file", ".json or .parquet")
    refused(find_path(digit, "--target", 10), "target 10 is out of range; expected 0 to 9")
    refused(find_path(digit, "--target", "-1"), "target -1 is out of range")
    refused(find_path(digit, "--target", "seven"), "target 'seven' names no class")
    refused(find_path(digit, "--n-steps", 0), "n_steps is 0", "from 2 to 1000")
    refused(find_path(digit, "--quadrature", "simpson"), "simpson", "gausslegendre")
    refused(find_path(digit, "--top-k", 0), "top_k is 0", "from 1 to 4, the heads of a block")
    refused(find_path(digit, "--top-k", 257), "top_k is 257")
    refused(find_path(digit, "--output", "loss"), "'loss' is not one of 'prob', 'logit'")
    refused(find_path(digit, "--preset", "thesis"), "thesis", "paper")
    refused(find_path(digit, "--method", "magic"), "magic", "activation, causal")
    refused(find_path(digit, "--method", "causal", "--preset", "paper"), "preset 'paper' has method 'joint'")
    refused(find_path(digit, "--effort", "heroic"), "heroic", "thorough")
    refused(find_path(digit, "--batch-size", 0), "--batch-size")
    refused(find_path(digit, "--device", "tpu9"), "tpu9", "cpu")
    refused(find_path(digit, "--nonsense"), "--nonsense")
    if not torch.cuda.is_available():
        refused(find_path(digit, "--device", "cuda"), "'cuda' isn't there")


def test_own_images_want_a_model_by_name(find_path, digit):
    refused(
        find_path(str(digit)),
        f"no model was named for {digit}; expected --model, such as vit_base_patch16_224, deit_small_patch16_224",
    )
    assert find_path(str(digit), "--model", "demo").code == 0


def test_outputs_are_checked_before_any_work_and_kept(find_path, digit, tmp_path, monkeypatch):
    monkeypatch.setattr("neuronpath.models.load.load_model", lambda *_: pytest.fail("work was begun"))
    kept = tmp_path / "kept.json"
    kept.write_text("precious")
    refused(find_path(digit, "--out", kept), "kept.json exists already", "--overwrite")
    assert kept.read_text() == "precious"
    refused(find_path(digit, "--out", tmp_path / "no" / "p.json"), "there is no folder")
    refused(find_path(digit, "--out", tmp_path), "is a folder")
    os.mkfifo(tmp_path / "pipe.json")  # as a device is: not to be replaced by a file
    refused(find_path(digit, "--out", tmp_path / "pipe.json", "--overwrite"), "is no ordinary file")
    assert (tmp_path / "pipe.json").is_fifo()
    refused(find_path(digit, "--plot", tmp_path / "p.docx"), "no kind of picture")
    refused(find_path(digit, "--out", kept, "--plot", kept, "--overwrite"), "two outputs")


def test_many_images_are_better_run(find_path, digit, tmp_path, monkeypatch):
    for name in ("b.png", "c.png"):
        (tmp_path / name).write_bytes(digit.read_bytes())
    call = (tmp_path, "--method", "random", "--out", tmp_path / "p.parquet", "--overwrite")
    assert find_path(*call).err == ""
    monkeypatch.setattr("neuronpath.cli.sources.MANY", 2)
    many = find_path(*call)
    assert (many.code, many.err) == (
        0,
        "3 images: neuronpath run keeps what is done, and goes on where it was stopped\n",
    )
    assert [Path(name).name for name in nph.NeuronPaths.load(tmp_path / "p.parquet").names] == [
        "b.png",
        "c.png",
        "digit.png",
    ]


def test_a_folder_that_cannot_be_written_is_refused(find_path, digit):
    result = find_path(digit, "--quiet", "--out", "/proc/p.json")
    refused(result, "/proc/p.json can't be written")


def test_checkpoints_that_do_not_fit_are_refused(find_path, digit, tmp_path):
    weights = timm.create_model(TINY, num_classes=5).state_dict()
    odd = {"stem.weight" if k == "cls_token" else k: v for k, v in weights.items()}
    save_file(odd, tmp_path / "odd.safetensors")
    (tmp_path / "noise.pth").write_bytes(b"no weights at all")
    torch.save({"state_dict": Path("a pickle of an object")}, tmp_path / "unsafe.pth")
    weights["blocks.3.mlp.fc1.bias"][7] = torch.nan
    save_file(weights, tmp_path / "nan.safetensors")
    call = (digit, "--model", TINY, "--checkpoint")
    refused(find_path(*call, tmp_path / "none.pth"), "none.pth doesn't exist")
    refused(find_path(*call, tmp_path / "odd.safetensors"), "cls_token is missing", "stem.weight is not the model's")
    refused(find_path(*call, tmp_path / "noise.pth"), "noise.pth can't be read")
    refused(find_path(*call, tmp_path / "unsafe.pth"), "unsafe.pth can't be read", "weights_only=True")
    refused(find_path(*call, tmp_path / "nan.safetensors"), "blocks.3.mlp.fc1.bias holds NaN")
    refused(find_path(digit, "--checkpoint", tmp_path / "odd.safetensors"), "--model")


def test_without_a_network_it_says_what_to_pass_instead(find_path, digit, monkeypatch):
    def unreachable(*_args: object, pretrained: bool = False, **_kwargs: object) -> torch.nn.Module:
        if pretrained:
            raise ConnectionError("no route to host")
        return nph.demo.create_model()

    monkeypatch.setattr(timm, "create_model", unreachable)
    monkeypatch.setattr("neuronpath.models.load.connected", lambda _: nullcontext(True))
    refused(find_path(digit, "--model", TINY), "no route to host", "--checkpoint FILE", "--no-pretrained")


def test_interrupting_leaves_no_half_file(find_path, digit, tmp_path, monkeypatch):
    def interrupt(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "out"
    folder.mkdir()
    nph.plot_path  # noqa: B018  (what is replaced must have been loaded)
    for moment in ("methods.find_path", "plots.plot_path"):  # in the middle of the work, and between the outputs
        monkeypatch.setattr(f"neuronpath.{moment}", interrupt)
        result = find_path(digit, "--quiet", "--plot", folder / "p.png")
        assert result.code == 130
        assert result.err.count("\n") == 1
        assert not list(folder.iterdir())
        monkeypatch.undo()
        monkeypatch.setattr(sys, "argv", ["find-path"])


def test_help_names_every_option(find_path):
    result = find_path("--help")
    assert result.code == 0
    for option in ("model", "checkpoint", "target", "preset", "n-steps", "quadrature", "top-k", "output", "device"):
        assert f"--{option}" in result.out


def test_saved_file_is_plain_json(find_path, digit, tmp_path):
    find_path(digit, "--quiet", "--out", tmp_path / "p.json")
    document = json.loads((tmp_path / "p.json").read_text())
    assert document["version"] == 3
    assert document["paths"][0]["name"] == str(digit)


def test_tokens_and_outputs(find_path, digit):
    assert find_path(digit, "--output", "sigmoid", "--token", "all").code == 0
    refused(
        find_path(digit, "--token", "patch"), "token is 'patch'", "in the last block", "expected 'auto', 'cls' or 'all'"
    )
    refused(
        find_path(digit, "--token", "cls_token"),
        "'--token': 'cls_token' is not one of 'auto', 'pooled', 'cls', 'patch', 'all'",
    )


def test_names_of_the_classes(find_path, digit, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(f"the digit {i}" for i in range(10)))
    result = find_path(
        digit, "--method", "causal", "--class-names", tmp_path / "names.txt", "--out", tmp_path / "p.json"
    )
    assert result.code == 0
    predicted = int(nph.NeuronPaths.load(tmp_path / "p.json").predicted)
    assert f"the digit {predicted} " in result.out
    (tmp_path / "names.json").write_text('{"3": "three"}')
    assert (
        find_path(digit, "--method", "causal", "--target", 3, "--class-names", tmp_path / "names.json").out.count(
            "three"
        )
        == 1
    )
    (tmp_path / "few.txt").write_text("a\nb")
    refused(find_path(digit, "--class-names", tmp_path / "few.txt"), "class_names holds 2 names for 10 classes")
    refused(find_path(digit, "--class-names", tmp_path / "none.txt"), "none.txt doesn't exist")


def test_an_input_is_never_overwritten(find_path, digit):
    before = digit.read_bytes()
    refused(
        find_path(digit, "--plot", digit, "--overwrite"), f"{digit} is an input; expected another name for the output"
    )
    assert digit.read_bytes() == before
    others = digit.parent / "others"
    others.mkdir()
    for i in range(2):
        (others / f"{i}.png").write_bytes(before)
    refused(find_path(digit, "--reference", others, "--plot", others / "1.png", "--overwrite"), "1.png is an input")
    assert (others / "1.png").read_bytes() == before
