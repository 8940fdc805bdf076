"""A notebook's table of paths: parsed, and its cells compared with the paths."""

from html.parser import HTMLParser

import pytest

import neuronpath as nph

EVIL = "<script>alert(1)</script>.png"


class Cells(HTMLParser):
    """The texts of a page's th and td, row by row, and the names of all its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def paths(demo):
    return nph.find_path(demo[0], demo[1][:25], method="joint", top_k=2, names=[EVIL, *map(str, range(24))])


def test_a_notebook_shows_a_row_an_image(paths):
    parsed = Cells(paths[:3]._repr_html_())
    head, *rows = parsed.rows
    assert head == [
        "image",
        "predicted",
        "path",
        "score",
        "attribution",
        "without it",
        "without random",
        "flips",
        "relative delta",
    ]
    assert len(rows) == 3
    for row, path in zip(rows, paths, strict=False):
        assert row[0] == path.names[0]
        assert row[1] == f"{int(path.predicted)} {float(path.predicted_probability):.3f}"
        pairs = [
            zip(*block, strict=True)
            for block in zip(path.neurons[0].tolist(), path.attribution[0].tolist(), strict=True)
        ]
        assert row[2] == " ".join("+".join(f"({n})" if worth < 0 else str(n) for n, worth in block) for block in pairs)
        assert float(row[3]) == pytest.approx(float(path.score), rel=1e-3)
        assert float(row[4]) == pytest.approx(float(path.attribution.sum()), rel=1e-3)
        assert row[5] == f"{float(path.left):.3f}"
    assert set(parsed.tags) == {"p", "table", "thead", "tbody", "tr", "th", "td"}


def test_a_long_table_is_cut(paths):
    assert len(Cells(paths._repr_html_()).rows) == 21
    assert "and 5 more images" in paths._repr_html_()
    assert "more images" not in paths[:20]._repr_html_()
    assert len(Cells(paths[:0]._repr_html_()).rows) == 1


def test_a_model_without_classes(demo):
    paths = nph.find_path(demo[0], demo[1][:1], method="joint", output=lambda logits, target: logits[:, 0])
    unknown = paths.__class__(**{**vars(paths), "target": paths.target * 0 - 1, "predicted": paths.predicted * 0 - 1})
    assert Cells(unknown._repr_html_()).rows[1][1] == ""
    assert "-1" not in unknown.to_text().split("\n")[1].split("  ")[1]


def test_a_narrow_table_has_each_path_under_its_row(paths):
    whole, lines = paths[1:4].to_text().splitlines(), paths[1:4].to_text(width=90).splitlines()
    assert paths[1:4].to_text(width=max(map(len, whole))).splitlines() == whole
    assert max(map(len, lines)) <= 90 < max(map(len, whole))
    heads = [at for at, line in enumerate(lines) if not line.startswith("  ")]
    assert len(heads) == 4  # the titles and three images
    for wide, start, end in zip(whole[1:], heads[1:], [*heads[2:], len(lines)], strict=True):
        path = " ".join(" ".join(lines[start + 1 : end]).split())
        assert wide.split() == [*lines[start].split()[:3], *path.split(), *lines[start].split()[3:]]
    with pytest.raises(nph.InputError, match="width is 0; expected"):
        paths.to_text(width=0)
