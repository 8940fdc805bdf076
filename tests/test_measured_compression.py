"""What docs/recursive.md prints of smaller models is what ``neuronpath compress`` wrote, kept beside it."""

from pathlib import Path

import pandas as pd
import pytest

DOCS = Path(__file__).parent.parent / "docs"
CALLED = {
    "recursive+low-rank": "recursive, then low-rank",
    "first-blocks": "first blocks",
    "every-other": "every other block",
}


def percent(value):
    return f"{100 * value:.1f}".removesuffix(".0") if round(100 * value, 1) == 100 else f"{100 * value:.1f}"


def share(value, digits=2):
    return f"{value:.{digits}f}".lstrip("0") if round(value, 2) != 1 else "1"


def right(row):
    return f"{percent(row.accuracy)} ({percent(row.low)} to {percent(row.high)})"


def as_they_are(table):
    for row in table.itertuples():
        kl = f"{row.kl:.{2 if row.kl > 0.1 else 1}g}".lstrip("0")
        called = "prune, heads too" if (row.method, row.share) == ("prune", 0.3) else CALLED.get(row.method, row.method)
        cells = (
            called,
            share(row.parameters),
            right(row),
            percent(row.agreement),
            kl,
            share(row.bytes),
            share(row.multiply_adds),
        )
        yield " | ".join(cells)


def distilled(table):
    before, after = (table[table["distilled"] == trained].set_index(["method", "share"]) for trained in (False, True))
    for (method, _), row in after.iterrows():
        whole = before.loc[(method, row.name[1])]
        yield " | ".join([CALLED.get(method, method), share(row.parameters), percent(whole.accuracy), percent(whole.agreement),
                          right(row), percent(row.agreement)])  # fmt: skip


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("digits", as_they_are),
        ("digits-distilled", distilled),
        ("cifar-distilled", distilled),
        ("vits14-distilled", distilled),
    ],
)
def test_the_page_prints_what_was_measured(name, lines):
    page = (DOCS / "recursive.md").read_text()
    table = pd.read_csv(DOCS / "measured" / "recursive" / f"{name}.csv")
    found = list(lines(table[table["method"] != "as it is"]))
    assert found
    assert [line for line in found if f"| {line} |" not in page] == []
