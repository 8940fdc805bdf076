"""Every option of every command with values of no sense, and every option that takes a file with files of no sense.

The command does what it was told, or one line says what was expected; nothing is printed beside it, and no input is touched.
"""

import json
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from PIL import Image
from typer.models import ArgumentInfo

import neuronpath as nph
from neuronpath.cli import main as cli

COMMANDS = {
    "run": (cli.run_data_set, ["a.png", "--model", "demo", "--out", "new/r", "--method", "random", "--quiet"]),
    "find-path": (cli.find_path, ["a.png", "--model", "demo", "--method", "random", "--quiet"]),
    "circuit": (cli.circuit, ["a.png", "--model", "demo", "--no-controls", "--quiet"]),
    "evaluate": (cli.evaluate, ["classes", "--model", "demo", "--methods", "random", "--quiet"]),
    "explore": (cli.explore, ["--images", "classes", "--model", "demo", "--port", "0"]),
    "benchmark": (
        cli.benchmark,
        ["classes", "--model", "demo", "--out", "made", "--methods", "random", "--limit", "1", "--reference", "0", "--quiet"],
    ),  # it takes seconds; in a folder that is kept it finds its work done
    "compress": (
        cli.compress,
        ["classes", "--model", "demo", "--out", "new/c", "--methods", "first-blocks", "--shares", "0.5", "--calibration", "2",
         "--latency-batch", "1", "--quiet"],
    ),
    "prune-experiment": (
        cli.prune_experiment,
        ["classes", "--model", "demo", "--out", "new/e", "--importances", "random", "--keeps", "0.5", "--scopes", "block",
         "--seeds", "1", "--calibration", "2", "--latency-batch", "1", "--quiet"],
    ),
}  # fmt: skip
TEXTS = [
    "x",
    "-1",
    "nan",
    "\x1b[31m",
    "\u202eé\n猫",
    "a,b",
    ",",
    "[]",
    "None",
    "--",
    "x" * 5000,
    "\udcff",
    "0",
    "1e400",
    "resnet18",
    "~",
]
NUMBERS = ["x", "-1", "0", "1.5", "nan", "inf", "1e400", "9" * 30, "-" + "9" * 30, "", "[]", "0x10", "1_0", "²", "true"]
MANY = ("workers", "gpus")  # processes: as many as are asked for
ENDINGS = {"checkpoint": (".pth", ".safetensors"), "classes": (".json",), "class_names": (".txt",), "paths": (".json",)}
SHARED = ("hostile map", "hostile paths")  # what options take whose files end otherwise
READ = [
    ".", "/dev/null", "/dev/zero", "pipe", "none", "loop", "broken", "empty", "x" * 300, "a.png/b", "precious.png",
    "a\udcff\x1b", "",
]  # fmt: skip
WRITTEN = [
    "classes", "precious.png", "precious.json", "/dev/full", "/dev/null", "pipe", "none/x.png", "precious.png/x.png",
    "x" * 300 + ".png", "new/x", "new/x.pgf", "new/x.nonsense", "new/\x1b\u202e\n猫.png", "new/x.png", "new/x.json",
    "loop/x.png", "broken/x.png", "",
]  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with all that can be named as a file; hostile files are those whose names begin so."""
    here = tmp_path_factory.mktemp("hostile")
    pixels, labels = nph.demo.load_pixels()
    images, _ = nph.demo.to_images(pixels[:2]), labels
    Image.fromarray(pixels[0] * 15).resize((32, 32)).save(here / "a.png")
    for index in [i for label in range(3) for i in (labels == label).nonzero()[0][:3]]:
        folder = here / "classes" / str(labels[index])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[index] * 15).resize((32, 32)).save(folder / f"{index}.png")
    (here / "precious.png").write_text("precious")
    (here / "precious.json").write_text("precious")
    os.mkfifo(here / "pipe")
    (here / "loop").symlink_to("loop")
    (here / "broken").symlink_to("nothing")
    (here / "empty").mkdir()
    model = nph.demo.load()[0]
    paths = nph.find_path(model, images, method="random")
    paths.save(here / "hostile paths.json")
    paths.renamed(["a.png", "b"]).save(here / "hostile others.json")
    document = json.loads((here / "hostile paths.json").read_text())
    document["settings"] |= {"token": "nonsense", "method": "\x1b[31m", "fingerprint": None, "sites": []}
    (here / "hostile settings.json").write_text(json.dumps(document))
    nph.find_circuit(model, images[:1], controls=False).save(here / "hostile circuit.json")
    nph.save_pruned(model, here / "hostile pruned.safetensors")
    for name, content in {
        "nothing": b"", "bytes": bytes(range(256)), "deep": b"[" * 50_000, "deeper": b'{"a":' * 50_000, "null": b"null",
        "list": b"[]", "map": b"{}", "numbers": b"[1, 2]", "names": b'{"0": 5}', "below": b'{"-1": "x"}',
        "beyond": b'{"99999999999999999999": "x"}', "odd": b'{"\\u001b[31m": 1e400, "\\ud800": NaN}',
        "huge": b"1" * 6000, "truths": b'{"0": true, "1": false}', "utf16": b"\xff\xfea\0",
        "classes": json.dumps({str(i): 99 for i in range(10)}).encode(),
        "halves": json.dumps({str(i): 0.5 for i in range(10)}).encode(),
        "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.", "zip": b"PK\x03\x04" + bytes(50),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(50), "bomb": b"P6 99999 99999 255\n",
    }.items():  # fmt: skip
        for ending in ("json", "txt", "png", "pth", "safetensors"):
            (here / f"hostile {name}.{ending}").write_bytes(content)
    return here


def bad_values(name, kind, here):
    """Of no sense, or of no use, to an option that takes this kind of thing."""
    if Path in (kind, *get_args(kind)) or name == "images":
        if name in ("out", "plot", "report", "csv", "json", "curves"):
            return WRITTEN
        ends = ENDINGS.get(name, (".png",))
        return [
            path.name for path in sorted(here.glob("hostile *")) if path.suffix in ends or path.stem in SHARED
        ] + READ
    if name in MANY:
        return [value for value in NUMBERS if not value.replace("_", "").isdecimal()]
    return NUMBERS if {int, float} & {kind, *get_args(kind)} else TEXTS


COMMON = (
    "model",
    "pretrained",
    "checkpoint",
    "classes",
    "class_names",
    "reference",
    "device",
    "units",
    "token",
    "baseline",
)


def cases(function, base, here):
    """Arguments, each with one thing of no sense; of options that several commands share all values at find-path, elsewhere some."""
    for name, hint in get_type_hints(function, include_extras=True).items():
        if name == "return":
            continue
        kind, about = get_args(hint)
        if get_args(get_args(kind)[0] if get_args(kind) else kind):  # list[Path] | None
            kind = get_args(get_args(kind)[0])[0]
        if isinstance(about, ArgumentInfo):
            yield from ([value, *base[1:]] for value in bad_values(name, kind, here))
            continue
        option = f"--{name.replace('_', '-')}"
        if kind is bool:
            yield from ([*base, f"{option}={value}"] for value in ("x", "1", ""))
            yield [*base, option, option]
            continue
        some = 3 if name in COMMON and function is not cli.find_path else 1
        kept = list(base)
        if option in kept:
            del kept[kept.index(option) : kept.index(option) + 2]
        yield [*kept, option]
        yield from ([*kept, option, value] for value in bad_values(name, kind, here)[::some])
    yield from ([*base, word] for word in ("--nonsense", "-x", "--=", "\x1b", "--help=1", "-", "--out"))


def test_all_commands_are_here():
    assert {command.name for command in cli.application().registered_commands} == set(COMMANDS)


def contents(here):
    return {
        path: path.read_bytes()
        for path in sorted(here.rglob("*"))
        if path.is_file() and "new" not in path.relative_to(here).parts[:1]
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_values_of_no_sense(command, given, monkeypatch, capfd):
    monkeypatch.chdir(given)
    monkeypatch.setattr("neuronpath.models.network.PATIENCE", 0.05)
    monkeypatch.setattr("socketserver.BaseServer.serve_forever", lambda server: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    function, base = COMMANDS[command]
    before, failed, codes = contents(given), [], []
    for words in cases(function, base, given):
        shutil.rmtree("new", ignore_errors=True)
        shutil.rmtree("none", ignore_errors=True)
        Path("new").mkdir()
        monkeypatch.setattr(sys, "argv", ["neuronpath", command, *words])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                cli.main()
        except SystemExit as stop:
            codes.append(stop.code)
        except Exception as error:
            failed.append((words, f"{type(error).__name__}: {error}"[:300]))
        out, err = capfd.readouterr()
        if codes and codes[-1] == 2 and (out or err.count("\n") != 1 or "Traceback" in err):
            failed.append((words, f"not one line: {out}{err}"[:300]))
        if set("\x1b\u202e\udcff") & set(out + err):
            failed.append((words, "not escaped"))
    assert failed == []
    assert contents(given).items() >= before.items()
    assert set(codes) <= {0, 1, 2}
    assert codes.count(2) > 100
