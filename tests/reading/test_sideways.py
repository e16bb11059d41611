"""Tables whose time runs across are turned, and read as the table with one date in each row."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from steadygrad.reading import read_table
from steadygrad.reading.spec import TableSpec
from tests.reading.helpers import read, save, stamps, told, wave, written

DAYS = stamps(60, timedelta(days=1), datetime(2021, 1, 20))
PLACES: tuple[str, ...] = ("Albania", "France", "Italy")


def across(path: Path, names: Sequence[str], rows: Sequence[np.ndarray], **ids: list[str]) -> Path:
    columns = {n: [str(row[i]) for row in rows] for i, n in enumerate(names)}
    return save(path, {**ids, **columns})


@pytest.mark.parametrize("form", ["%m/%d/%y", "%Y-%m-%d", "%d.%m.%Y"])
def test_dates_across(tmp_path: Path, form: str) -> None:
    rows = [wave(60) for _ in PLACES]
    path = across(
        tmp_path / "a.csv", written(DAYS, form), rows,
        Place=[*PLACES], Lat=["1.5", "2.5", "3.5"],
    )  # fmt: skip
    table = read(path, series="Place")
    assert table.spec.is_turned and table.spec.names == PLACES and table.starts == (0, 60, 120)
    np.testing.assert_array_equal(table.numbers["value"], np.concatenate(rows))
    np.testing.assert_array_equal(table.numbers["Lat"], np.repeat([1.5, 2.5, 3.5], 60))
    assert table.dates is not None
    np.testing.assert_array_equal(table.dates[:60], np.array(DAYS, "datetime64[us]"))
    assert "60 dates stand side by side" in told(table)


def test_years_across_and_which_series_is_asked_for(tmp_path: Path) -> None:
    years = [str(y) for y in range(1960, 2020)]
    rows = [wave(60) for _ in PLACES]
    path = across(tmp_path / "a.csv", years, rows, **{"Country Name": [*PLACES]})
    with pytest.raises(ValueError, match="column 'Country Name' names 3 series"):
        read(path)
    one = read(path, series="Country Name", only="France")
    np.testing.assert_array_equal(one.numbers["value"], rows[1])
    assert one.dates is not None and str(one.dates[0])[:10] == "1960-01-01"


def test_months_across_with_yearly_means(tmp_path: Path) -> None:
    names = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
    rows = [wave(12) for _ in range(20)]
    columns = {"Year": [str(2000 + i) for i in range(20)]}
    columns |= {n: [str(row[i]) for row in rows] for i, n in enumerate(names)}
    columns["J-D"] = [f"{row.mean():.2f}" for row in rows]
    table = read(save(tmp_path / "a.csv", columns, head=["Global means"]))
    np.testing.assert_array_equal(table.numbers["value"], np.concatenate(rows))
    assert list(table.numbers) == ["value"] and "left out: J-D" in told(table)
    assert table.dates is not None and table.spec.frequency == "1 month"
    assert str(table.dates[13])[:7] == "2001-02"


@pytest.mark.parametrize(
    "names",
    [
        [f"H{h}" for h in range(1, 25)],
        [f"{h:02d}" for h in range(24)],
        [f"{i // 2:02d}:{30 * (i % 2):02d}" for i in range(48)],
    ],
    ids=["from 1", "from 0", "half hours"],
)
def test_hours_across(tmp_path: Path, names: list[str]) -> None:
    rows = [wave(len(names)) for _ in DAYS]
    path = across(tmp_path / "a.csv", names, rows, Day=written(DAYS, "%d.%m.%Y"))
    table = read(path)
    np.testing.assert_array_equal(table.numbers["value"], np.concatenate(rows))
    assert table.dates is not None and table.dates[0] == np.datetime64(DAYS[0])
    assert (np.diff(table.dates) == np.timedelta64(86400 // len(names), "s")).all()
    # A new file is read as this one was, though it alone has too few rows to decide anything.
    spec = TableSpec.of(table.spec.plain())
    short = across(tmp_path / "b.csv", names, rows[:1], Day=written(DAYS[:1], "%d.%m.%Y"))
    again = read_table(short, spec=spec)
    np.testing.assert_array_equal(again.numbers["value"], rows[0])


def test_columns_that_only_look_so_stay(tmp_path: Path) -> None:
    days = written(DAYS, "%Y-%m-%d")
    few = {str(y): [str(v) for v in wave(60)] for y in range(2015, 2019)}
    assert not read(save(tmp_path / "a.csv", {"date": days, **few})).spec.is_turned
    lags = {f"lag{h}": [str(v) for v in wave(60)] for h in range(1, 25)}
    assert not read(save(tmp_path / "b.csv", {"date": days, **lags})).spec.is_turned
    years = {str(y): [str(v) for v in wave(60)] for y in range(2000, 2020)}
    assert not read(save(tmp_path / "c.csv", {"date": days, **years})).spec.is_turned
