"""What --help and --version say, and what is said of files that were written."""

import inspect
import re
import subprocess
import sys

import pytest
from commands import Result

import neuronpath as nph
from neuronpath.cli import main as cli

SCREEN = 24  # lines of 80 letters
GROUPS = ["Input", "Method", "Method, in detail", "Machine", "Output", "Help"]
COMMANDS = {command.name: command.callback for command in cli.application().registered_commands}


@pytest.fixture
def neuronpath(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["neuronpath", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return Result(int(stop.value.code or 0), *capsys.readouterr())

    return call


@pytest.mark.parametrize("command", COMMANDS)
def test_options_stand_in_groups_of_a_screen_at_most(neuronpath, command):
    found = neuronpath(command, "--help")
    assert (found.code, found.err) == (0, "")
    parts = re.split(r"^(\w[\w, ]*):\n", found.out, flags=re.MULTILINE)
    titles, bodies = parts[1::2], parts[2::2]
    assert sorted(titles, key=GROUPS.index) == titles or set(titles) == set(GROUPS) & set(titles)
    assert {"Input", "Help"} <= set(titles)
    assert max(len(body.strip("\n").splitlines()) + 1 for body in bodies) <= SCREEN
    assert max(map(len, found.out.splitlines())) <= 80
    for name in inspect.signature(COMMANDS[command]).parameters:
        assert f"--{name.replace('_', '-')}" in found.out or f"\n  {name}" in found.out or f"[{name}]" in found.out


def test_versions(neuronpath, monkeypatch, capsys):
    for words in [(), *((command,) for command in COMMANDS)]:
        assert neuronpath(*words, "--version") == (0, f"neuronpath {nph.__version__}\n", "")
    for entry in (cli.find_path_main, cli.prune_experiment_main):
        monkeypatch.setattr(sys, "argv", ["find-path", "--version"])
        with pytest.raises(SystemExit):
            entry()
        assert capsys.readouterr().out == f"neuronpath {nph.__version__}\n"


def test_files_that_were_written_are_named(neuronpath, tmp_path):
    out, plot, page = tmp_path / "a.json", tmp_path / "b\n.png", tmp_path / "c.html"
    words = ("find-path", "--method", "random", "--out", out, "--plot", plot, "--report", page)
    said = f"wrote {out}\nwrote {tmp_path}/b\\n.png\nwrote {page}\n"
    assert neuronpath(*words).out.endswith(said)
    assert neuronpath(*words, "--overwrite", "--quiet") == (0, "", "")
    table = tmp_path / "t.csv"
    found = neuronpath("evaluate", "--methods", "random", "--limit", 4, "--csv", table)
    assert found.out.endswith(f"wrote {table}\n")
    assert "wrote" not in neuronpath("find-path", "--method", "random").out


def test_python_m_neuronpath_is_the_command():
    said = subprocess.run([sys.executable, "-m", "neuronpath", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["neuronpath", nph.__version__]
