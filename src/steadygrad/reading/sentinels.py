"""Numbers that stand for a missing value, such as -200 or 9999: far outside and frequent."""

from collections.abc import Mapping

import numpy as np

CODES = frozenset(
    {
        *(-9.0, -99.0, -99.9, -99.99, -200.0, -999.0, -999.9, -999.99, -9999.0, -9999.9, -99999.0),
        *(-999999.0, -32768.0, 99.0, 99.9, 99.99, 999.0, 999.9, 999.99, 9999.0, 9999.9, 99999.0),
        *(999999.0, 9999999.0, 32767.0, -8888.0, -7777.0, -6999.0, 1e20, 1e30, -1e20, -1e30, 1e36),
        *(-888.0, -777.0, 6999.0),
        # What netCDF, GrADS and others fill with, in full and as it is printed.
        *(9.969209968386869e36, 9.96921e36, 9.999e20, 1e35, -1e34, 3.4028235e38, -3.4028235e38),
        *(3.4028234663852886e38, -3.4028234663852886e38, 3.40282e38, -3.40282e38),
    }
)
FAR = 0.25  # of the range of all other values
HUGE = 1e20  # with which files of climate and weather are filled
VERY_FAR = 3.0  # ranges, for a code that comes less often than `LEAST`
LEAST = 3  # rows, in one column of the file at least


def find_sentinels(
    numbers: Mapping[str, np.ndarray],
) -> tuple[dict[str, tuple[float, int, float, float]], list[str]]:
    """Find codes for missing values.

    A code is known as one, lies outside of all other values by a quarter of their range, and comes
    at least three times. In the other columns of a file that uses it, once is enough; and so it is
    for -99 and below where it lies three ranges below all others and for 1e20 and beyond; twice
    for 999 and above where it lies fifteen ranges above them.

    Returns:
        By column the code, how often it comes, and the lowest and highest of the other values; and
        warnings about values that look like codes but are not known as such.
    """
    found: dict[str, tuple[float, int, float, float]] = {}
    warnings: list[str] = []
    for name, values in numbers.items():
        for code, count, low, high in _outliers(values):
            is_alone = code <= -99 and low - code > VERY_FAR * (high - low)
            is_alone |= count > 1 and code >= 999 and code - high > 5 * VERY_FAR * (high - low)
            is_alone |= abs(code) >= HUGE and max(abs(low), abs(high)) < HUGE / 1e3
            if code in CODES and (count >= LEAST or is_alone):
                found[name] = (code, count, low, high)
                break
            if code not in CODES and count >= max(LEAST, len(values) // 200) and _is_roundish(code):
                warnings.append(
                    f"column {name!r}: {code:g} is far outside of the rest ({low:g} to {high:g})"
                    f" and frequent ({count} rows); if it stands for a missing value, pass"
                    f" --missing={code:g}"
                )
        if name not in found and (alone := _only_negative(values)):
            code, times = f"{alone[0]:g}", f"{alone[1]} time{'s'[: alone[1] > 1]}"
            warnings.append(
                f"column {name!r}: {code} is the only value below zero and comes {times}; if it"
                f" stands for a missing value, pass --missing={code}"
            )
    used = {code for code, *_ in found.values()}
    for name, values in numbers.items():
        if name not in found:
            for code, count, low, high in _outliers(values):
                if code in used:
                    found[name] = (code, count, low, high)
                    break
    return found, warnings


def _only_negative(values: np.ndarray) -> tuple[float, int] | None:
    """Return a known code that is the only value below zero, in a wide range of others."""
    below = values[values < 0]
    if not len(below) or below[0] not in CODES or below[0] > -99 or (below != below[0]).any():
        return None
    return float(below[0]), len(below)


def _outliers(values: np.ndarray) -> list[tuple[float, int, float, float]]:
    """Return lowest and highest value, where they lie far from the others: value, count, range."""
    known = values[np.isfinite(values)]
    outside: list[tuple[float, int, float, float]] = []
    if len(known) < 4:
        return outside
    for code in (float(known.min()), float(known.max())):
        rest = known[known != code]
        if len(rest) < 2:
            continue
        low, high = float(rest.min()), float(rest.max())
        distance = low - code if code < low else code - high
        spread = high - low
        if distance > FAR * spread and spread > 0:
            outside.append((code, len(known) - len(rest), low, high))
    return outside


def _is_roundish(code: float) -> bool:
    """Whether a value could be a code: whole, and negative or made of one digit."""
    digits = f"{abs(code):g}"
    return code == int(code) and (code < 0 or (len(digits) > 1 and len(set(digits)) == 1))
