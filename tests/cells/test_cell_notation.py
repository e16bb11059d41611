"""One notation for cells, wherever a name is accepted, and cells of the user's own."""

import json
import sys
from pathlib import Path

import pytest
import torch

import steadygrad as sg
from steadygrad.bench.trial import Trial
from steadygrad.cli import main
from steadygrad.errors import InputError
from tests.helpers import grid_work

SOURCE = """
from dataclasses import dataclass
from typing import ClassVar

import torch

from steadygrad.cells import Cell


@dataclass(frozen=True)
class Leaky(Cell):
    name: ClassVar[str] = "leaky"
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    keep: float = 0.5

    def __post_init__(self):
        if not 0 <= self.keep <= 1:
            raise ValueError(f"keep is a share, got {self.keep}")

    def step(self, x, recur, state, unit):
        (h,) = state
        return (self.keep * h + (1 - self.keep) * torch.tanh(x.candidate + recur.candidate(h)),)


def model():
    layer = __import__("steadygrad").Recurrent(Leaky(0.25), 2, 4)
    return layer, lambda: layer(torch.ones(5, 2, 2))[0].sum()


class Other:
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / "own_cells_of_a_test.py"
    file.write_text(SOURCE)
    return file


@pytest.mark.parametrize(
    "text", ["lstm", "gru_original", "elman:nonlinearity=relu", "rnn", "clockwork:modules=2"]
)
def test_a_layer_takes_what_the_command_line_takes(text: str) -> None:
    assert sg.Recurrent(text, 3, 8).cell == sg.cells.parse(text)


def test_a_cell_of_ones_own_by_file_and_by_module(own: Path) -> None:
    by_file = sg.Recurrent(f"{own.name}:Leaky:keep=0.25", 3, 4, backend="eager")
    assert type(by_file.cell).__name__ == "Leaky" and by_file.cell.keep == 0.25  # pyright: ignore[reportAttributeAccessIssue]
    assert by_file.cell == sg.cells.parse(f"{own}:Leaky:keep=0.25")  # the file is run once
    by_module = sg.Recurrent(f"{own.stem}:Leaky", 3, 4, backend="eager")
    x = torch.randn(6, 2, 3)
    by_module.load_state_dict(by_file.state_dict())
    assert not torch.equal(by_file(x)[0], by_module(x)[0])
    sys.modules.pop(own.stem)


def test_a_file_that_changed_is_run_again(own: Path) -> None:
    before = sg.cells.parse(f"{own}:Leaky")
    key = Trial("adding", f"{own}:Leaky").key
    own.write_text(SOURCE.replace("keep: float = 0.5", "keep: float = 0.75"))
    assert sg.cells.parse(f"{own}:Leaky").keep == 0.75 != before.keep  # pyright: ignore[reportAttributeAccessIssue]
    assert Trial("adding", f"{own}:Leaky").key != key  # a result of the old source is not reused


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lstm-peephol", "no such cell; did you mean 'lstm-peephole'?; there are: .*file.py:Class"),
        ("elman:nonlinearty=relu", "no option 'nonlinearty'; did you mean 'nonlinearity'"),
        ("elman:nonlinearity=cubic", "option nonlinearity must be 'tanh' or"),
        ("own_cells_of_a_test.py:Leakey", "defines no 'Leakey'; did you mean 'Leaky'"),
        ("own_cells_of_a_test.py:Other", "expected a subclass of steadygrad.cells.Cell, got Other"),
        ("own_cells_of_a_test.py:Leaky:keep=2", "keep is a share, got 2"),
        ("own_cells_of_a_test.py:Leaky:kep=1", "did you mean 'keep'"),
        ("nowhere.py:Leaky", "no such file"),
        ("nowhere.to_be_found:Leaky", "no such module"),
        ("", "no such cell"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(text: str, says: str, own: Path) -> None:
    says = says.replace("?;", r"\?;")
    with pytest.raises(InputError, match=says) as caught:
        sg.Recurrent(text, 3, 8)
    assert "\n" not in str(caught.value) and "--" not in str(caught.value)


def test_what_is_no_cell_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="expected a Cell or the name of one, got 3"):
        sg.Recurrent(3, 3, 8)  # pyright: ignore[reportArgumentType]


def test_train_bench_and_diagnose_take_a_cell_of_ones_own(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEADYGRAD_BACKEND", "eager")
    grid_work.without_processes(monkeypatch)
    cell = f"{own.name}:Leaky:keep=0.25"
    Path("wave.csv").write_text("y\n" + "".join(f"{i % 7}\n" for i in range(120)))
    small = ["--hidden", "4", "--json"]
    assert main(["train", "wave.csv", "--cell", cell, "--max-steps", "2", *small]) == 0
    capsys.readouterr()
    assert main(["diagnose", "runs/wave", "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["layers"]
    assert main(["diagnose", f"{own.name}:model", "--json"]) in (0, 1)
    capsys.readouterr()
    grid = ["adding:length=20", "--cells", f"lstm,{cell}", "--seeds", "1", "--updates", "1"]
    assert main(["bench", *grid, "--workers", "1", *small]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == 2 and any("Leaky" in row["label"] for row in rows)
