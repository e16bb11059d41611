"""Read docstrings as this library writes them: formulas, examples, several names in one entry."""

import re
from typing import Any

import griffe

from docs.docstring import markdown
from docs.formulas import with_blocks, with_formulas

SHARED = re.compile(r"^( +)((?:\w+, )+)(\w+): ", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one."""
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    """A docstring with its formulas as MathML, and its sections by the names that griffe knows."""
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
    text = SHARED.sub(_apart, text)
    return with_formulas(with_blocks(markdown(text)))


def _apart(entry: re.Match[str]) -> str:
    """One entry for each name: all but the last refer to the last."""
    space, names, last = entry.groups()
    firsts = [name for name in names.split(", ") if name]
    return "".join(f"{space}{name}: See `{last}`.\n" for name in firsts) + f"{space}{last}: "
