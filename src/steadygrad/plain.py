"""Read plain values (JSON, TOML) back into dataclasses, with type checks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

MOST = 2**63  # larger than any of our counts; SQLite and torch cannot hold it
_SHOWN = 40  # characters of a value shown in a message

T = TypeVar("T")
type_hints = lru_cache(maxsize=256)(get_type_hints)
"""The annotations of a dataclass, found once."""


class Misfit(ValueError):
    """A value does not fit the dataclass; the message says where, expected and got."""


def fit(kind: type[T], value: object, where: str = "") -> T:
    """Make an instance of a dataclass from a mapping, checking each value against its annotation.

    Unknown names are refused, missing ones take their default. A whole number is accepted for a
    float, a list for a tuple. ``__post_init__`` of the dataclass checks what types cannot.

    Args:
        kind: The dataclass.
        value: The mapping.
        where: Its name for the message, such as ``"progress"``.

    Raises:
        Misfit: A value does not fit.
    """
    where = where or kind.__name__
    if not isinstance(value, Mapping):
        raise Misfit(f"{where}: expected a mapping, got {shown(value)}")
    hints = type_hints(kind)
    known = {f.name: f for f in fields(kind) if f.init}  # pyright: ignore[reportArgumentType]
    for name in value:
        if name not in known:
            raise Misfit(f"{where}: no {shown(name)} is known; there are: {', '.join(known)}")
    given: dict[str, Any] = {}
    for name, field in known.items():
        if name in value:
            given[name] = fitted(hints[name], value[name], f"{where}.{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise Misfit(f"{where}: {name} is missing")
    try:
        return kind(**given)
    except Misfit:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise Misfit(f"{where}: {error}") from None


def fitted(hint: Any, value: object, where: str) -> Any:
    """Return ``value`` as an instance of the annotation ``hint``.

    Raises:
        Misfit: It does not fit.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        return _one_of(inner, value, where)
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in inner):
            return value
    elif hint is NoneType:
        if value is None:
            return None
    elif hint in (int, float, bool, str):
        return _simple(hint, value, where)
    elif hint is Path:
        if isinstance(value, str | Path) and "\0" not in str(value):
            return Path(value)
    elif is_dataclass(hint) and isinstance(hint, type):
        return fit(hint, value, where)
    elif origin in (tuple, list, Sequence):
        if isinstance(value, list | tuple):
            return _items(origin, inner, value, where)
    elif origin in (dict, Mapping):
        if isinstance(value, Mapping):
            return {
                fitted(inner[0], k, where): fitted(inner[1], v, f"{where}.{k:.{_SHOWN}}")
                for k, v in value.items()
            }
    else:  # an annotation not handled above, a bug of ours and not of the file
        raise TypeError(f"{where}: {hint} cannot be read back")
    raise Misfit(f"{where}: expected {_told(hint)}, got {shown(value)}")


def shown(value: object) -> str:
    """A value for a message, shortened if long."""
    text = repr(value) if not isinstance(value, int) or abs(value) < MOST else "a huge number"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _one_of(choices: Sequence[Any], value: object, where: str) -> Any:
    for choice in choices:
        try:
            return fitted(choice, value, where)
        except Misfit:
            continue
    expected = " or ".join(map(_told, choices))
    raise Misfit(f"{where}: expected {expected}, got {shown(value)}")


def _simple(hint: type, value: object, where: str) -> Any:
    if hint is float and type(value) is int and abs(value) < MOST:
        return float(value)
    holds = type(value) is hint and not (isinstance(value, int) and abs(value) >= MOST)
    if not holds:
        raise Misfit(f"{where}: expected {_told(hint)}, got {shown(value)}")
    return value


def _items(origin: Any, inner: Sequence[Any], value: Sequence[object], where: str) -> Any:
    hints = list(inner)
    if origin is not tuple or (len(hints) == 2 and hints[1] is Ellipsis):
        hints = hints[:1] * len(value)
    if len(hints) != len(value):
        raise Misfit(f"{where}: expected {len(hints)} values, got {len(value)}")
    found = [
        fitted(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(zip(hints, value, strict=True))
    ]
    return tuple(found) if origin is tuple else found


def _told(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(repr(choice) for choice in get_args(hint))
    names: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        NoneType: "nothing",
        Path: "a path",
    }
    return names.get(hint, "a list" if get_origin(hint) in (tuple, list, Sequence) else "a mapping")


def is_count(value: int) -> bool:
    """Whether a number is a valid count of steps, epochs or rows."""
    return 0 <= value < MOST


def is_real(value: float) -> bool:
    """Whether a float is not NaN; infinities count."""
    return not math.isnan(value)
