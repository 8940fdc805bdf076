"""Every notebook runs, offline and as a newcomer would run it, and its stored outputs are of the kinds that it gives."""

from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.filterwarnings("ignore")  # Jupyter's own
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.name)
def test_a_notebook_runs(file, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient isn't installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat isn't installed")
    assert file.stat().st_size < 1e6
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # no start-up files of one's own, no shared history
    stored = nbformat.read(file, as_version=4)
    fresh = nbformat.read(file, as_version=4)
    nbclient.NotebookClient(
        fresh, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    assert [kinds(cell) for cell in fresh.cells] == [kinds(cell) for cell in stored.cells]


def kinds(cell) -> list[list[str]]:
    """What a cell's outputs are made of, its warnings left out; how many pieces its printed text comes in is chance."""
    outputs = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
    kinds = [sorted(output.get("data", {"text": ""})) for output in outputs]
    return [kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != ["text"] or before != ["text"]]
