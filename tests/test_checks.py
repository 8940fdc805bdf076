"""Kinds of arguments, by annotation."""

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import neuronpath as nph
from neuronpath import options
from neuronpath.checks import InputError, InputTypeError, check_index, check_number, check_one_of, checked, fits, words
from neuronpath.jobs.tasks import TASKS

Output = str | Callable[[Tensor, Tensor | None], Tensor]
ARRAY, TENSOR = np.zeros((2, 3)), torch.zeros(2, 3)
FITS = [  # an annotation, its words, what is of its kind, what isn't
    (int, "a whole number", [1, np.int64(1), -3], [True, 1.0, np.float64(1), "1", None, torch.tensor(1)]),
    (float, "a number", [1, 1.5, np.float32(1), float("nan")], [True, "1", None, 1j, torch.tensor(1.0)]),
    (bool, "True or False", [True, False], [0, 1, None, "x"]),
    (str | None, "a text, or None", ["", "x", None, np.str_("x")], [b"x", 1, ["x"]]),
    (str | os.PathLike, "a text, or a path", ["x", os.curdir], [b"x", 1, None]),
    (Tensor, "an ordinary tensor", [TENSOR, nn.Parameter(TENSOR)], [ARRAY, [1], None, TENSOR.to_sparse(), TENSOR.to("meta")]),
    (nn.Module, "a model (torch.nn.Module)", [nn.Linear(2, 2)], [nn.Linear, None]),
    (Sequence[str], "a sequence of texts", [["x"], (), np.array(["x"])], ["x", [1], {"x"}, {"x": 1}, None, iter(["x"]), np.array("x")]),
    (Sequence[Tensor], "a sequence of ordinary tensors", [[TENSOR], TENSOR], [[ARRAY], ARRAY, [TENSOR.to_sparse()]]),
    (Sequence, "a sequence", [[object()], ARRAY, TENSOR, range(3)], ["x", b"x", 1, torch.tensor(1), np.float64(1), list]),
    (Iterable[str | int], "an iterable of texts or whole numbers", [["x"], iter([1]), {"x"}], ["x", 1, torch.tensor(1)]),
    (Mapping[str, int], "a mapping of texts to whole numbers", [{"x": 1}, {}], [[("x", 1)], {"x": "y"}, {1: 1}]),
    (Output, "a text, or a function", ["prob", len, nn.Linear(2, 2)], [1, None]),
    (int | Sequence[int] | np.ndarray | None, "a whole number, a sequence of whole numbers, an array, or None",
     [1, [1, 2], ARRAY, None, pd.Series([1, 2])], ["1", ["1"], 1.5]),
    (type[nn.Module], "a class", [nn.Linear], [int, nn.Linear(2, 2)]),
    (Any, "Any", [1, None, object()], []),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "name", "good", "bad"), FITS, ids=[each[1] for each in FITS])
def test_kinds(hint, name, good, bad):
    assert [value for value in good if not fits(value, hint)] == []
    assert [value for value in bad if fits(value, hint)] == []
    assert words(hint) == name


def test_checked_functions():
    @checked
    def function(first: int, *more: str, last: Sequence[str] | None = None, untyped=None, **rest: float) -> tuple:
        """Its words."""
        return first, more, last, untyped, rest

    assert function(1, "a", "b", last=["c"], untyped=object, x=1.5)[:3] == (1, ("a", "b"), ["c"])
    assert (function.__name__, function.__doc__) == ("function", "Its words.")
    for call, message in (
        (lambda: function("1"), "first is '1'; expected a whole number"),
        (lambda: function(1, "a", 5), "more is 5; expected a text"),
        (lambda: function(1, last="abc"), "last is 'abc'; expected a sequence of texts, or None"),
        (lambda: function(1, x="y"), "rest is 'y'; expected a number"),
        (lambda: function(torch.zeros(3).to_sparse()), "first is a sparse tensor; expected a whole number"),
        (lambda: function("x" * 100), "first is a str; expected a whole number"),
    ):
        with pytest.raises(InputTypeError) as refusal:
            call()
        assert str(refusal.value) == message
    with pytest.raises(TypeError, match="missing a required argument"):
        function()


def test_other_libraries_numbers_become_python_s(demo, tmp_path):
    @checked
    def types(count: int, share: float, *, seed: int | None = None) -> list[type]:
        return [type(count), type(share), type(seed)]

    assert types(np.int64(1), np.float32(0.5), seed=np.uint8(3)) == [int, float, int]
    assert types(1, np.int32(2)) == [int, int, type(None)]
    model, images, _ = demo
    paths = nph.find_path(model, images[:1], method="random", top_k=np.int64(2), internal_batch_size=np.int64(1))
    assert nph.NeuronPaths.load(paths.save(tmp_path / "p.json")) == paths
    with nph.set_to(model, [(1, 2)], np.float32(0.5)):
        inside = model(images[:1])
    with nph.set_to(model, [(1, 2)], 0.5):
        assert torch.equal(model(images[:1]), inside)


def test_a_method_and_a_later_class():
    class Thing:
        @checked
        def method(self, other: "Late") -> bool:
            return other is not None

    class Late:
        pass

    globals()["Late"] = Late
    assert Thing().method(Late())
    with pytest.raises(InputTypeError, match="other is 5; expected Late"):
        Thing().method(5)
    del globals()["Late"]


def test_values():
    check_number("lr", 0.5, above=0, most=1)
    check_number("lr", 1, above=0, most=1)
    for value in (0, 1.1, float("nan"), float("inf"), "x", None, True):
        with pytest.raises(InputError, match=r"lr is .*; expected a finite number above 0 and at most 1"):
            check_number("lr", value, above=0, most=1)
    with pytest.raises(InputError, match=r"lr is nan; expected a finite number$"):
        check_number("lr", float("nan"))
    check_index("index", -3, 3)
    for value in (3, -4, None, 1.0, True):
        with pytest.raises(InputError, match=r"index .* is out of range; expected 0 to 2"):
            check_index("index", value, 3)
    with pytest.raises(InputError, match="nothing to choose from"):
        check_index("index", 0, 0)
    check_one_of("by", np.str_("a"), ("a", "b"))
    check_one_of("by", None, (None, "b"))
    for value in ("c", None, 0, torch.zeros(3), np.zeros(3), ["a"]):
        with pytest.raises(InputError, match=r"by .* is unknown; expected one of 'a', 'b'"):
            check_one_of("by", value, ("a", "b"))


def test_words_of_a_literal():
    @checked
    def function(
        by: Literal["a", "b"] | None = None, at: int | Literal["all"] = 0, method: Literal["x"] | str = "x"
    ) -> tuple:
        return by, at, method

    assert function("b", "all", "y") == ("b", "all", "y")
    for call, kind, message in (
        (lambda: function("c"), InputError, "by 'c' is unknown; expected one of 'a', 'b'"),
        (lambda: function("\x1b"), InputError, "by '\\x1b' is unknown; expected one of 'a', 'b'"),
        (lambda: function(""), InputError, "by '' is unknown; expected one of 'a', 'b'"),
        (lambda: function(5), InputTypeError, "by is 5; expected one of 'a', 'b', or None"),
        (lambda: function(at="none"), InputTypeError, "at is 'none'; expected a whole number, or 'all'"),
        (lambda: function(method=5), InputTypeError, "method is 5; expected a text"),
    ):
        with pytest.raises(InputError) as refusal:
            call()
        assert (type(refusal.value), str(refusal.value)) == (kind, message)


OPTIONS = {
    "units", "token", "tokens", "baseline", "criterion", "influence", "objective", "effort", "preset", "method", "output", "quadrature",
    "precision", "scope", "layout", "init", "task", "engine", "by", "split", "at", "rank", "target",
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in nph.__all__ if inspect.isfunction(getattr(nph, n))])
def test_options_of_public_functions_are_literals(name):
    hints = get_type_hints(getattr(nph, name))
    for option in OPTIONS & hints.keys():
        kinds = (hints[option], *get_args(hints[option]))
        assert str not in kinds or any(get_origin(kind) is Literal for kind in kinds), option


def test_the_words_are_those_that_are_known():
    def words(alias):
        return sorted(
            word for kind in (alias, *get_args(alias)) if get_origin(kind) is Literal for word in get_args(kind)
        )

    assert words(options.MethodName) == nph.list_methods()
    assert words(options.PresetName) == nph.list_presets()
    assert words(options.ImportanceName) == nph.list_importances()
    assert words(options.EngineName) == nph.list_engines()
    assert set(words(options.TaskName)) == TASKS.keys()
