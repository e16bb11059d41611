"""Forms of public files in their smallest: weather, power, finance, medicine, programs' prints."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from steadygrad.errors import InputError
from steadygrad.reading.prose import is_table
from tests.reading.helpers import hours, read, stamps, told, wave

ROWS = 60
HOURS = stamps(ROWS, timedelta(hours=1))
DAYS = stamps(ROWS, timedelta(days=1))
VALUES = wave(ROWS)
Row = tuple[datetime, datetime, float]
ROWS_OF: list[Row] = list(zip(HOURS, DAYS, VALUES.tolist(), strict=True))
START = datetime(2020, 1, 1)


def local(hour: datetime, day: datetime) -> dict[str, str]:
    return {
        "taiwan": f"{day.year - 1911}/{day:%m/%d}",
        "era": era(day),
        "ampm": "a" if hour.hour < 12 else "p",
        "greek": "πμ" if hour.hour < 12 else "μμ",
    }


def era(day: datetime) -> str:
    return f"令和{day.year - 2018}年{day.month}月{day.day}日"


def body(form: str) -> str:
    return "".join(
        form.format(t=t, d=d, v=v, w=v * 3, i=i + 1, **local(t, d)) + "\n"
        for i, (t, d, v) in enumerate(ROWS_OF)
    )


BORDER = "+------------+-------+\n"
# Ending, what stands above the rows, a row, what stands below; the target, and when the rows begin.
READ = {
    "R's names of rows": (".txt", '"date","v"\n', '"{i}","{t:%Y-%m-%d %H:%M}",{v}', "", "v", START),
    "HOBO": (
        ".csv",
        '"Plot Title: 1"\n"#","Date Time, GMT-05:00","Temp, °F"\n',
        "{i},{t:%m/%d/%y %I:%M:%S %p},{v}",
        "",
        "Temp, °F",
        START,
    ),
    "TOA5": (
        ".dat",
        '"TOA5","X","Y","Z","W"\n"TIMESTAMP","RECORD","T"\n"TS","RN","C"\n"","","Avg"\n',
        '"{t:%Y-%m-%d %H:%M:%S}",{i},{v}',
        "",
        "T",
        START,
    ),
    "Bundesbank": (
        ".csv",
        '"";W1\n"";"Price"\nUnit;USD\nAs of;"12.01.2023 10:11"\n',
        "{d:%Y-%m-%d};{v}",
        "",
        "W1",
        START,
    ),
    "AEMO": (
        ".csv",
        "C,NEM,PRICE,2020/01/01\nI,DISPATCH,DAY,RRP\n",
        "D,DISPATCH,{t:%Y/%m/%d %H:%M},{v}",
        "C,END,3\n",
        "RRP",
        START,
    ),
    "MySQL": (
        ".txt",
        f"{BORDER}| day        | v     |\n{BORDER}",
        "| {d:%Y-%m-%d} | {v:5.2f} |",
        f"{BORDER}{ROWS} rows in set\n",
        "v",
        START,
    ),
    "psql": (
        ".txt",
        "    day     |   v   \n------------+-------\n",
        " {d:%Y-%m-%d} | {v:5.2f}",
        f"({ROWS} rows)\n",
        "v",
        START,
    ),
    "PVGIS": (
        ".csv",
        "Latitude:\t45.0\n\ntime,P\n",
        "{t:%Y%m%d:%H}10,{v}",
        "\n" + "".join(f"{c}: text\n" for c in "abcdefgh"),
        "P",
        datetime(2020, 1, 1, 0, 10),
    ),
    "Java": (
        ".csv",
        "t,v\n",
        "{t:%Y-%m-%dT%H:%M}+01:00[Europe/Paris],{v}",
        "",
        "v",
        datetime(2019, 12, 31, 23),
    ),
    "EST": (".csv", "t,v\n", "{t:%Y-%m-%d %H:%M:%S} EST,{v}", "", "v", datetime(2020, 1, 1, 5)),
    "Oracle": (".csv", "T,V\n", "{t:%d-%b-%y %I.%M.%S.000000 %p},{v}", "", "V", START),
    "Korean": (".csv", "날짜,v\n", "{d:%Y- %m- %d},{v}", "", "v", START),
    "French": (".csv", "t;v\n", "{t:%d/%m/%Y à %Hh%M};{v}", "", "v", START),
    "Taiwan": (".csv", "日期,v\n", "{taiwan},{v}", "", "v", START),
    "Japan": (".csv", "日付,v\n", "{era},{v}", "", "v", START),
    "a browser": (".csv", "t,v\n", '"{t:%m/%d/%Y, %I:%M:%S}\u202f{t:%p}",{v}', "", "v", START),
    "Spanish": (".csv", "t,v\n", "{t:%d/%m/%Y %I:%M:%S} {ampm}.\xa0m.,{v}", "", "v", START),
    "Greek": (".csv", "t,v\n", "{t:%d/%m/%Y %I:%M:%S} {greek},{v}", "", "v", START),
    "Bulgarian": (".csv", "t,v\n", "{d:%d.%m.%Y} г.,{v}", "", "v", START),  # noqa: RUF001
    "Finnish": (".csv", "t;v\n", "{t:%d.%m.%Y} klo {t:%H.%M};{v}", "", "v", START),
    "Excel's equals": (".csv", "t,v\n", '="{d:%Y-%m-%d}",="{v}"', "", "v", START),
    "durations": (".csv", "Date,Duration,v\n", "{d:%Y-%m-%d},00:{t:%d:%M},{v}", "", "v", START),
}


@pytest.mark.parametrize("name", READ)
def test_read(name: str, tmp_path: Path) -> None:
    ending, above, row, below, target, start = READ[name]
    path = tmp_path / f"a{ending}"
    path.write_text(above + body(row) + below, encoding="utf-8")
    assert is_table(path)
    table = read(path)
    np.testing.assert_array_equal(table.numbers[target], VALUES)
    assert table.dates is not None and table.dates[0] == np.datetime64(start)
    steps = hours(table)
    assert (steps == steps[0]).all() and steps[0] in (1, 24)


REFUSED = {
    "a long format at times alone": (
        ".csv",
        "Time,Kind,v\n",
        "{t:%H:%M},a,{v}\n{t:%H:%M},b,{w}",
        "pass --series 'Kind'",
    ),
    "engines by cycle": (".csv", "unit,cycle,v\n", "", "pass --series 'unit'"),
    "a web page": (".xls", "<html><table>\n", "<tr><td>{d:%Y-%m-%d}</td><td>{v}</td></tr>", "HTML"),
    "a log": (".txt", "", "Temp: {v} C, Hum: {w:.1f} %", "alike but for their numbers"),
    "Persian": (".csv", "t,v\n", "1399/01/{i:02d},{v}", "calendar"),
    "Buddhist": (".csv", "t,v\n", "{d:%d/%m}/2563,{v}", "calendar"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_instead_of_misread(name: str, tmp_path: Path) -> None:
    ending, above, row, message = REFUSED[name]
    rows = body(row)
    if name == "engines by cycle":
        rows = "".join(f"{u},{c + 1},{VALUES[c]}\n" for u in (1, 2, 3) for c in range(20 + u))
    if name == "Persian":
        rows = "".join(rows.splitlines(keepends=True)[:31])
    path = tmp_path / f"a{ending}"
    path.write_text(above + rows)
    with pytest.raises(InputError, match=message):
        is_table(path)
        read(path)


def test_a_log_and_prose_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("In 1984 it was cold.\nNobody knew why, but all 12 clocks struck.\n" * 30)
    assert not is_table(path)


VALUE_LIST = VALUES.tolist()
TEXTS = [f"{d:%Y-%m-%d}" for d in DAYS]
PAIRS = list(zip(TEXTS, VALUE_LIST, strict=True))
JSON: dict[str, object] = {
    "lists by name": {"lat": 5, "units": {"v": "C"}, "hourly": {"date": TEXTS, "v": VALUE_LIST}},
    "records by day": {"meta": {"a": "b"}, "series": {t: {"v": v, "w": 1} for t, v in PAIRS}},
    "rows below names": [["date", "v"], *map(list, PAIRS)],
    "columns and data": {"columns": ["date", "v"], "index": [], "data": [list(p) for p in PAIRS]},
    "a frame": {
        "date": {str(i): t for i, t in enumerate(TEXTS)},
        "v": {str(i): v for i, v in enumerate(VALUE_LIST)},
    },
    "records": {"ok": True, "data": {"rows": [{"date": t, "v": v} for t, v in PAIRS]}},
}


@pytest.mark.parametrize("name", JSON)
def test_json(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(JSON[name]))
    table = read(path)
    np.testing.assert_array_equal(table.numbers["v"], VALUES)
    assert table.dates is not None and (hours(table) == 24).all()


def test_two_tables_in_json_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"prices": [[1, 2.5], [2, 3.5]], "caps": [[1, 5.5], [2, 6.5]]}))
    with pytest.raises(InputError, match="2 tables in this JSON"):
        read(path)


def test_codes_of_which_some_are_digits_are_categories(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    codes = ["a" if i % 9 == 0 else "b" if i % 7 == 0 else "0" for i in range(ROWS)]
    rows = "".join(f"{d:%Y-%m-%d},{c},{v}\n" for d, c, v in zip(DAYS, codes, VALUES, strict=True))
    path.write_text("date,StateHoliday,v\n" + rows)
    assert read(path).categories["StateHoliday"].kinds == ("0", "a", "b")


def test_amounts_in_ten_thousands_and_hundred_millions(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("日期,量,额\n" + body("{d:%Y-%m-%d},{v}万,{v}亿"))
    table = read(path)
    np.testing.assert_allclose(table.numbers["量"], VALUES * 1e4, rtol=1e-12)
    np.testing.assert_allclose(table.numbers["额"], VALUES * 1e8, rtol=1e-12)


def test_headers_decide_between_chinese_and_japanese(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(("年月日,値\n" + body("{d:%Y/%m/%d},{v}")).encode("cp932"))
    assert list(read(path).numbers) == ["値"]


def test_a_sheet_with_a_title_and_times_apart(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    head = [["Report"], [], ["Day", "Clock", "v"]]
    for row in [*head, *([t.date(), t.time(), v] for t, v in zip(HOURS, VALUES, strict=True))]:
        book.active.append([float(c) if isinstance(c, np.float64) else c for c in row])
    book.save(tmp_path / "a.xlsx")
    table = read(tmp_path / "a.xlsx")
    np.testing.assert_array_equal(table.numbers["v"], VALUES)
    assert (hours(table) == 1).all()


def test_days_and_months_that_a_spreadsheet_exchanged_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    days = stamps(200, timedelta(days=1), datetime(2019, 11, 25))
    form = {True: "{d:%m/%d/%Y},{i}.5\n", False: "{d:%d/%m/%Y},{i}.5\n"}
    rows = "".join(form[d.day <= 12].format(d=d, i=i) for i, d in enumerate(days))
    path.write_text("Date,v\n" + rows)
    with pytest.raises(InputError, match="in some cells the day stands first"):
        read(path)


def test_another_zone_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,v\n" + body("{t:%Y-%m-%d %H:%M} +0200,{v}"))
    assert "2020-01-01 00:00 +0200 is 2019-12-31 22:00 UTC" in told(read(path))


def test_blanks_of_print_do_not_split_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    rows = "".join(f"{t:%Y-%m-%dT%H:%M} 1\u202f{i + 100}.5\n" for i, t in enumerate(HOURS))
    path.write_text("when v\n" + rows, encoding="utf-8")
    assert is_table(path)
    np.testing.assert_array_equal(read(path).numbers["v"], np.arange(ROWS) + 1100.5)


def lines_in(folder: Path, lines: Sequence[str]) -> Path:
    path = folder / "a.csv"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


@pytest.mark.parametrize("mark", ["NA", "#N/A", "-", "#DIV/0!", "#NV"])
def test_a_missing_value_is_no_header(mark: str, tmp_path: Path) -> None:
    """A file without a header whose first value lacks: no column of that name, no header again."""
    values = [mark if i % 4 == 0 else f"{v:.2f}" for i, v in enumerate(VALUES)]
    with pytest.raises(InputError, match=r"a missing value.*--header none"):
        read(lines_in(tmp_path, values))
    table = read(lines_in(tmp_path, values), header="none")
    (column,) = table.missing.values()
    assert column.tolist() == [i % 4 == 0 for i in range(ROWS)]


def test_a_column_of_sodium_is_no_missing_value(tmp_path: Path) -> None:
    table = read(lines_in(tmp_path, ["Na", *(f"{v:.2f}" for v in VALUES)]))
    np.testing.assert_allclose(table.numbers["Na"], VALUES, atol=5e-3)


def test_what_a_spreadsheet_writes_for_a_failed_formula_is_no_comment(tmp_path: Path) -> None:
    values = ["#N/A" if i % 5 == 3 else f"{v:.2f}" for i, v in enumerate(VALUES)]
    table = read(lines_in(tmp_path, ["load", *values]))
    assert table.missing["load"].tolist() == [i % 5 == 3 for i in range(ROWS)]


def test_a_title_of_as_many_words_as_columns(tmp_path: Path) -> None:
    """Its line is apart from the table: the names stand below the empty line."""
    rows = [f"{v:.2f},{'east' if i % 2 else 'west'}" for i, v in enumerate(VALUES)]
    title = ["Data Source,World Indicators", "", "load,side"]
    table = read(lines_in(tmp_path, [*title, *rows]))
    assert list(table.numbers) == ["load"] and list(table.categories) == ["side"]


def test_units_above_days_in_digits_and_times_in_text(tmp_path: Path) -> None:
    """The form of the times is not that of the units above them, or no row has a date."""
    rows = [f"{t:%Y%m%d};{t:%I:%M%p};{v:.2f}" for t, v in zip(HOURS, VALUES, strict=True)]
    table = read(lines_in(tmp_path, ["date;time;load", ";[h];kWh", *rows]))
    assert table.dates is not None and table.dates.tolist() == HOURS
    rows[7] = rows[7].replace(f"{HOURS[7]:%I:%M%p}", "sometime")
    with pytest.raises(InputError, match="'sometime'"):
        read(lines_in(tmp_path, ["date;time;load", *rows]))


def test_the_point_of_a_time_is_no_decimal_mark(tmp_path: Path) -> None:
    load = [f"{v:.2f}1".replace(".", ",") for v in VALUES]
    rows = [f'{t:%Y-%m-%d},{t:%H.%M},"{v}"' for t, v in zip(HOURS, load, strict=True)]
    path = lines_in(tmp_path, ["day,hour,load", *rows])
    with pytest.raises(InputError, match=r"no\s+cell tells which"):
        read(path)
    assert read(path, decimal=",").numbers["load"][0] == pytest.approx(VALUES[0] + 0.001)


def test_units_and_decimal_commas_are_a_table_whatever_the_ending(tmp_path: Path) -> None:
    rows = [f"{v:.2f} °C;{'a b' if i % 3 else 'north'}" for i, v in enumerate(VALUES)]
    rows[4:6] = ["null;north", "null;a b"]
    path = lines_in(tmp_path, ["load;side", *(row.replace(".", ",") for row in rows)])
    assert is_table(path.rename(path.with_suffix(".dat")))
    np.testing.assert_allclose(read(path.with_suffix(".dat")).numbers["load"][:4], VALUES[:4])


@pytest.mark.parametrize("code", ["1e+20", "9.96921e+36", "-1e+34", "3.40282e+38", "-999"])
def test_what_files_are_filled_with_needs_no_second_time_far_outside(
    code: str, tmp_path: Path
) -> None:
    values = [code if i == 9 else f"{v:.2f}" for i, v in enumerate(VALUES)]
    table = read(lines_in(tmp_path, ["load", *values]))
    assert table.missing["load"].tolist() == [i == 9 for i in range(ROWS)]


def test_one_number_with_a_decimal_comma_or_two(tmp_path: Path) -> None:
    path = lines_in(tmp_path, [f"{v:.4f}".replace(".", ",") for v in VALUES / 200])
    with pytest.raises(InputError, match="decimal comma, or two numbers"):
        read(path, header="none")
    (found,) = read(path, header="none", delimiter=";").numbers.values()
    np.testing.assert_allclose(found, VALUES / 200, atol=5e-5)
    assert len(read(path, header="none", delimiter=",").numbers) == 2


@pytest.mark.parametrize("row", ["2 484 267,4 kWh", "89-Nov;None;K-1"])
def test_a_row_that_is_written_as_those_below_names_nothing(row: str, tmp_path: Path) -> None:
    rows = [row.replace("4", str(i % 9)).replace("89", f"{60 + i % 30}") for i in range(ROWS)]
    with pytest.raises(InputError, match="--header none"):
        read(lines_in(tmp_path, [row, *rows]))


def test_names_of_several_levels_as_pandas_writes_them(tmp_path: Path) -> None:
    """What yfinance downloads: the kind of price, the ticker, and the name of the index."""
    rows = [f"{d:%Y-%m-%d},{v},{v + 1}" for d, v in zip(DAYS, VALUES, strict=True)]
    one = ["Price,Close,High", "Ticker,AAPL,AAPL", "Date,,"]
    table = read(lines_in(tmp_path, [*one, *rows]))
    assert list(table.numbers) == ["Close", "High"]
    assert table.dates is not None and table.dates.astype("datetime64[s]").tolist() == DAYS
    two = ["Ticker,AAPL,MSFT", "Price,Close,Close", "Date,,"]
    table = read(lines_in(tmp_path, [*two, *rows]))
    assert list(table.numbers) == ["AAPL", "MSFT"]
    np.testing.assert_array_equal(table.numbers["MSFT"], VALUES + 1)


def test_a_value_and_its_flag_in_one_cell_are_no_decimal_comma(tmp_path: Path) -> None:
    """What NOAA writes: +0123,1 is 12.3 degrees of quality 1."""
    rows = [f'"{t:%Y-%m-%dT%H:%M}","{v * 10:+05.0f},1"' for t, v in zip(HOURS, VALUES, strict=True)]
    path = lines_in(tmp_path, ['"DATE","TMP"', *rows])
    with pytest.raises(InputError, match="a value and what is told of it"):
        read(path)
    assert read(path, decimal=",").numbers["TMP"][0] == pytest.approx(round(VALUES[0] * 10) + 0.1)


def test_milliseconds_since_1970_without_a_name(tmp_path: Path) -> None:
    rows = [f"{(t - datetime(1970, 1, 1)) // timedelta(milliseconds=1)},{v}" for t, v in
            zip(HOURS, VALUES, strict=True)]  # fmt: skip
    table = read(lines_in(tmp_path, rows), header="none")
    assert table.dates is not None and table.dates.tolist() == HOURS


def test_one_object_a_line_is_read_under_either_ending(tmp_path: Path) -> None:
    rows = [json.dumps({"time": f"{t}", "load": v}) for t, v in
            zip(HOURS, VALUES.tolist(), strict=True)]  # fmt: skip
    for ending in (".json", ".jsonl"):
        path = lines_in(tmp_path, rows).rename(tmp_path / f"a{ending}")
        np.testing.assert_array_equal(read(path).numbers["load"], VALUES)


@pytest.mark.parametrize("names", ["año,día", "mês,média", "jour,marché", "Größe,Wärme"])
def test_few_words_with_one_accent_each_are_of_europe(names: str, tmp_path: Path) -> None:
    rows = [f"{i},{v:.2f}" for i, v in enumerate(VALUES)]
    path = tmp_path / "a.csv"
    path.write_bytes("\n".join([names, *rows, ""]).encode("cp1252"))
    assert names.partition(",")[2] in read(path).numbers
