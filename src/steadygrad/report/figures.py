"""Format numbers for readers: shares as percents, tiny ones as powers of ten."""

import math
from typing import Any

TIMES, _MINUS = "\u00d7", "\u2212"
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def power(exponent: float) -> str:
    """Return ten to a whole power: ``10⁻³⁹``."""
    return "10" + str(round(exponent)).translate(_SUPERSCRIPT)


def plain(value: Any) -> str:
    """Return a number with four significant digits; a non-finite one by its name."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e6):
        return f"{int(value):,}".replace("-", _MINUS)
    if not 1e-3 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}{TIMES}{power(int(exponent))}".replace("-", _MINUS)
    return f"{value:,.4g}".replace("-", _MINUS)


def share(log10_ratio: float) -> str:
    """Return what is left of a gradient: ``12 %``, ``1/10,000``, ``10⁻³⁹``, ``nothing``."""
    if math.isnan(log10_ratio):
        return "NaN"
    if math.isinf(log10_ratio):
        return "∞" if log10_ratio > 0 else "nothing"
    if log10_ratio > 0.3:
        times = plain(float(f"{10**log10_ratio:.2g}")) if log10_ratio < 4 else power(log10_ratio)
        return f"{times} times as much"
    if log10_ratio >= -2.5:
        return f"{100 * 10**log10_ratio:.2g} %" if log10_ratio < -0.01 else _percent(log10_ratio)
    if log10_ratio >= -6.5:
        # Two significant digits: 1/9,931 would suggest too much precision.
        parts = 10**-log10_ratio
        unit = 10 ** max(0, math.floor(math.log10(parts)) - 1)
        return f"1/{round(parts / unit) * unit:,}"
    return power(log10_ratio)


def threshold(log10_ratio: float) -> str:
    """Return a limit as a share: ``1/10,000``."""
    whole = abs(log10_ratio - round(log10_ratio)) < 1e-9
    return (
        f"1/{10 ** round(-log10_ratio):,}" if whole and -9 < log10_ratio < 0 else share(log10_ratio)
    )


def score(value: Any, unit: str) -> str:
    """Return a score with its unit; a share is a percent."""
    if isinstance(value, int | float) and math.isfinite(value):
        is_share = any(word in unit.lower() for word in ("accuracy", "share", "error rate"))
        if is_share and 0 <= value <= 1:
            return f"{100 * value:.1f} %"
        if unit.startswith("%"):
            return f"{value:.1f} %"
    return plain(value)


def scored(value: Any, unit: str) -> str:
    """Return a score followed by its unit, the percent sign once."""
    text = score(value, unit)
    rest = unit.removeprefix("%").strip() if text.endswith("%") else unit
    return f"{text} {rest}".strip()


def _percent(log10_ratio: float) -> str:
    return f"{100 * 10**log10_ratio:,.0f} %"
