"""Errors that any room may raise and the command line shows as one line."""

import difflib
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any


class InputError(ValueError):
    """The input cannot be used; the message says what, where, expected, got, and what to do."""


class RecordError(ValueError):
    """A record cannot be made, opened, written or read; the message says why and what to do."""


class LostProcess(RuntimeError):
    """Another process of this training died or is out of step."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'lstm'?"``, or nothing if no known name is similar."""
    near = difflib.get_close_matches(given, list(known), 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is not one of ``choices``.

    Raises:
        InputError: It is not one of them; a ValueError.
    """
    if not isinstance(value, str) or value not in choices:
        near = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise InputError(f"{name}: expected {' or '.join(map(repr, choices))}, got {value!r}{near}")


def check_count(name: str, value: object, least: int = 1, *, optional: bool = False) -> None:
    """Refuse a value that is not a whole number of at least ``least``, or None if ``optional``.

    Raises:
        InputError: It is not; a ValueError.
    """
    if value is None and optional:
        return
    count: Any = value
    if not isinstance(value, Integral) or isinstance(value, bool) or count < least:
        also = ", or None" if optional else ""
        raise InputError(f"{name}: expected a whole number, at least {least}{also}, got {value!r}")
