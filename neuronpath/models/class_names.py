"""What a model's classes are called, and which class a folder's name stands for."""

from collections import Counter
from collections.abc import Callable

from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn


def class_namer(model: nn.Module) -> Callable[[int], str | None]:
    """What the model's classes are called: by its own label names, else ImageNet's where the number of classes says so."""
    own = (getattr(model, "pretrained_cfg", None) or {}).get("label_names")
    classes = getattr(model, "num_classes", None)
    if own and len(own) == classes:
        return lambda label: str(own[label])
    told = getattr(getattr(model, "config", None), "id2label", None)  # transformers' way
    if told and not any(str(name).startswith("LABEL_") for name in told.values()):
        return lambda label: told.get(label)
    subset = infer_imagenet_subset(model)
    if subset is None:
        return lambda label: None
    info = ImageNetInfo(subset)
    return lambda label: info.index_to_description(label).split(",")[0]


def folder_namer(model: nn.Module) -> Callable[[str], int | None]:
    """The class that a folder's name stands for: its number, its WordNet id, or its name where only one class has it."""
    count = getattr(model, "num_classes", 0)
    subset = infer_imagenet_subset(model)
    info = ImageNetInfo(subset) if subset else None
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
