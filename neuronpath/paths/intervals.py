"""Bootstrap intervals over images: 95 %, by percentiles."""

from collections.abc import Callable

import numpy as np

RESAMPLES = 2000
AT_ONCE = 20  # resamples held at a time, each with a value an image


def resampled(values: np.ndarray, seed: int = 0, statistic: Callable[..., np.ndarray] = np.mean) -> np.ndarray:
    """A statistic over images of values (n, ...), in samples of them with replacement: (RESAMPLES, ...).

    The same seed draws the same images.
    """
    draw, count = np.random.default_rng(seed), len(values)
    return np.concatenate(
        [statistic(values[draw.integers(0, count, (AT_ONCE, count))], axis=1) for _ in range(RESAMPLES // AT_ONCE)]
    )


def intervals(values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over images of values (n, ...), and the ends of its interval, each (...)."""
    low, high = np.quantile(resampled(values, seed), [0.025, 0.975], axis=0)
    return values.mean(0), low, high
