"""Every cell trains from the command line's own options: its choices are what there is."""

from pathlib import Path

import pytest

from steadygrad.cells import CELLS
from steadygrad.cells import parse as parse_cell
from steadygrad.errors import InputError
from steadygrad.train import TrainConfig, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "waves.csv"
    file.write_text("a,b\n" + "".join(f"{i % 7},{(i * i) % 5}\n" for i in range(200)))
    return file


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_takes_a_training_step(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEADYGRAD_BACKEND", "eager")  # what compiles is tested in test_cells
    config = TrainConfig(
        data, cell=name, window=6, horizon=1, hidden=4, max_steps=1, budget=0.0, out=tmp_path
    )
    assert train(config).status == "finished"


def test_the_choices_are_the_cells_there_are() -> None:
    with pytest.raises(InputError) as caught:
        parse_cell("nonsense")
    assert all(name in str(caught.value) for name in CELLS)
    assert parse_cell("lstm-greff:variant=NIG") == CELLS["lstm-greff"](variant="NIG")  # type: ignore[call-arg]
    assert parse_cell("lstm-1997:truncated=true") == CELLS["lstm-1997"](truncated=True)  # type: ignore[call-arg]
    assert parse_cell("clockwork:modules=3") == CELLS["clockwork"](modules=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("cell", ["md-lstm", "conv-lstm"])
def test_cells_of_images_are_refused_with_what_to_use(cell: str, tmp_path: Path) -> None:
    path = tmp_path / "wave.csv"
    path.write_text("y\n" + "".join(f"{i % 7}.5\n" for i in range(200)))
    with pytest.raises(InputError, match=rf"--cell {cell}: reads images.*use lstm"):
        train(TrainConfig(path, cell=cell, out=tmp_path / "run", lag="none"))
