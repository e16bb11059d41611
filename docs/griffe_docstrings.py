"""Read docstrings as this library writes them: formulas, examples, several names in one entry."""

import re
from typing import Any

import griffe
from latex2mathml.converter import convert

from docs.docstring import markdown

SHARED = re.compile(r"^( +)((?:\w+, )+)(\w+): ", re.MULTILINE)
BLOCK = re.compile(r"^[ ]*```math\n(.*?)^[ ]*```[ ]*$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"\$`(.+?)`\$", re.DOTALL)


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
    text = BLOCK.sub(lambda m: convert(_one_line(m.group(1)), display="block"), markdown(text))
    return INLINE.sub(lambda m: convert(_one_line(m.group(1))), text)


def _apart(entry: re.Match[str]) -> str:
    """One entry for each name: all but the last refer to the last."""
    space, names, last = entry.groups()
    firsts = [name for name in names.split(", ") if name]
    return "".join(f"{space}{name}: See `{last}`.\n" for name in firsts) + f"{space}{last}: "


def _one_line(formula: str) -> str:
    return " ".join(formula.split())
