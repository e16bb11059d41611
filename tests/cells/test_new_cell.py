"""CONTRIBUTING's walk to a new cell, taken to the letter in a copy of the package."""

import re
from pathlib import Path

import pytest

from docs import cells
from tests.helpers.walk import ask, blocks, run, walked


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the cell in it."""
    return walked("Add a cell", "cells", tmp_path_factory.mktemp("walk"))


def test_the_cell_is_thirty_lines_and_one_import() -> None:
    file, line = blocks("Add a cell")
    assert len(file.splitlines()) <= 30
    assert len(line.splitlines()) == 1


@pytest.mark.slow
def test_it_has_every_property_and_compiles_and_diagnoses(source: Path) -> None:
    selected = (
        "-k",
        "Leaky or leaky or left_out or names_are_right",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "slow or not slow",
    )
    done = run(source, "-m", "pytest", "tests/cells/test_cells.py", *selected)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed.group(1)) >= 15


def test_it_appears_in_the_command_line_and_the_page(source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("a,b\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(300)))
    short = ("--max-steps", "1", "--window", "8", "--horizon", "1", "--hidden", "4")
    wrong, right, page = ask(
        source,
        ("train", str(data), "--cell", "nonsense"),
        ("train", str(data), "--cell", "leaky", *short, "--out", str(tmp_path / "run")),
        ("docs", "cells"),
    )
    assert wrong.code == 2 and "leaky" in wrong.errors
    assert right.code == 0, right.errors
    assert "\n## leaky\n" in page.output and "Leaky integrator units." in page.output


def test_the_page_of_cells_is_what_the_code_says() -> None:
    assert cells.PAGE.read_text(encoding="utf-8") == cells.page(), "run: make docs"
