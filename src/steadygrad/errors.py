"""Errors that any room may raise and the command line shows as one line."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What was given cannot be used; the message says what, where, expected, got, what to do."""


class RecordError(ValueError):
    """A record cannot be made, opened, written or read; the message says why and what to do."""


class LostProcess(RuntimeError):
    """Another process of this training died or is out of step."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'lstm'?"``, or nothing where no known name is near."""
    near = difflib.get_close_matches(given, list(known), 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
