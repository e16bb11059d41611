"""Errors that any room may raise and the command line shows as one line."""


class InputError(ValueError):
    """What was given cannot be used; the message says what, where, expected, got, what to do."""
