"""What docs/features.md says beside its table is what benchmarks/features.py wrote."""

import re

import pytest
from measured_tables import percent, rows_of, said

SAID = said("features")


def test_what_the_deletion_takes():
    digits, vits14 = (percent(rows_of(file)[0]["top leads"]) for file in ("features", "features-vits14"))
    assert f"takes more from {vits14} of the ViT-S/14's units on paths; from {digits} of the digits'" in SAID


def test_the_attributions_error():
    delta = percent(max(row["delta"] for row in rows_of("features")), 2)
    assert f"within 1 %: nodes are added until they do ({delta} on the digits)" in SAID


def test_from_one_start():
    one, three = ({percent(row["made"]) for row in rows_of(file)} for file in ("features-one-start", "features"))
    said = re.search(r"`--starts 1`\) (\d+ %) of the digits' units are above, from the best of three (\d+ %)", SAID)
    assert ({said[1]}, {said[2]}) == (one, three)


@pytest.mark.parametrize("file", ["features", "features-vits14"])
def test_random_units_are_as_pure(file):
    often, random = (percent(row["favourites"]) for row in rows_of(file))
    assert (often == random) == ("Random units of the same kinds are as pure." in SAID)
