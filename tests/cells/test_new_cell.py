"""CONTRIBUTING's walk to a new cell, taken to the letter in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from docs import cells

ROOT = Path(__file__).parents[2]


def blocks() -> list[str]:
    """The Python in CONTRIBUTING's chapter on cells: the file, and the import line."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    chapter = text.partition("## Add a cell")[2].partition("\n## ")[0]
    return [textwrap.dedent(b) for b in re.findall(r" *```python\n(.*?) *```", chapter, re.DOTALL)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the cell in it."""
    file, line = blocks()
    copy = tmp_path_factory.mktemp("walk") / "src"
    shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
    folder = copy / "steadygrad" / "cells"
    (folder / "leaky.py").write_text(file, encoding="utf-8")
    listing = folder / "__init__.py"
    before = "from steadygrad.cells.lstm import"
    text = listing.read_text(encoding="utf-8")
    assert text.count(before) == 1
    listing.write_text(text.replace(before, line + before), encoding="utf-8")
    return copy


def run(source: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_cell_is_thirty_lines_and_one_import() -> None:
    file, line = blocks()
    assert len(file.splitlines()) <= 30
    assert len(line.splitlines()) == 1


def test_it_has_every_property_and_compiles_and_diagnoses(source: Path) -> None:
    selected = (
        "-k",
        "Leaky or leaky or left_out or names_are_right",
        "-q",
        "-p",
        "no:cacheprovider",
    )
    done = run(source, "-m", "pytest", "tests/cells/test_cells.py", *selected)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed.group(1)) >= 15


def test_it_appears_in_the_command_line(source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("a,b\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(300)))
    done = run(source, "-m", "steadygrad.cli", "train", str(data), "--cell", "nonsense")
    assert done.returncode == 2 and "leaky" in done.stderr
    short = ("--max-steps", "1", "--window", "8", "--horizon", "1", "--hidden", "4")
    out = ("--out", str(tmp_path / "run"))
    done = run(source, "-m", "steadygrad.cli", "train", str(data), "--cell", "leaky", *short, *out)
    assert done.returncode == 0, done.stderr


def test_it_appears_in_the_page_of_cells(source: Path) -> None:
    done = run(source, "-c", "from docs.cells import page; print(page())")
    assert "\n## leaky\n" in done.stdout and "Leaky integrator units." in done.stdout


def test_the_page_of_cells_is_what_the_code_says() -> None:
    assert cells.PAGE.read_text(encoding="utf-8") == cells.page(), "run: make docs"
