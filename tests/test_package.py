"""The package as others get it: a wheel and an sdist, installed outside the source tree, read-only, and run there."""

import email
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import neuronpath as nph

ROOT = Path(__file__).parent.parent


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the sdist, and with the wheel built of what is in it."""
    pytest.importorskip("hatchling", reason="hatchling isn't installed")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    run(
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        folder,
        cwd=folder / f"neuronpath-{nph.__version__}",
    )
    return folder


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A virtual environment with the wheel alone, that finds all else where these tests do; nothing in it can be written."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    place = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    wheel = next(built.glob("*.whl"))
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    (place / "others.pth").write_text(sysconfig.get_path("purelib"))
    for path in [place, *place.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    yield python
    for path in [place, *place.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def test_the_sdist_holds_what_its_tests_need_and_the_wheel_the_package(built):
    inside = {str(path.relative_to(ROOT / "neuronpath")) for path in (ROOT / "neuronpath").rglob("*") if path.is_file()}
    wanted = {name for name in inside if "__pycache__" not in name}
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        about = email.message_from_bytes(wheel.read(next(name for name in names if name.endswith("METADATA"))))
    assert {name.removeprefix("neuronpath/") for name in names if name.startswith("neuronpath/")} == wanted
    assert (about["Name"], about["Version"], about["License-Expression"]) == (
        "neuronpath",
        nph.__version__,
        "Apache-2.0",
    )
    assert about.get_all("Project-URL")
    assert len(about.get_all("License-File")) == 2
    source = built / f"neuronpath-{nph.__version__}"
    for name in (
        "llms.txt",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "tests/conftest.py",
        "notebooks/03_prune.ipynb",
        "docs/index.md",
    ):
        assert (source / name).is_file(), name


def test_an_index_would_take_them(built):
    pytest.importorskip("twine", reason="twine isn't installed")
    run(sys.executable, "-m", "twine", "check", "--strict", *built.glob("*.whl"), *built.glob("*.tar.gz"))


CODE = """
import neuronpath as nph
model, images, labels = nph.demo.load()
paths = nph.find_path(model, images[:2], method="causal")
nph.report(model, images[:2], paths, "page.html")
print(nph.__file__, nph.__version__, len(paths))
"""


def test_it_runs_where_nothing_can_be_written(installed, tmp_path):
    before = sorted(installed.parent.parent.rglob("*"))
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    alone.pop("PYTHONPATH", None)
    file, version, n = run(installed, "-c", CODE, cwd=tmp_path, env=alone).split()
    assert Path(file).is_relative_to(installed.parent.parent)
    assert (version, n) == (nph.__version__, "2")
    for name in ("find-path", "neuronpath", "prune-experiment"):
        assert "--help" in run(installed.parent / name, "--help", cwd=tmp_path, env=alone)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert sorted(installed.parent.parent.rglob("*")) == before
