"""What all commands refuse before they begin."""

import os
import sys

import pytest
from commands import Result, refused
from PIL import Image

from neuronpath.cli import main as cli
from neuronpath.cli.sources import open_source


@pytest.fixture
def neuronpath(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["neuronpath", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return Result(int(stop.value.code or 0), *capsys.readouterr())

    return call


@pytest.mark.parametrize(
    "words",
    [
        ("find-path", ""),
        ("find-path", "--out", ""),
        ("find-path", "--plot="),
        ("circuit", "--reference", ""),
        ("evaluate", ""),
        ("prune-experiment", "--out", ""),
        ("prune-experiment", "--out", "e", "--importances", ""),
    ],
)
def test_empty_arguments(neuronpath, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (32, 32)).save("a.png")  # an empty name would be the present folder's
    refused(neuronpath(*words), "an argument is empty; expected a name or a value")
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_folder_s_unreadable_parts_are_named(tmp_path, demo):
    Image.new("L", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "gone").symlink_to("nowhere")
    source = open_source([tmp_path], "demo", True, None, "cpu", 4)
    assert [names for _, names in source.batches] == [[str(tmp_path / "a.png")]]
    assert source.skipped == [f"{tmp_path / 'gone'} is a link to nothing; expected an image"]
    assert source.files == [tmp_path / "a.png"]
    assert source.close(1) == 1


def test_pipes_are_refused(neuronpath, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    refused(
        neuronpath("find-path", tmp_path / "pipe.png"),
        "pipe.png is a named pipe; expected an image or a folder of images",
    )
    refused(neuronpath("find-path", "/dev/zero"), "is a device")
    refused(neuronpath("find-path", "--model", "vit_tiny_patch16_224", "--checkpoint", tmp_path / "pipe.png", __file__),
            "pipe.png is a named pipe; expected a file of weights")  # fmt: skip


def test_digits_are_no_images_of_a_larger_model(neuronpath, monkeypatch):
    monkeypatch.setattr("socketserver.BaseServer.serve_forever", lambda server: None)
    words = ("explore", "--port", 0, "--no-pretrained", "--model-b", "vit_tiny_patch16_224")
    refused(neuronpath(*words), "vit_tiny_patch16_224 can't have the digits", "expected --images FOLDER")
