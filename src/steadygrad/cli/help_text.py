"""Help texts: the overview of all commands, and wrapping of lines between words."""

import contextlib
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

Command = TypeVar("Command", bound=Callable[..., int])
WIDEST = 100


def width() -> int:
    """Columns of a line: those of the terminal, at most 100."""
    return max(40, min(WIDEST, shutil.get_terminal_size().columns))


def overview(description: str, commands: Mapping[str, str], ending: str) -> str:
    """Return the help of the program: every command with one sentence."""
    columns, name_width = width(), max(map(len, commands))
    usage = "usage: steadygrad [-h] [--version] COMMAND ..."
    lines = [*_wrap(usage, columns), "", *_wrap(description, columns)]
    lines += ["", "commands:"]
    for name, sentence in commands.items():
        first, *rest = _wrap(sentence, columns - name_width - 4)
        lines.append(f"  {name:<{name_width}}  {first}")
        lines += [" " * (name_width + 4) + line for line in rest]
    hint = "`steadygrad COMMAND --help` lists the options of a command."
    return "\n".join([*lines, "", *_wrap(hint, columns), *_wrap(ending, columns)])


def flowing(command: Command) -> Command:
    """Join each argument in the docstring of ``command`` to one line, which the parser wraps.

    The parser keeps the line breaks of a function's docstring and wraps between them, which
    leaves a ragged column.
    """
    head, args, rest = (command.__doc__ or "").partition("\n    Args:\n")
    if args:
        described, gap, after = rest.partition("\n\n")
        one_line = described.replace("\n" + 12 * " ", " ")
        command.__doc__ = head + args + one_line + gap + after
    return command


@contextlib.contextmanager
def folded(active: bool) -> Iterator[None]:
    """Wrap lines printed within the context between words, if ``active``."""
    if not active:
        yield
        return
    stream: Any = _Folded(sys.stdout)
    with contextlib.redirect_stdout(stream):
        yield


class _Folded:
    """A stream that wraps long lines; everything else is delegated."""

    def __init__(self, below: Any) -> None:
        self._below = below

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    def write(self, text: str) -> int:
        columns = shutil.get_terminal_size().columns
        for line in text.splitlines(keepends=True):
            plain = line.rstrip("\n")
            ending = line[len(plain) :]
            parts = [plain] if len(plain) <= columns or "│" in plain else _wrap(plain, columns)
            self._below.write("\n".join(parts) + ending)
        return len(text)


def _wrap(text: str, columns: int) -> list[str]:
    return textwrap.wrap(text, columns, break_long_words=False, break_on_hyphens=False)
