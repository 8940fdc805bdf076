"""Bootstrap intervals over images: 95 %, by percentiles."""

import numpy as np

RESAMPLES = 2000


def resamples(n_images: int, seed: int = 0) -> np.ndarray:
    """Images drawn with replacement, (RESAMPLES, n): the same seed draws the same."""
    return np.random.default_rng(seed).integers(0, n_images, (RESAMPLES, n_images))


def intervals(values: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over images of values (n, ...), and the ends of its interval over resamples ``index`` (R, n), each (...)."""
    low, high = np.quantile(values[index].mean(1), [0.025, 0.975], axis=0)
    return values.mean(0), low, high
