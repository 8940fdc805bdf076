"""What a command left behind, and what it must say when it refuses."""

from typing import NamedTuple


class Result(NamedTuple):
    code: int
    out: str
    err: str


def refused(result: Result, *words: str) -> None:
    """Exit code 2, nothing printed but one line on stderr that holds these words."""
    assert result.code == 2
    assert result.out == ""
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err
