"""What a model's classes are called, and which class a folder's name stands for."""

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn

from ..checks import InputError, InputTypeError
from .adapters import inside, is_linear, layers_of
from .around import own_head
from .view import inner_of, unwrapped

Names = Sequence[str] | Mapping[int, str]
LABEL = "label"  # a target that stands for the labels that come with the images
HEADS = ("heads", "classifier", "cls_classifier", "head")  # what models that don't say call their classifiers


def class_namer(
    model: nn.Module, class_names: Names | None = None, n_classes: int | None = None
) -> Callable[[int], str | None]:
    """What the model's classes are called: as the caller says, else by its own label names, else ImageNet's.

    The model's own names and ImageNet's are taken only where they are as many as the head has classes. A head of one's own, around a
    vision transformer, has neither.

    Args:
        model: any module.
        class_names: a name for each class, or {class: name} for some.
        n_classes: how many there are; None asks the model (see :func:`head_size`).

    Raises:
        InputError: for names that aren't as many as there are classes, for a class that the model lacks, and for what is no name.
    """
    count = head_size(model) if n_classes is None else n_classes
    if class_names is not None:
        return _checked(class_names, count).get
    if _head_around(model) is not None:
        return lambda label: None
    model = inner_of(model)
    own = _label_names(model)
    if own and len(own) == count:
        return lambda label: str(own[label]) if 0 <= label < len(own) else None
    told = getattr(getattr(model, "config", None), "id2label", None)  # transformers' way
    if told and len(told) == count and not any(str(name).startswith("LABEL_") for name in told.values()):
        return lambda label: told.get(label)
    info = _imagenet(model, count)
    if info is None:
        return lambda label: None
    return lambda label: info.index_to_description(label).split(",")[0] if 0 <= label < info.num_classes() else None


def _checked(names: Names, count: int | None) -> dict[int, str]:
    """Names by class."""
    if isinstance(names, str) or not isinstance(names, Sequence | Mapping):
        raise InputTypeError(
            f"class_names is a {type(names).__name__}; expected a sequence with a name for each class, or {{class: name}}"
        )
    if not isinstance(names, Mapping) and count is not None and len(names) != count:
        raise InputError(f"class_names holds {len(names)} names for {count} classes; expected one each")
    found = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
    for label, name in found.items():
        if isinstance(label, bool) or not isinstance(label, int) or label < 0 or (count is not None and label >= count):
            last = "" if count is None else f" up to {count - 1}"
            raise InputError(f"class_names names a class {label!r}; expected whole numbers from 0{last}")
        if not isinstance(name, str):
            raise InputTypeError(f"class_names calls class {label} {name!r}; expected a text")
    return found


def head_size(model: nn.Module) -> int | None:
    """The classes of the model's classifier as it is, whatever the model noted down when it was made; None where it has none."""
    if (around := _head_around(model)) is not None:
        return around.out_features
    within: Any = inner_of(model)
    head: Any = within.get_classifier() if hasattr(within, "get_classifier") else None
    for name in HEADS:
        head = getattr(within, name, None) if head is None else head
    head = head[0] if isinstance(head, tuple) else head
    if not isinstance(head, nn.Module):
        return getattr(within, "num_classes", None)
    linears = [layer for layer in layers_of(head) if is_linear(layer)]
    return linears[-1].out_features if linears else getattr(head, "out_features", None)


def _head_around(model: nn.Module) -> nn.Linear | None:
    """The head that a model has beside the vision transformer that it holds."""
    whole, inner = inside(unwrapped(model)), inner_of(model)
    return None if inner is whole else own_head(whole, inner)


def _label_names(model: nn.Module) -> Sequence[str] | None:
    return (getattr(model, "pretrained_cfg", None) or {}).get("label_names")


def _imagenet(model: nn.Module, count: int | None) -> Any:
    """ImageNet's names, where the model was made for that many classes and has them."""
    subset = infer_imagenet_subset(model) if count else None
    info = ImageNetInfo(subset) if subset else None
    return info if info is not None and info.num_classes() == count else None


def folder_namer(model: nn.Module) -> Callable[[str], int | None]:
    """The class that a folder's name stands for: its number, its WordNet id, or its name where only one class has it."""
    count, inner = head_size(model) or 0, inner_of(model)
    info = None if _label_names(inner) or _head_around(model) is not None else _imagenet(inner, count)
    ids = {info.index_to_label_name(index): index for index in range(count)} if info else {}
    name_of = class_namer(model)
    names = [(name_of(index) or "").lower() for index in range(count)]
    times = Counter(names)
    once = {name: index for index, name in enumerate(names) if name and times[name] == 1}

    def class_of(folder: str) -> int | None:
        if folder.isdecimal() and int(folder) < count:
            return int(folder)
        return ids.get(folder, once.get(folder.replace("_", " ").lower()))

    return class_of


def check_numbered(names: Mapping[int, Any], model: nn.Module, whose: str) -> None:
    """Refuse the names of labels that the model numbers otherwise; ``whose`` they are says the message."""
    class_of = folder_namer(model) if names else None
    for label, name in names.items():
        index = class_of(name) if class_of and isinstance(name, str) else None
        if index not in (None, label):
            raise InputError(
                f"{whose} calls class {label} {name!r}, which is class {index} of {type(model).__name__}; expected labels that number "
                "the classes as the model does, as neuronpath.Source(folder) gives them, or a map (classes) of a Source's labels"
            )


def called(label: int, name: str | None) -> str:
    """A class as messages name it: by its number, and what it is called where that is known."""
    return f"{label} ({name})" if name not in (None, str(label)) else str(label)


def numbered(target: Any, model: nn.Module, class_names: Names | None = None) -> Any:
    """A target with names of classes as their numbers: of the caller's names, else of the model's; anything else as it is."""
    if isinstance(target, str):
        return target if target == LABEL else _number(target, model, class_names)
    if isinstance(target, list | tuple) and any(isinstance(each, str) for each in target):
        return [_number(each, model, class_names) if isinstance(each, str) else each for each in target]
    return target


def _number(name: str, model: nn.Module, class_names: Names | None) -> int:
    if class_names is None:
        found, name_of = folder_namer(model)(name), class_namer(model)
        known = [text for index in range(head_size(model) or 0) if (text := name_of(index))]
    else:
        by_name = {text: index for index, text in _checked(class_names, head_size(model)).items()}
        found, known = by_name.get(name), list(by_name)
    if found is None:
        near = difflib.get_close_matches(name, known, 3) or known[:3]
        such = (
            f" or name, such as {', '.join(map(repr, near))}"
            if near
            else f" or {LABEL!r}; class_names gives its classes names"
        )
        raise InputError(
            f"target {name!r} names no class of {type(inner_of(model)).__name__}; expected a class's number{such}"
        )
    return found
