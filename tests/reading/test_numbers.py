"""A number is what its writer meant, or the question is handed back: never something else."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from steadygrad.errors import InputError
from steadygrad.reading import lines
from steadygrad.reading.numbers import split_number
from tests.reading.helpers import read, save, stamps, told, wave, written

ROWS = 120
DAYS = written(stamps(ROWS, timedelta(days=1)), "%Y-%m-%d")
BIG = np.round(np.linspace(900, 90_000, ROWS))
PRICE = wave(ROWS, 80, 95)


def grouped(values: np.ndarray, mark: str, decimal: str = ".", digits: int = 0) -> list[str]:
    swap = str.maketrans({",": mark, ".": decimal})
    return [f"{v:,.{digits}f}".translate(swap) for v in values]


@pytest.mark.parametrize(
    ("cells", "delimiter"),
    [
        ([f"${v:.2f}" for v in PRICE], ","),
        ([f"{v:.2f} €" for v in PRICE], ","),
        ([f"{v:.2f} €".replace(".", ",") for v in PRICE], ";"),
        ([f"US${v:.2f}" for v in PRICE], ","),
        ([f"{v:.2f} zł".replace(".", ",") for v in PRICE], "\t"),
        ([f"{v:.2f}%" for v in PRICE], ","),
        ([f"{v:.2f} %".replace(".", ",") for v in PRICE], ";"),
        ([f"£{v:.2f}" for v in PRICE], "|"),
    ],
)
def test_units_are_taken_off_and_told(tmp_path: Path, cells: list[str], delimiter: str) -> None:
    table = read(save(tmp_path / "a.csv", {"Date": DAYS, "Close": cells}, delimiter))
    np.testing.assert_array_equal(table.numbers["Close"], PRICE)
    assert "'Close'" in told(table) and "taken off" in told(table)


@pytest.mark.parametrize(
    ("mark", "decimal", "delimiter"),
    [(",", ".", ","), (".", ",", ";"), (" ", ",", ";"), ("'", ".", ","), ("\u202f", ",", ";")],
)
def test_thousands(tmp_path: Path, mark: str, decimal: str, delimiter: str) -> None:
    cells = grouped(BIG + 0.5, mark, decimal, 1)
    table = read(save(tmp_path / "a.csv", {"Date": DAYS, "n": cells}, delimiter))
    np.testing.assert_array_equal(table.numbers["n"], BIG + 0.5)


def test_suffixes_of_thousands_and_millions(tmp_path: Path) -> None:
    volume = np.concatenate([np.round(np.linspace(1.07, 999, 60), 2) * 1e3, np.arange(1, 61) * 1e6])
    cells = [f"{v / 1e3:.2f}K" for v in volume[:60]] + [f"{v / 1e6:g}M" for v in volume[60:]]
    table = read(save(tmp_path / "a.csv", {"Vol.": cells}))
    np.testing.assert_allclose(table.numbers["Vol."], volume, rtol=1e-15)


def test_negative_numbers_of_accountants_and_of_print(tmp_path: Path) -> None:
    values = np.round(np.linspace(-50, 50, ROWS), 1)
    accounts = [f"({-v:.1f})" if v < 0 else f"{v:.1f}" for v in values]
    minus = [f"{v:.1f}".replace("-", "\u2212") for v in values]
    table = read(save(tmp_path / "a.csv", {"a": accounts, "b": minus}))
    np.testing.assert_array_equal(table.numbers["a"], values)
    np.testing.assert_array_equal(table.numbers["b"], values)


@pytest.mark.parametrize(
    ("mark", "delimiter", "passed"),
    [(".", ",", ","), (".", ";", ","), (",", ";", "."), (",", "\t", ".")],
)
def test_what_could_be_both_is_asked(
    tmp_path: Path, mark: str, delimiter: str, passed: str
) -> None:
    cells = grouped(BIG, mark)  # 987 beside 2.375
    path = save(tmp_path / "a.csv", {"Date": DAYS, "n": cells}, delimiter)
    with pytest.raises(InputError, match="no cell tells which") as error:
        read(path)
    assert f"--decimal {passed} --thousands {mark}" in str(error.value)
    np.testing.assert_array_equal(read(path, decimal=passed, thousands=mark).numbers["n"], BIG)
    np.testing.assert_array_equal(read(path, thousands=mark).numbers["n"], BIG)
    other = read(path, decimal=mark).numbers["n"]
    np.testing.assert_array_equal(other[BIG >= 1000], BIG[BIG >= 1000] / 1000)


def test_another_column_of_the_file_tells(tmp_path: Path) -> None:
    cells = grouped(BIG, ".")
    comma = [f"{v:.2f}".replace(".", ",") for v in PRICE]
    table = read(save(tmp_path / "a.csv", {"n": cells, "p": comma}, ";"))
    np.testing.assert_array_equal(table.numbers["n"], BIG)
    point = [f"{v:.2f}" for v in PRICE]
    table = read(save(tmp_path / "b.csv", {"n": grouped(BIG, ","), "p": point}, ";"))
    np.testing.assert_array_equal(table.numbers["n"], BIG)
    assert "thousands marked by a comma" in told(table)
    table = read(save(tmp_path / "c.csv", {"n": cells, "p": point}, ";"))
    np.testing.assert_array_equal(table.numbers["n"][BIG >= 1000], BIG[BIG >= 1000] / 1000)


def test_a_proof_chunks_below_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK", 100)
    many = [f"{1 + i % 900}.{i % 1000:03d}" for i in range(1000)]
    with pytest.raises(InputError, match="no cell tells which"):
        read(save(tmp_path / "a.csv", {"n": many}))
    table = read(save(tmp_path / "b.csv", {"n": [*many, "0.5"]}))
    np.testing.assert_array_equal(table.numbers["n"], [float(c) for c in [*many, "0.5"]])
    table = read(save(tmp_path / "c.csv", {"n": [*many, "1.234.567"]}))
    np.testing.assert_array_equal(
        table.numbers["n"], [float(c.replace(".", "")) for c in [*many, "1.234.567"]]
    )


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["0.5", "1.234.567", "3"], "written in two ways"),
        (["0.5", "0,7", "3"], "written in two ways"),
        (["$1.5", "€2.5", "$3.5"], "different units"),
        (["1.5%", "2.5", "3.5%"], "per cent"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, cells: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(save(tmp_path / "a.csv", {"n": cells * 10, "m": ["1"] * 30}, ";"))


def test_asked_for_marks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", {"n": [f"{v:.2f}" for v in PRICE]})
    with pytest.raises(InputError, match="expected a number"):
        read(path, decimal=",")


@pytest.mark.parametrize(
    "cell",
    ["5²", "1_000", "0x10", "1e", "12-13", "1.2.3", "1,2,3", "(5", "--5", "½", "1 23", "5 m"],
)
def test_what_is_no_number(cell: str, tmp_path: Path) -> None:
    cells = [f"{v:.2f}" for v in PRICE]
    cells[50] = cell
    with pytest.raises(InputError, match=r"line 52|two ways"):
        read(save(tmp_path / "a.csv", {"n": cells}, ";"))


def test_wide_digits_are_digits() -> None:
    parts = split_number("\uff11\uff12\uff0e\uff15")
    assert parts is not None and parts.body == "12.5"


def test_sentinels_are_missing_and_told(tmp_path: Path) -> None:
    values = wave(ROWS)
    for code in ("-200", "-999", "9999", "-99.9"):
        cells = [f"{v:.2f}" for v in values]
        for row in (3, 50, 51, 90):
            cells[row] = code
        path = save(tmp_path / "a.csv", {"Date": DAYS, "CO": cells})
        table = read(path)
        assert np.flatnonzero(table.missing["CO"]).tolist() == [3, 50, 51, 90], code
        assert f"{float(code):g} is far outside" in told(table)
        kept = read(path, missing="none")
        assert not kept.missing["CO"].any() and kept.numbers["CO"][50] == float(code)


def test_one_code_of_a_file_is_one_in_all_its_columns(tmp_path: Path) -> None:
    cells = [[f"{v:.2f}" for v in wave(ROWS)] for _ in range(2)]
    for row in (3, 50, 51):
        cells[0][row] = "-200"
    cells[1][7] = "-200"
    table = read(save(tmp_path / "a.csv", {"a": cells[0], "b": cells[1]}))
    assert np.flatnonzero(table.missing["b"]).tolist() == [7]


def test_an_unknown_code_is_warned_of_and_a_peak_is_kept(tmp_path: Path) -> None:
    cells = [f"{v:.2f}" for v in wave(ROWS)]
    for row in (3, 50, 51):
        cells[row] = "-500"
    table = read(save(tmp_path / "a.csv", {"a": cells}))
    assert not table.missing["a"].any() and "pass --missing=-500" in told(table)
    assert read(tmp_path / "a.csv", missing="-500").missing["a"].sum() == 3
    cells = [f"{v:.2f}" for v in wave(ROWS)]
    cells[60] = "999"
    assert not read(save(tmp_path / "b.csv", {"a": cells})).missing["a"].any()


@pytest.mark.parametrize("unit", [" °C", "°", " kW", "kWh", " m/s", " µg/m³", "\xa0℃", " mg/dL"])
def test_units_of_measurement_are_taken_off(tmp_path: Path, unit: str) -> None:
    values = wave(60)
    cells = [f"{v}{unit}" if i % 9 else "-" for i, v in enumerate(values)]
    table = read(save(tmp_path / "a.csv", {"t": cells, "u": [str(v) for v in values]}))
    fine = np.arange(60) % 9 > 0
    np.testing.assert_array_equal(table.numbers["t"][fine], values[fine])
    assert f"column 't': {unit.strip()} taken off" in told(table)


def test_a_unit_behind_some_numbers_is_no_unit(tmp_path: Path) -> None:
    cells = [f"{v} kW" if i % 3 else f"{v} MW" for i, v in enumerate(wave(60))]
    table = read(save(tmp_path / "a.csv", {"t": cells, "u": [str(v) for v in wave(60)]}))
    assert "t" not in table.numbers and "column 't'" in told(table)


def test_a_minus_behind_an_amount(tmp_path: Path) -> None:
    values = wave(60, -20, 20)
    cells = [f"{abs(v):.2f}".replace(".", ",") + ("-" if v < 0 else "") for v in values]
    table = read(save(tmp_path / "a.csv", {"n": ["1"] * 60, "v": cells}, ";"))
    np.testing.assert_array_equal(table.numbers["v"], values)
    marks = ["1", "2", "2-", "3"] * 15
    with pytest.raises(ValueError, match="expected a number, got '2-'"):
        read(save(tmp_path / "b.csv", {"mark": marks, "v": [str(v) for v in values]}))


def test_a_code_far_below_all_else_is_one_though_it_stands_alone(tmp_path: Path) -> None:
    values = wave(60)
    cells = [str(v) for v in values]
    cells[33] = "-999"
    table = read(save(tmp_path / "a.csv", {"v": cells}))
    assert table.missing["v"].nonzero()[0].tolist() == [33]
    assert "-999 is far outside of the rest" in told(table) and "in 1 row:" in told(table)
    cells[33] = "-98"  # no code
    assert not read(save(tmp_path / "b.csv", {"v": cells})).missing["v"].any()


def test_the_marks_of_a_date_prove_nothing(tmp_path: Path) -> None:
    months = written(stamps(60, timedelta(days=31)), "%m.%Y")
    cells = [f"{v:.3f}".replace(".", ",") for v in wave(60, 100, 900, 3)]
    path = save(tmp_path / "a.csv", {"Monat": months, "v": cells}, ";")
    with pytest.raises(InputError, match="pass --decimal"):
        read(path)
