"""Formulas of the pages and of docstrings as MathML, which browsers draw by themselves."""

import html
import re

from latex2mathml.converter import convert

BLOCK = re.compile(r"^[ ]*```math\n(.*?)^[ ]*```[ ]*$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"\$`(.+?)`\$", re.DOTALL)
TAG = re.compile(r"<[^>]+>")
NARROW = 32
"""Signs of a formula that fit a line of a phone."""


def with_blocks(text: str) -> str:
    """Turn formulas that have lines of their own into MathML; a long one scrolls, also by keys."""
    return BLOCK.sub(lambda m: f"\n{_display(m.group(1))}\n", text)


def with_formulas(text: str) -> str:
    """Turn formulas within text into MathML; one wider than a phone scrolls, also by keys."""
    return INLINE.sub(lambda m: _within_text(m.group(1)), text)


def _display(formula: str) -> str:
    # GitHub knows `aligned`; the converter only `align*`, and would write each & as a letter.
    formula = _one_line(formula).replace("{aligned}", "{align*}")
    markup = convert(formula, display="block")
    return markup.replace("<math ", '<math tabindex="0" ', 1)


def _within_text(formula: str) -> str:
    markup = convert(_one_line(formula))
    if len(html.unescape(TAG.sub("", markup))) <= NARROW:
        return f"<span>{markup}</span>"  # Markdown ends a paragraph at a line that begins with math
    return f'<span class="formula" tabindex="0">{markup}</span>'


def _one_line(formula: str) -> str:
    return " ".join(formula.split())
