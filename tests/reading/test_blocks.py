"""Large files are read in blocks: what numpy reads at once is what cells read one by one."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from steadygrad.errors import InputError
from steadygrad.reading import Table, lines, read_table
from tests.reading.helpers import save, stamps, wave, written

ROWS = 200
TIMES = written(stamps(ROWS, timedelta(hours=1)), "%Y-%m-%d %H:%M")


def columns() -> dict[str, list[str]]:
    rng = np.random.default_rng(0)
    return {
        "x": [f"{v:.3f}" for v in rng.normal(size=ROWS)],
        "date": TIMES,
        "y": [f"{v:.17g}" for v in rng.normal(size=ROWS) * 10.0 ** rng.integers(-300, 300, ROWS)],
        "count": [str(i * 37 % 101) for i in range(ROWS)],
        "z": [f"{v:.2f}" for v in wave(ROWS)],
    }


def gap(cells: dict[str, list[str]]) -> None:
    for name in ("x", "y", "z"):
        for row in (60, 61, 150, ROWS - 1):
            cells[name][row] = ""


def word(cells: dict[str, list[str]]) -> None:
    cells["y"][130] = "NA"
    cells["z"][131] = "nan"


def quoted(cells: dict[str, list[str]]) -> None:
    cells["date"] = [c if i != 120 else f'"{c}"' for i, c in enumerate(cells["date"])]


def spaced(cells: dict[str, list[str]]) -> None:
    for row in range(90, 140):
        cells["z"][row] += " " if row < 120 else ""
        cells["x"][row] = f" {cells['x'][row]}" if row > 120 else cells["x"][row]


def thousands(cells: dict[str, list[str]]) -> None:
    cells["z"][150:] = [f"1.{i:03d}" for i in range(ROWS - 150)]


KINDS = [lambda cells: None, gap, word, quoted, spaced, thousands]


@pytest.mark.parametrize("change", KINDS)
def test_blocks_read_as_one(
    change: Callable[[dict[str, list[str]]], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells = columns()
    change(cells)
    path = save(tmp_path / "a.csv", cells)
    whole = read_table(path)
    by_numpy: list[bool] = []
    plain = lines.Collector._numbers

    def counted(*args: object) -> object:
        found = plain(*args)  # pyright: ignore[reportArgumentType]
        by_numpy.append(found is not None)
        return found

    monkeypatch.setattr(lines.Collector, "_numbers", counted)
    monkeypatch.setattr(lines, "CHUNK", 23)
    alike(read_table(path), whole)
    assert any(by_numpy)


def alike(one: Table, other: Table) -> None:
    assert one.notes == other.notes and one.spec == other.spec
    np.testing.assert_array_equal(np.asarray(one.dates), np.asarray(other.dates))
    for name, values in other.numbers.items():
        np.testing.assert_array_equal(one.numbers[name], values)
        np.testing.assert_array_equal(one.missing[name], other.missing[name])


@pytest.mark.parametrize("row", ["1.5,2020-01-01", "1,2,3,4,5,6", "1.5,x,2.5,1,oops"])
def test_bad_rows_of_a_later_block_are_named(
    row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.csv", columns())
    content = path.read_text().split("\n")
    content[150] = row
    path.write_text("\n".join(content))
    monkeypatch.setattr(lines, "CHUNK", 23)
    with pytest.raises(InputError, match="line 151"):
        read_table(path)
