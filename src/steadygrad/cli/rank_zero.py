"""Under torchrun, print from the first process alone."""

import contextlib
import io
import os
from collections.abc import Iterator


def is_first() -> bool:
    """Whether this process prints; always without torchrun."""
    return os.environ.get("RANK", "0") == "0" or "TORCHELASTIC_RUN_ID" not in os.environ


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Silence all processes but the first; uncaught exceptions are still shown."""
    if is_first():
        yield
        return
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield
