"""What the commands print where: terminals that can't show it, a stdout that is full or closed, Ctrl-C at any moment."""

import io
import os
import signal
import subprocess
import sys
import warnings
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest
from commands import Result, refused
from PIL import Image

from neuronpath.cli import main as cli
from neuronpath.cli.terminal import say

EVIL = "é\x1b[31m\n\u202e猫\udcff.png"  # a colour, a line's end, the direction turned, a cat, a byte that is no UTF-8
RUN = "import sys; from neuronpath.cli.start import main; sys.argv[0] = 'neuronpath'; main()"


@pytest.fixture(autouse=True)
def as_before():
    with warnings.catch_warnings():  # the commands set how warnings are shown
        warnings.simplefilter("default")
        yield


@pytest.fixture
def neuronpath(monkeypatch, capfd):
    def call(*words, stdout=None):
        monkeypatch.setattr(sys, "argv", ["neuronpath", *map(str, words)])
        with pytest.raises(SystemExit) as stop, redirect_stdout(stdout or sys.stdout):
            cli.main()
        return Result(int(stop.value.code or 0), *capfd.readouterr())

    return call


@pytest.fixture
def evil(tmp_path):
    try:
        Image.new("L", (32, 32)).save(tmp_path / "a.png")
        return (tmp_path / "a.png").rename(tmp_path / EVIL)
    except OSError:
        pytest.skip("no file can have that name here")


def test_names_are_escaped_in_tables(neuronpath, evil):
    found = neuronpath("find-path", evil, "--model", "demo", "--method", "random")
    assert (found.code, found.err) == (0, "")
    assert r"é\x1b[31m\n\u202e猫\udcff.png" in found.out
    assert len(found.out.splitlines()) == 4  # titles, one image, nothing, the summary
    assert not set("\x1b\u202e\udcff") & set(found.out)


def test_names_are_escaped_in_messages(neuronpath, evil, tmp_path):
    evil.write_text("no image")
    refused(neuronpath("find-path", evil, "--model", "demo"), r"é\x1b[31m\n\u202e猫\udcff.png is damaged or no image")
    for words in (
        ("find-path", "--model", EVIL, "--no-pretrained", tmp_path / "a\nb"),
        ("find-path", "--method", EVIL),
        ("find-path", "--device", EVIL),
        ("evaluate", "--methods", EVIL),
        ("evaluate", "--paths", evil),
        ("prune-experiment", "--out", tmp_path / "o", "--importances", EVIL),
        (f"--{EVIL}",),
        (EVIL,),
    ):
        found = neuronpath(*words)
        refused(found)
        assert not set("\x1b\u202e\udcff") & set(found.err), words


def test_skipped_images_are_told_escaped(neuronpath, evil, tmp_path):
    evil.write_text("no image")
    Image.new("L", (32, 32)).save(tmp_path / "b.png")
    found = neuronpath("find-path", tmp_path, "--model", "demo", "--method", "random", "--quiet")
    assert found.code == 1
    assert found.err.count("\n") == 1
    assert r"skipped: " in found.err
    assert r"é\x1b[31m\n\u202e猫\udcff.png is damaged" in found.err


def test_an_encoding_that_lacks_letters(neuronpath, evil):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert neuronpath("find-path", evil, "--model", "demo", "--method", "random", stdout=stdout).code == 0
    assert rb"\xe9\x1b[31m\n\u202e\u732b\udcff.png" in stdout.buffer.getvalue()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_stdout(neuronpath):
    with open("/dev/full", "w") as full:
        refused(neuronpath("find-path", "--method", "random", stdout=full), "can't be printed: No space left on device")
    with open("/dev/full", "w") as full:
        refused(neuronpath("--help", stdout=full), "can't be printed: No space left on device")
    refused(neuronpath("find-path", "--out", "/dev/full", "--overwrite"), "/dev/full is no ordinary file")


def test_a_closed_stdout(neuronpath):
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        assert neuronpath("find-path", "--method", "random", stdout=pipe)[::2] == (141, "")


def test_a_stderr_that_cannot_be_written(monkeypatch):
    for stderr in (None, io.TextIOWrapper(io.BytesIO(), encoding="ascii")):
        monkeypatch.setattr(sys, "stderr", stderr)
        say("é\n猫")
    with suppress(OSError), open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        say("nobody reads this")
        monkeypatch.undo()


def test_warnings_of_libraries_are_lines_of_the_command(neuronpath, tmp_path):
    file = io.BytesIO()
    Image.new("L", (32, 32)).save(file, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05garbage")
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    found = neuronpath("find-path", tmp_path / "a.jpg", "--model", "demo", "--method", "random", "--quiet")
    assert found.code == 0
    assert found.err.count("\n") == 1
    assert f"neuronpath: {tmp_path / 'a.jpg'}: Corrupt EXIF data" in found.err


@pytest.mark.parametrize("name", ["--device", "--plot"])
def test_what_this_machine_lacks(neuronpath, tmp_path, monkeypatch, name):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("MPLBACKEND", "nonsense")  # of no account: nothing is shown in a window
    if name == "--plot":
        refused(neuronpath("find-path", "--plot", tmp_path / "a.pgf"), "a.pgf can't be drawn here")
    for device in ("meta", "hpu", "cuda:99", "privateuseone", "") if name == "--device" else ():
        refused(neuronpath("find-path", "--device", device), device)
    assert os.listdir(tmp_path) == []


def started(*words, prepare="", **options):
    """The command as a process of its own, before which some Python has run."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", f"{prepare}\n{RUN}", *map(str, words)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=environment, **options)  # fmt: skip


AT_IMPORT = """
import signal, sys
class Finder:
    def find_spec(name, *_):
        if name == {name!r}:
            try: signal.raise_signal(signal.SIGINT)
            except BaseException:
                if {swallowed}: raise ImportError("initialization failed")
                raise
sys.meta_path.insert(0, Finder)
"""


@pytest.mark.parametrize(
    ("name", "swallowed"),
    [("neuronpath.cli.main", False), ("typer", False), ("numpy", True), ("torch", False), ("safetensors", True)],
)  # fmt: skip
def test_ctrl_c_while_libraries_are_imported(name, swallowed):
    """Some make another error of it."""
    process = started("find-path", prepare=AT_IMPORT.format(name=name, swallowed=swallowed))
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, "", "neuronpath: interrupted; no file was left half-written\n")


def test_ctrl_c_while_it_works(tmp_path):
    """In a destructor an exception is lost, but not the wish to stop."""
    prepare = """
import signal, torch
class Odd:
    def __del__(self): signal.raise_signal(signal.SIGINT)
before = torch.nn.functional.linear
def linear(*arguments):
    torch.nn.functional.linear = before
    Odd()
    return before(*arguments)
torch.nn.functional.linear = linear
"""
    process = started("find-path", "--out", tmp_path / "a.json", prepare=prepare)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, "", "neuronpath: interrupted; no file was left half-written\n")
    assert os.listdir(tmp_path) == []


def test_ctrl_c_from_a_terminal(tmp_path):
    process = started("prune-experiment", "--out", tmp_path / "e", "--importances", "random", "--seeds", 500)
    while not list(tmp_path.glob("e/runs/*.json")):
        assert process.poll() is None, process.communicate()
        signal.sigtimedwait([], 0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, "", "neuronpath: interrupted; no file was left half-written\n")
    assert not list(tmp_path.rglob(".neuronpath-*"))


def test_a_narrow_terminal_has_each_path_under_its_image():
    ours, its = os.openpty()
    command = [sys.executable, "-c", RUN, "find-path"]
    with subprocess.Popen(command, stdout=its, stderr=subprocess.DEVNULL, env=os.environ | {"COLUMNS": "100"}):
        os.close(its)
        said = b""
        with suppress(OSError):  # the terminal is closed behind the last line
            while part := os.read(ours, 4096):
                said += part
    os.close(ours)
    table = said.decode().split("\r\n\r\n")[0].splitlines()
    assert len(table) == 22  # the titles and ten digits, two lines each
    assert max(map(len, table)) <= 100
