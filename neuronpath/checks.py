"""The errors that a caller can mend, the checks that raise them, and the commands' exit codes.

A message is one line that names the thing and what was expected.
"""

import inspect
import math
import numbers
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, ParamSpec, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

DONE, SOME_LEFT_OUT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
P = ParamSpec("P")
R = TypeVar("R")


def printable(text: object) -> str:
    """A text, such as a file's name, fit to be shown anywhere: what isn't seen, or changes what is seen, is escaped.

    Those are line ends, control characters (and so a terminal's colours), marks that turn the direction of writing, spaces other than
    the plain one, and bytes of a file's name that are no UTF-8.

    Examples:
        >>> print(printable("a\\nb\\x1b[31m \\u202ecod.exe café 猫"))
        a\\nb\\x1b[31m \\u202ecod.exe café 猫
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


class InputError(ValueError):
    """Something the caller gave can't be used. The message is one line, fit to be shown as it is."""

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(message))


class InputTypeError(InputError, TypeError):
    """Something the caller gave is of the wrong kind altogether (a model that is no ViT, images that are no tensor)."""


def check_one_of(argument: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is none of the choices."""
    if not any(value is choice or (isinstance(value, type(choice)) and value == choice) for choice in choices):
        raise InputError(f"{argument} {shown(value)} is unknown; expected one of {', '.join(map(repr, choices))}")


def check_count(argument: str, value: object, least: int = 1) -> None:
    """Refuse what is no whole number, or a lesser one."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{argument} is {shown(value)}; expected a whole number of at least {least}")


def check_number(argument: str, value: object, above: float = -math.inf, most: float = math.inf) -> None:
    """Refuse what is no number, NaN, infinity, what isn't above ``above`` and what is beyond ``most``."""
    if is_number(value) and math.isfinite(value) and above < value <= most:
        return
    bounds = [f"above {above:g}"] * (above > -math.inf) + [f"at most {most:g}"] * (most < math.inf)
    raise InputError(
        f"{argument} is {shown(value)}; expected a finite number{' ' * bool(bounds)}{' and '.join(bounds)}"
    )


def check_index(argument: str, value: object, count: int) -> None:
    """Refuse what is no index of one of ``count`` things, counted from either end."""
    if not count:
        raise InputError(f"{argument} is {shown(value)}, and there is nothing to choose from; expected at least one")
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not -count <= int(value) < count:
        raise InputError(f"{argument} {shown(value)} is out of range; expected 0 to {count - 1}")


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a real number of any library's, and no truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def shown(value: object) -> str:
    """A value as a message shows it: itself where it is short, else what it is."""
    text = repr(value) if value is None or isinstance(value, bool | int | float | str | bytes | list | tuple) else ""
    return text if text and len(text) <= 60 else f"a {type(value).__name__}"


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a public function: arguments of another kind than its annotations say are refused before it begins.

    The kinds of what sequences and mappings hold are looked at too; of what is only iterated they can't be. A tensor must be an
    ordinary one. Which values of the right kind can be used is the function's own affair.

    The function gets other libraries' numbers, such as numpy's, as Python's. A word that is none of a ``Literal``'s is an InputError,
    which tells them.

    Examples:
        >>> @checked
        ... def half(number: int, names: Sequence[str] | None = None) -> float:
        ...     return number / 2
        >>> half("4")
        Traceback (most recent call last):
        neuronpath.checks.InputTypeError: number is '4'; expected a whole number
        >>> half(4, ["a", 5])
        Traceback (most recent call last):
        neuronpath.checks.InputTypeError: names is ['a', 5]; expected a sequence of texts, or None
    """
    signature = inspect.signature(function)
    parameters = signature.parameters

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        hints, bound = _hints(function), signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            kind = parameters[name].kind
            several = value if kind is inspect.Parameter.VAR_POSITIONAL else (value,)
            for each in value.values() if kind is inspect.Parameter.VAR_KEYWORD else several:
                if name in hints and not fits(each, hints[name]):
                    _refuse(name, each, hints[name])
            bound.arguments[name] = _plain(value)
        return function(*bound.args, **bound.kwargs)

    return call


def _plain(value: Any) -> Any:
    """A number of another library's, such as numpy's, as Python's own, which files and torch take; all else as it is."""
    if isinstance(value, int | float) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _refuse(name: str, value: object, hint: Any) -> NoReturn:
    """Raise what says that a value isn't of the kind that an annotation names; of a text where words are expected which words."""
    if isinstance(value, str) and all(get_origin(one) is Literal or one is NoneType for one in _kinds(hint)):
        check_one_of(name, value, [word for one in _kinds(hint) for word in get_args(one)])
    raise InputTypeError(f"{name} is {odd_tensor(value) or shown(value)}; expected {words(hint)}")


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The kinds of a union, or the only one."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


@cache
def _hints(function: Callable) -> dict[str, Any]:
    return get_type_hints(function)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the kind that an annotation names."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(fits(value, each) for each in inner)
    if kind in (Any, object) or isinstance(kind, TypeVar | ParamSpec):
        return True
    if kind in (None, NoneType):
        return value is None
    if kind is Literal:
        return isinstance(value, str) and value in inner
    if kind is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if kind is float:
        return is_number(value)
    if kind is Callable:
        return callable(value)
    if kind is type:
        return isinstance(value, type) and issubclass(value, inner or object)
    if kind is Sequence:
        return (
            is_sequence(value)
            and not odd_tensor(value)
            and all(fits(each, inner[0]) for each in (value if inner else ()))
        )
    if kind is Mapping:
        return isinstance(value, Mapping) and all(
            fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items() if inner
        )
    if kind is Iterable:
        if not isinstance(value, Iterable) or isinstance(value, str | bytes) or odd_tensor(value):
            return False
        return getattr(value, "ndim", 1) != 0
    return isinstance(value, kind) and not odd_tensor(value)


def is_sequence(value: Any) -> bool:
    """Whether a value is a sequence, or an array or tensor that can be taken for one; a text is none."""
    if isinstance(value, str | bytes | type):
        return False
    return isinstance(value, Sequence) or (hasattr(value, "__array__") and getattr(value, "ndim", 0) > 0)


def odd_tensor(value: Any) -> str | None:
    """What a tensor is that ordinary operations don't take; None of any other value."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return None
    if value.is_nested or value.layout != torch.strided or value.is_quantized:
        return f"a {'nested' if value.is_nested else 'quantized' if value.is_quantized else 'sparse'} tensor"
    if value.is_meta:
        return "a tensor on the meta device, which holds no numbers"
    return f"a tensor of {value.dtype}" if value.is_floating_point() and value.dtype.itemsize < 2 else None


_WORDS = {
    None: "None", NoneType: "None", bool: "True or False", int: "a whole number", float: "a number", str: "a text",
    Callable: "a function", Sequence: "a sequence", Mapping: "a mapping", Iterable: "an iterable", tuple: "a tuple",
    type: "a class", "Tensor": "an ordinary tensor", "ndarray": "an array", "Module": "a model (torch.nn.Module)", "PathLike": "a path",
    "Dataset": "a Dataset", "DataLoader": "a DataLoader",
}  # fmt: skip


def words(hint: Any) -> str:
    """The kinds that an annotation names, as a message says them."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        each = list(dict.fromkeys(words(one) for one in inner if not (get_origin(one) is Literal and str in inner)))
        return each[0] if len(each) == 1 else f"{', '.join(each[:-1])}, or {each[-1]}"
    if kind is Literal:
        return f"{'one of ' if len(inner) > 1 else ''}{', '.join(map(repr, inner))}"
    if inner and kind in (Sequence, Iterable, Mapping) and Any not in inner:
        return f"{_WORDS[kind]} of {' to '.join(map(_plural, inner))}"
    name = str(getattr(kind, "__name__", kind))
    return _WORDS.get(kind) or _WORDS.get(name) or name


def _plural(hint: Any) -> str:
    found = [re.sub(r"^an? (.*)$", r"\1s", words(one)) for one in _kinds(hint)]
    return " or ".join(dict.fromkeys(found))
