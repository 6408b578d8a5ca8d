"""Draws with replacement, and the interval of what they give. NumPy only."""

import numpy as np


def draws(random: np.random.Generator, count: int, size: int) -> np.ndarray:
    """(count, size) float64: how often each of `size` things is drawn in `size` draws with replacement."""
    return random.multinomial(size, np.full(size, 1 / size), count).astype(np.float64)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """(low, high): the percentile interval of bootstrap values (draws,)."""
    low, high = np.quantile(values, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)
