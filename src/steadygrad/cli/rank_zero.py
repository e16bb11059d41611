"""One voice for a program that torchrun runs several times at once: the first process's."""

import contextlib
import io
import os
from collections.abc import Iterator


def is_first() -> bool:
    """Whether this process is the one that prints; without torchrun it always is."""
    return os.environ.get("RANK", "0") == "0" or "TORCHELASTIC_RUN_ID" not in os.environ


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Print nothing in any process but the first; an exception that gets out is still shown."""
    if is_first():
        yield
        return
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield
