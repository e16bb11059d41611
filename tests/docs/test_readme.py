"""What the README shows is run."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch

import steadygrad as sg

README = Path(__file__).parents[2] / "README.md"


def test_the_ten_lines_on_the_readers_own_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert "verdict: vanishing" in capsys.readouterr().out
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_the_readers_own_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of a frozen dataclass in `exec` needs a module of its own."""
    code = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[-1]
    room = types.ModuleType("own_cell")
    room.__dict__.update(torch=torch, sg=sg)
    monkeypatch.setitem(sys.modules, "own_cell", room)
    exec(compile(code, "README.md", "exec"), room.__dict__)
    output, _ = room.__dict__["layer"](torch.randn(20, 3, 8))
    assert output.shape == (20, 3, 128)


def test_the_numbers_of_cells_and_remedies_are_those_there_are() -> None:
    text = README.read_text()
    assert f"the [{len(sg.cells.CELLS)} cells]" in text
    assert f"{len(sg.remedies.REMEDIES)} remedies" in text


def test_the_pictures_are_there() -> None:
    names = re.findall(r"!\[[^]]*\]\(([^)]*)\)", README.read_text())
    assert len(names) == 2
    for name in names:
        assert (README.parent / name).read_text().startswith("<svg")
