"""The period of a series, and the seasonal naive forecast."""

import numpy as np

MAX_PERIOD = 1000
MOST_ROWS = 2**20  # most values that are used
MOST_ORIGINS = 20_000


def autocorrelation_period(series: np.ndarray) -> int | None:
    r"""Return the lag of the first high peak of the autocorrelation after it has fallen below zero.

    A linear trend is removed first, which could otherwise pass for a very long cycle.
    Computed by FFT: :math:`r = \mathcal F^{-1} |\mathcal F x|^2`.
    """
    series = series[-MOST_ROWS:]
    n = len(series)
    longest = min(MAX_PERIOD, n // 3)
    if longest < 4 or np.ptp(series) == 0:
        return None
    t = np.arange(n)
    x = series - np.polyval(np.polyfit(t, series, 1), t)
    spectrum = np.abs(np.fft.rfft(x, 2 * n)) ** 2
    r = np.fft.irfft(spectrum)[: longest + 1]
    r = r / (r[0] or 1.0) * (n / (n - np.arange(longest + 1)))  # unbiased: fewer pairs at long lags
    below = np.flatnonzero(r < 0)
    if len(below) == 0:
        return None
    inner = np.arange(max(2, below[0]), longest)
    peaks = inner[(r[inner] >= r[inner - 1]) & (r[inner] >= r[inner + 1]) & (r[inner] > 0.1)]
    # Multiples of the period peak too, by chance higher: take the first peak that is nearly as
    # high.
    return int(peaks[np.argmax(r[peaks] > 0.9 * r[peaks].max())]) if len(peaks) else None


def best_period(train: np.ndarray, candidates: list[int], horizon: int) -> int | None:
    """Return the candidate whose seasonal forecast has the lowest error on the training part.

    The shortest of nearly equal ones, because multiples of the period do as well.
    """
    usable = sorted({p for p in candidates if 1 < p <= len(train) // 2})
    if not usable:
        return None
    origins = np.arange(max(usable) - 1, len(train) - horizon)
    if len(origins) == 0:
        return None
    origins = origins[:: max(1, len(origins) // MOST_ORIGINS)]
    truth = train[origins[:, None] + np.arange(1, horizon + 1)]
    errors = [np.mean((seasonal(train, origins, horizon, p) - truth) ** 2) for p in usable]
    return usable[int(np.argmax(np.array(errors) <= 1.1 * min(errors)))]


def seasonal(series: np.ndarray, origins: np.ndarray, horizon: int, period: int) -> np.ndarray:
    """Repeat the last whole season: ``(W,)`` origins (last seen rows) -> ``(W, horizon)``."""
    ahead = np.arange(1, horizon + 1)
    back = period * -(-ahead // period)  # whole seasons back, to a known row
    return series[origins[:, None] + ahead - back]
