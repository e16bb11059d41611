"""Troubles with people's files that were reported in public, each in its smallest form.

Also siblings of the kinds that public data sets have: what must hold is the same.
"""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from steadygrad.errors import InputError
from steadygrad.reading import Table
from tests.reading.helpers import hours, read, save, stamps, told, wave, written

ROWS = 96
VALUES = wave(ROWS)
CELLS = [f"{v:.2f}" for v in VALUES]
DAYS = stamps(ROWS, timedelta(days=1), datetime(2016, 9, 10))
HOURS = stamps(ROWS, timedelta(hours=1), datetime(2019, 11, 1))


def read_text(tmp_path: Path, text: str, **options: object) -> Table:
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    return read(path, **options)


def dates(table: Table) -> list[str]:
    assert table.dates is not None
    return np.datetime_as_string(table.dates, unit="m").tolist()


@pytest.mark.parametrize(
    ("cells", "first"),
    [
        # github.com/pandas-dev/pandas/issues/14301: read as October 9 and September 30.
        (["10/9/2016", "30/9/2016"], "2016-09-10T00:00"),
        # github.com/pandas-dev/pandas/issues/37895: read as June 13 and December 6.
        (["12/06/2018", "13/06/2018"], "2018-06-12T00:00"),
        # github.com/pandas-dev/pandas/issues/12585.
        (["03/09/2018 12:02:00", "14/09/2018 14:09:00"], "2018-09-03T12:02"),
        # github.com/pandas-dev/pandas/issues/2586.
        (["27.03.2003 14:55:00.000", "03.08.2003 15:20:00.000"], "2003-03-27T14:55"),
        # github.com/pandas-dev/pandas/issues/17265: read as April 1.
        (["2013,11,04", "2013,11,05"], "2013-11-04T00:00"),
        (["Nov 4,2013", "Nov 14,2013"], "2013-11-04T00:00"),
        # github.com/CODAIT/pardata/pull/73: two blanks before the time.
        (["2010-01-01  01:00:00", "2010-01-01  02:00:00"], "2010-01-01T01:00"),
        # The log of a web server: 2024:00 is no 24:00.
        (["23/Dec/2024:00:00:00 +0000", "23/Dec/2024:01:00:00 +0000"], "2024-12-23T00:00"),
        # github.com/unit8co/darts/issues/282: quarters, with some that are not there.
        (["2006-01-01", "2006-04-01", "2007-10-01"], "2006-01-01T00:00"),
    ],
)
def test_dates_that_were_misread(tmp_path: Path, cells: list[str], first: str) -> None:
    rows = "".join(f'"{cell}",{i}.5\n' for i, cell in enumerate(cells))
    assert dates(read_text(tmp_path, f"when,v\n{rows}"))[0] == first


def test_day_and_month_by_one_cell_far_below(tmp_path: Path) -> None:
    # github.com/pandas-dev/pandas/issues/19402: rows are not in order.
    cells = "11/03/2011 03/05/2011 20/10/2011 04/08/2011 05/10/2011 17/11/2011".split()
    table = read_text(
        tmp_path, "id;name;date\n" + "".join(f"{i};event{i};{c}\n" for i, c in enumerate(cells))
    )
    assert dates(table)[:2] == ["2011-03-11T00:00", "2011-05-03T00:00"]


def test_one_day_by_the_hour_is_asked_or_right(tmp_path: Path) -> None:
    # github.com/pandas-dev/pandas/issues/52167: month first, and all of one month.
    cells = written(HOURS, "%m/%d/%Y %I:%M:%S %p")
    table = read(save(tmp_path / "a.csv", {"Date": cells, "Fremont Bridge Total": CELLS}))
    assert dates(table)[0] == "2019-11-01T00:00" and (hours(table) == 1).all()


def test_forms_that_are_mixed_in_one_column_are_named(tmp_path: Path) -> None:
    # github.com/pandas-dev/pandas/issues/53355
    mixed = ["18/04/1995", "14 / 07 / 1994", "07/06/2006", "2007-4-30 1:6:40.000PM"]
    rows = "".join(f"{c},{i}\n" for i, c in enumerate([*mixed, *written(DAYS, "%d/%m/%Y")]))
    with pytest.raises(InputError, match="line 3, column 'col': expected a date, got '14 / 07"):
        read_text(tmp_path, f"col,v\n{rows}")


def test_a_blank_before_the_mark_of_thousands(tmp_path: Path) -> None:
    # github.com/pandas-dev/pandas/pull/65397: "1 ," became 1.
    rows = "".join(f'"{i + 1},000"\n' for i in range(20)) + '"1 ,"\n'
    with pytest.raises(InputError, match="line 22, column 'v': expected a number, got '1 ,'"):
        read_text(tmp_path, f"v\n{rows}", thousands=",")


def test_a_minus_sign_as_the_mark_of_thousands_is_no_number(tmp_path: Path) -> None:
    # github.com/pandas-dev/pandas/pull/4945
    rows = "".join(f"06-02-2013;{13 + i}:00;1-000,215;0,{215 + i}\n" for i in range(9))
    table = read_text(tmp_path, f"d;t;a;b\n{rows}", date_format="%d-%m-%Y")
    column = table.spec.column("a")
    assert column is not None and column.role in ("dropped", "category")
    np.testing.assert_allclose(table.numbers["b"], [0.215 + i / 1000 for i in range(9)])


def test_rows_longer_than_the_header(tmp_path: Path) -> None:
    # github.com/pandas-dev/pandas/issues/11019: the first column became an index, unsaid.
    with pytest.raises(InputError, match="line 2 has 4 fields, line 1 has 3"):
        read_text(tmp_path, "a,b,c\n1970-01-01,2,3,4\n1970-01-02,2,3,4\n1970-01-03,2,3,4\n")


def store_and_item(tmp_path: Path) -> Path:
    columns: dict[str, list[str]] = {"date": [], "store": [], "item": [], "sales": []}
    for store in (1, 2):
        for item in (1, 2, 3):
            columns["date"] += written(DAYS, "%Y-%m-%d")
            columns["store"] += [str(store)] * ROWS
            columns["item"] += [str(item)] * ROWS
            columns["sales"] += [f"{v + 100 * store + 1000 * item:.2f}" for v in VALUES]
    return save(tmp_path / "train.csv", columns)


def test_series_named_by_two_columns(tmp_path: Path) -> None:
    # github.com/unit8co/darts/issues/484
    path = store_and_item(tmp_path)
    with pytest.raises(InputError, match=r"'store' and 'item' together name 6 series.*store,item"):
        read(path)
    table = read(path, series="store,item")
    assert len(table.starts) == 6 and table.spec.names[-1] == "2, 3"
    np.testing.assert_allclose(table.numbers["sales"][-ROWS:], VALUES + 3200)
    one = read(path, series="store,item", only="1, 2")
    np.testing.assert_allclose(one.numbers["sales"], VALUES + 2100)


def test_trading_hours_have_gaps_that_are_told(tmp_path: Path) -> None:
    # github.com/unit8co/darts/issues/1084: rows between the sessions were made up.
    days = [datetime(2016, 1, 4 + d) for d in range(5)]
    times = [d + timedelta(hours=11, minutes=30 * k) for d in days for k in range(8)]
    table = read(
        save(tmp_path / "a.csv", {"time": written(times, "%Y-%m-%d %H:%M:%S"), "v": CELLS[:40]})
    )
    assert len(table.numbers["v"]) == 40 and table.spec.gaps == 4
    assert "4 gaps in the dates, the longest 20.5 hours" in told(table)


# Siblings of public data sets.


def test_an_indian_statement(tmp_path: Path) -> None:
    rows = "".join(
        f'{d:%d-%m-%Y},"1,23,45{i % 10}.50","₹{i + 1},000.00"\n' for i, d in enumerate(DAYS)
    )
    table = read_text(tmp_path, f"Date,Balance,Credit\n{rows}")
    assert table.numbers["Balance"][3] == 123453.5 and table.numbers["Credit"][2] == 3000


def test_a_semicolon_file_with_thousands_by_comma(tmp_path: Path) -> None:
    rows = "".join(f"{d:%Y-%m-%d};{i + 1},234;0.{i % 9 + 1}\n" for i, d in enumerate(DAYS))
    table = read_text(tmp_path, f"day;load;share\n{rows}")
    assert table.numbers["load"][0] == 1234 and table.numbers["share"][0] == 0.1


def test_a_range_of_time_in_each_row(tmp_path: Path) -> None:
    # As the European grid operators publish: 01.01.2020 00:00 - 01.01.2020 01:00.
    rows = "".join(
        f"{h:%d.%m.%Y %H:%M} - {h + timedelta(hours=1):%d.%m.%Y %H:%M},{c}\n"
        for h, c in zip(HOURS, CELLS, strict=True)
    )
    table = read_text(tmp_path, f"MTU (UTC),Load\n{rows}")
    assert dates(table)[0] == "2019-11-01T00:00" and (hours(table) == 1).all()


def test_data_of_one_of_the_worlds_statistical_offices(tmp_path: Path) -> None:
    # Titles above, notes below, cells of full width with commas.
    rows = "".join(f"{1960 + i},{i},{c}\n" for i, c in enumerate(CELLS[:60]))
    text = f"World Indicators,,\n,,\nYear,Rank,GDP\n{rows},,\nSource: World Bank,,\n"
    table = read_text(tmp_path, text)
    np.testing.assert_allclose(table.numbers["GDP"], VALUES[:60])
    assert "World Indicators" in told(table) and dates(table)[0] == "1960-01-01T00:00"


def test_solar_radiation_of_a_weather_service(tmp_path: Path) -> None:
    # As the German weather service writes it: 2019110100, and -999 where nothing was measured.
    values = VALUES.copy()
    values[[3, 4, 50]] = -999
    rows = "".join(f"  164;{h:%Y%m%d%H};{v:8.2f};eor\n" for h, v in zip(HOURS, values, strict=True))
    table = read_text(tmp_path, f"STATIONS_ID;MESS_DATUM;TT_TU;eor\n{rows}")
    assert (hours(table) == 1).all() and table.missing["TT_TU"].sum() == 3


def test_a_gap_in_a_panel_is_no_gap_between_series(tmp_path: Path) -> None:
    lines = [(d, n) for n in ("A", "B") for d in DAYS if not (n == "B" and d.day == 15)]
    rows = "".join(f"{d:%d.%m.%Y},{n},{i}.5\n" for i, (d, n) in enumerate(lines))
    table = read_text(tmp_path, f"Datum,Filiale,Umsatz\n{rows}", series="Filiale")
    assert table.spec.gaps == sum(d.day == 15 for d in DAYS) and table.spec.longest_gap == 2 * 86400
