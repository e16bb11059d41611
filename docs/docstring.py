"""A docstring, taken apart and written as GitHub's Markdown."""

import inspect
import re
from dataclasses import dataclass, field

HEADINGS = ("Args", "Shapes", "References", "Example", "Raises", "Returns", "Attributes")


@dataclass(frozen=True)
class Docstring:
    """A docstring in Google's form.

    Attributes:
        summary: Its first line.
        paragraphs: The description, paragraph by paragraph, a formula being one.
        sections: Text below each heading.
    """

    summary: str
    paragraphs: list[str]
    sections: dict[str, str] = field(default_factory=dict)


def parse(text: str) -> Docstring:
    """Take a docstring apart."""
    lines = inspect.cleandoc(text).split("\n")
    description: list[str] = []
    sections: dict[str, list[str]] = {}
    into = description
    for line in lines[1:]:
        if line.rstrip(":") in HEADINGS and line.endswith(":"):
            into = sections.setdefault(line.rstrip(":"), [])
        else:
            into.append(line)
    paragraphs = re.split(r"\n\n(?=\S)", "\n".join(description).strip("\n"))
    return Docstring(
        lines[0],
        paragraphs,
        {name: inspect.cleandoc("\n" + "\n".join(body)) for name, body in sections.items()},
    )


def markdown(text: str) -> str:
    """Write reStructuredText's formulas and literals as GitHub renders them.

    Formulas become fenced blocks and backticked dollars: inside of these Markdown leaves
    underscores, stars and backslashes alone.
    """
    text = re.sub(r"\.\. math::\n+((?:[ ]+.*\n?|\n(?=[ ]))+)", _block, text)
    text = re.sub(r":math:`([^`]+)`", lambda m: f"$`{' '.join(m.group(1).split())}`$", text)
    return re.sub(r"(?<!`)``(?!`)", "`", text)


def _block(found: re.Match[str]) -> str:
    formula = inspect.cleandoc(found.group(1))
    if "&" in formula or "\\\\" in formula:
        formula = f"\\begin{{aligned}}\n{formula}\n\\end{{aligned}}"
    return f"```math\n{formula}\n```\n"


def entries(section: str) -> list[tuple[str, str]]:
    """Read ``name: text`` entries, their lines joined."""
    found: list[tuple[str, str]] = []
    for line in section.split("\n"):
        match = re.match(r"([A-Za-z_, ]+): (.*)", line)
        if match:
            found.append((match.group(1), match.group(2)))
        elif found:
            name, text = found.pop()
            found.append((name, f"{text} {line.strip()}".strip()))
    return found


def items(section: str) -> list[str]:
    """Read sentences that begin in the first column, one source each."""
    joined: list[str] = []
    for line in section.split("\n"):
        if joined and not re.search(r"[.)]$", joined[-1]):
            joined[-1] += " " + line.strip()
        elif line:
            joined.append(line.strip())
    return joined
