"""A bar over long work."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from tqdm import tqdm
from tqdm.auto import tqdm as fitting_tqdm


def bar_over(progress: bool | tqdm, total: int, unit: str = "image", **more: Any) -> AbstractContextManager[tqdm]:
    """The caller's own bar, which is left open; or one over ``total``, shown where ``progress`` is True, that closes here."""
    if isinstance(progress, tqdm):
        return nullcontext(progress)
    return fitting_tqdm(total=total, unit=unit, disable=not progress, **more)
