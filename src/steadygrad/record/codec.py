"""Encode numbers as bytes and back; inf, -inf, nan and *absent* remain distinct."""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steadygrad.record.errors import RecordError

# float16 has 2046 bit patterns that all mean NaN. One of them is NaN here, another is *absent*.
_NAN, _ABSENT = 0x7E00, 0x7FFF
_LARGEST = float(np.finfo(np.float16).max)


def packed(values: ArrayLike) -> bytes:
    """Pack one row ``(T,)`` into float16, little-endian, two bytes a value.

    The values are log10 of norms, so that 1e-60 is stored as -60 and not as zero; float16 keeps
    them within 0.016 decades up to 1e±64 and 0.07 up to 1e±300.

    Args:
        values: Numbers; masked entries of a masked array are absent (not measured).

    Raises:
        RecordError: If ``values`` is not one row of real numbers.
    """
    if not isinstance(values, np.ndarray):
        values = np.asarray(values)
    if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "fiub":
        raise RecordError(
            f"a row of a record is one-dimensional, not empty, and real; got shape {values.shape} "
            f"of {values.dtype}. Reduce over batch and units before recording"
        )
    plain = np.ma.getdata(values).astype(np.float64)
    finite = np.isfinite(plain)
    # Clip, so that finite values stay finite: float16 rounds anything beyond 65504 to infinity.
    plain[finite] = plain[finite].clip(-_LARGEST, _LARGEST)
    with np.errstate(under="ignore"):  # a tiny share, such as 1e-9, may underflow to 0
        bits = plain.astype("<f2").view("<u2")
    bits[np.isnan(plain)] = _NAN
    bits[np.ma.getmaskarray(values)] = _ABSENT
    return bits.tobytes()


def unpacked(blob: bytes) -> np.ma.MaskedArray:
    """Unpack one row ``(T,)`` into float64; absent entries are masked.

    Raises:
        RecordError: If the bytes are not a row.
    """
    if not isinstance(blob, bytes) or len(blob) % 2:
        raise RecordError(
            "a row of the record is damaged: its length is not a multiple of two bytes"
        )
    bits = np.frombuffer(blob, dtype="<u2")
    return np.ma.MaskedArray(bits.view("<f2").astype(np.float64), mask=bits == _ABSENT)


def stacked(blobs: list[bytes]) -> np.ma.MaskedArray:
    """Stack rows into ``(S, T)``; a row shorter than the longest is absent at its end."""
    rows = [unpacked(blob) for blob in blobs]
    width = max((len(row) for row in rows), default=0)
    out = np.ma.masked_all((len(rows), width), dtype=np.float64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def stored(value: Any) -> float | str:
    """Return a scalar in a form that SQLite keeps: as text if it is NaN, which SQLite makes NULL.

    Raises:
        RecordError: If ``value`` is not a number.
    """
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise RecordError(f"a scalar of a record is one real number; got {value!r}") from error
    return "nan" if math.isnan(number) else number


def loaded(values: list[float | str]) -> NDArray[np.float64]:
    """Return stored scalars as an array."""
    try:
        return np.array([float(v) for v in values], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise RecordError(
            f"the record is damaged: a scalar in it is not a number ({error})"
        ) from None


def to_json(value: Any) -> str:
    """Return ``value`` as JSON, with Python's ``NaN`` and ``Infinity`` where floats are such.

    Raises:
        RecordError: If something inside has no JSON form.
    """
    try:
        # ASCII escapes, because SQLite refuses lone surrogates, which file names may hold.
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError) as error:
        raise RecordError(
            f"a record keeps numbers, texts, lists and mappings; {error}. Convert it first"
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def from_json(text: str) -> Any:
    """Return what `to_json` was given (tuples come back as lists)."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)[:100]
        raise RecordError(f"the record is damaged: a text in it is not JSON ({reason})") from None
