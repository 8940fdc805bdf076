"""What a data set or a loader gives: an image or several, beside labels or alone."""

from typing import Any

PIXELS, LABELS = ("pixel_values", "image", "images", "img"), ("label", "labels", "target")  # of dictionaries


def parts(element: Any) -> tuple[Any, Any]:
    """The pixels and the labels of what a data set or a loader gives."""
    if isinstance(element, dict):
        found = [next((element[key] for key in keys if key in element), None) for keys in (PIXELS, LABELS)]
        return found[0], found[1]
    if isinstance(element, tuple | list) and element:
        return element[0], element[1] if len(element) > 1 else None
    return element, None


def whole(data: Any) -> Any:
    """The data set that says what its classes are called (``classes``), below loaders and subsets; else the innermost."""
    while not hasattr(data, "classes") and hasattr(data, "dataset"):
        data = data.dataset
    return data
