"""What the docs print of the benchmarks is what these wrote, kept in docs/measured."""

import pytest
from measured_tables import DOCS, TABLES


@pytest.mark.parametrize("name", TABLES)
def test_the_page_prints_what_was_measured(name):
    page, rows = TABLES[name]
    printed = (DOCS / f"{page}.md").read_text().splitlines()
    missing = [row for row in rows() if row not in printed]
    assert not missing
