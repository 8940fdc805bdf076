"""Models whose deciding units are known because they were planted: benchmarks/planted.py, a model of each kind."""

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def planted():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return runpy.run_path(str(BENCHMARKS / "planted.py"))
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in ("common", "scoreboard"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize("kind", ["chain", "carrier", "redundant"])
def test_planted_units_decide_and_are_found(planted, kind):
    shares = planted["check"](kind, 0, 3)
    assert shares == {
        "stands without the plant": 0.0,
        "stands with it alone": 1.0,
        "stands without random others": 1.0,
        "stands without one of it": 1.0 if kind == "redundant" else 0.0,
    }
    found = {row["method"]: row["at size"] for row in planted["score"](kind, 0, 3)}
    assert found["ranking: growth"] == 1
    assert found["path: live"] >= 0.8
    assert found["path: random"] < 0.5
