"""The map of the rooms, drawn from the import contract: ``python -m docs.architecture``."""

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "steadygrad"
PAGE = Path(__file__).with_suffix(".md")
TOP = """\
# How the code is laid out

<!-- Made by `python -m docs.architecture`; edit the import contract in pyproject.toml instead. -->

Every folder of `src/steadygrad` is a room with one job. A room may import what stands below it in
this table, and nothing above or beside it; import-linter checks this in `make check`. Several rooms
in one row do not import each other.
"""
FLOW = """\
## How data flows

A cell (`cells`) is one step of a recurrence. `scan` traces the step (`scan/ir`), and a back end
(`scan/backends`) runs it over time, forward and backward. `nn` wraps scans as torch modules. `flow`
measures gradients in any of them, `diagnosis` asks every fault (`faults`) what it recognises in the
measurements, and `remedies` change a model or its training. `train` runs a whole training on a file
and writes a record (`record`), which `report` draws without knowing any model. The command line
(`cli`) only parses options and prints.

## Where to add things

| to add | write one file in | and one import line in |
|---|---|---|
| a cell | `cells/` | `cells/__init__.py` |
| a fault | `faults/` | `faults/__init__.py` |
| a remedy | `remedies/` | `remedies/__init__.py` |
| a task | `tasks/` | `tasks/__init__.py` |
| a quantity | `flow/` | `flow/__init__.py` |
| a back end | `scan/backends/` | `scan/backends/__init__.py` |
| a command | `cli/` | the table of commands in `cli/` |

[CONTRIBUTING.md](../CONTRIBUTING.md) walks through each.
"""


@dataclass(frozen=True)
class Room:
    """One folder or module of the package.

    Attributes:
        name: Its name below `steadygrad`.
        purpose: The first line of its docstring.
        files: Number of Python files in it.
        lines: Number of lines in those.
    """

    name: str
    purpose: str
    files: int
    lines: int


def layers() -> list[list[str]]:
    """The rooms of the contract, the highest first; rooms of one row are independent.

    Modules that begin with an underscore, which are no rooms, are left out.
    """
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    rows = next(c["layers"] for c in contracts["contracts"] if c["type"] == "layers")
    split = ([name.strip(" ()") for name in row.split("|")] for row in rows)
    return [[name for name in row if not name.startswith("_")] for row in split]


def present() -> set[str]:
    """Every room that exists, without modules that begin with an underscore."""
    folders = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    modules = {p.stem for p in PACKAGE.glob("*.py")}
    return {name for name in folders | modules if not name.startswith("_")}


def room(name: str) -> Room:
    """Read one room."""
    folder = PACKAGE / name
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    head = folder / "__init__.py" if folder.is_dir() else files[0]
    text = ast.get_docstring(ast.parse(head.read_text("utf-8"))) or ""
    lines = sum(len(f.read_text("utf-8").splitlines()) for f in files)
    return Room(name, text.partition("\n")[0], len(files), lines)


def page() -> str:
    """The whole page."""
    rows = ["| room | what is in it |", "|---|---|"]
    for names in layers():
        rooms = [room(name) for name in names]
        folders = ", ".join(f"`{r.name}`" for r in rooms)
        rows.append(f"| {folders} | {' '.join(r.purpose for r in rooms)} |")
    return "\n".join([TOP, *rows, "", FLOW])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
