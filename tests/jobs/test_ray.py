"""The engine "ray": the rows of the local one, on two CPUs, gone on with, with a damaged image and a worker that dies."""

import os
import shutil
import subprocess
import sys

import pytest
from test_run import FAST, assert_same_rows, tiny
from test_run import photos as photos

import neuronpath as nph

SCRIPT = """
import os, signal, sys
from pathlib import Path
import ray, torch
from test_run import FAST, tiny, as_grey
import neuronpath as nph

driver, died = os.getpid(), Path(sys.argv[2] + "." + sys.argv[3])

def transform(image):
    if os.getpid() != driver and not died.exists():
        died.touch()
        os.kill(os.getppid() if sys.argv[3] == "raylet" else os.getpid(), signal.SIGKILL)
    return as_grey(image)

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
nph.run(sys.argv[1], tiny(), sys.argv[2], shard_size=8, engine="ray", transform=transform, **FAST)
"""


def test_ray_goes_on_where_another_engine_or_ray_itself_stopped(photos, tmp_path):
    """Slow, for Ray starts twice: the first time its raylet, which is all of it on a machine, is killed; then one of its actors."""
    pytest.importorskip("ray", reason="ray isn't installed")
    from test_run import as_grey

    (photos / "3/bad.png").write_bytes(b"no image")
    whole = nph.run(photos, tiny(), tmp_path / "whole", shard_size=8, transform=as_grey, **FAST)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    for number in (0, 2, 3):
        (tmp_path / f"run/shards/{number:06d}.parquet").unlink()
    shutil.rmtree(tmp_path / "run/errors")
    (tmp_path / "script.py").write_text(SCRIPT)
    here = os.path.dirname(__file__)
    paths = [here, os.path.dirname(here), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    for killed in ("raylet", "actor"):
        (tmp_path / "run/shards/000002.parquet").unlink(
            missing_ok=True
        )  # which may have been done before Ray knew its end
        words = map(str, [sys.executable, tmp_path / "script.py", photos, tmp_path / "run", killed])
        ended = subprocess.run(
            list(words), env=env, capture_output=True, text=True, errors="replace", timeout=240, check=False
        )
        assert (tmp_path / f"run.{killed}").exists(), ended.stderr
    assert ended.returncode == 0, ended.stderr
    run = nph.open_run(tmp_path / "run")
    assert_same_rows(run, whole)
    assert run.errors["id"].tolist() == whole.errors["id"].tolist() == ["3/bad.png"]


def test_without_ray_its_extra_is_named(photos, tmp_path, monkeypatch):
    from neuronpath.jobs.engines import registry

    monkeypatch.setattr(registry, "ENGINES", {})
    monkeypatch.delitem(sys.modules, "neuronpath.jobs.engines.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(nph.InputError, match=r'engine \'ray\' wants ray: pip install "neuronpath\[ray\]"'):
        nph.run(photos, tiny(), tmp_path / "run", engine="ray", **FAST)
