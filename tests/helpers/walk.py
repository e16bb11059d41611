"""A walk of CONTRIBUTING, taken to the letter in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.forked import python

ROOT = Path(__file__).parents[2]
ASK = """
import contextlib, importlib, io, json, sys
from steadygrad.cli import main
answers = []
for name, *rest in json.loads(sys.argv[1]):
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        if name == "docs":
            code = print(importlib.import_module(f"docs.{rest[0]}").page())
        else:
            code = main([name, *rest])
    answers.append([code, output.getvalue(), errors.getvalue()])
print(json.dumps(answers))
"""


def blocks(chapter: str) -> tuple[str, str]:
    """The Python in a chapter: the file, and the import line."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    body = text.partition(f"## {chapter}\n")[2].partition("\n## ")[0]
    found = re.findall(r" *```python\n(.*?) *```", body, re.DOTALL)
    file, line = (textwrap.dedent(block) for block in found)
    return file, line


def walked(chapter: str, room: str, folder: Path) -> Path:
    """Copy the package into ``folder``, with the file and the import line of the chapter."""
    file, line = blocks(chapter)
    assert len(line.splitlines()) == 1
    copy = folder / "src"
    # With what Python has compiled: it goes by the time of the sources, which is copied, too.
    shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("*.pyc.*"))
    home = copy / "steadygrad" / room
    module = line.split()[1].rpartition(".")[2]
    (home / f"{module}.py").write_text(file, encoding="utf-8")
    listing = home / "__init__.py"
    text = listing.read_text(encoding="utf-8")
    first = re.search(rf"^from steadygrad\.{room}\.", text, re.MULTILINE)
    assert first is not None
    # At the end of the import lines, as an import that the others may need comes before it.
    lines = text.splitlines(keepends=True)
    last = max(i for i, each in enumerate(lines) if each.startswith(f"from steadygrad.{room}."))
    lines.insert(last + 1, line)
    listing.write_text("".join(lines), encoding="utf-8")
    return copy


@dataclass(frozen=True)
class Answer:
    """What a command line ended with and wrote."""

    code: int | None
    output: str
    errors: str


def ask(source: Path, *commands: tuple[str, ...]) -> list[Answer]:
    """Run command lines on the copy, one after another in one process; ``("docs", page)`` too."""
    # That it compiles is the question of another test.
    done = run(source, "-c", ASK, json.dumps(commands), STEADYGRAD_BACKEND="eager")
    assert done.returncode == 0, done.stderr
    return [Answer(*answer) for answer in json.loads(done.stdout)]


def run(source: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python on the copy of the package, in a process of its own."""
    return python(*command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(source)} | environment)
