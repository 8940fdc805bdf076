"""What README and docs print of measured tables is what their JSON holds."""

import json
from pathlib import Path

import pytest

import neuronpath as nph
from neuronpath.jobs.benchmark.table import Table, cell

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "docs" / "measured"
FILES = [MEASURED / "digits.json", MEASURED / "vits14.json"]


def tables(file):
    found = json.loads(file.read_text())["tables"]
    for table in found:
        table["rows"] = [{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()} for row in table["rows"]]
    return [Table(**table) for table in found]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_page_prints_what_was_measured(file):
    page = (ROOT / "docs" / "faithfulness.md").read_text()
    for table in tables(file):
        assert table.title in page
        for row in table.rows:
            columns = list(dict.fromkeys(name for each in table.rows for name in each))
            line = " | ".join(cell(row.get(name), table.forms.get(name, "")) for name in columns)
            assert f"| {line} |" in page


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_readme_says_the_same(file):
    removing, keeping, _ = tables(file)
    by = {row["path"]: row for row in removing.rows}
    (circuit,) = keeping.rows
    wanted = [
        by["live"]["images"],
        *(cell(by[path][figure], "%") for path in ("live", "random") for figure in ("takes of p", "flips")),
        cell(circuit["units, median"], ",.0f"),
    ]
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| ")]
    assert any(all(text in line for text in wanted) for line in lines), wanted


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_photograph_s_figures_are_those_of_its_paths(page):
    paths = nph.NeuronPaths.load(MEASURED / "photo.json")
    text = (ROOT / page).read_text()
    left = [figure.item() for figure in (paths.probability, paths.left, paths.random_left)]
    assert "probability {:.3f}, without the path {:.3f}, without a random one {:.3f}".format(*left) in text
    said, without = (paths.name_of(label) for label in (paths.predicted[0], paths.predicted_without[0]))
    assert f"says {said}, and without the path\n{without}." in text
