"""Dates in any common form are those that were written, or are asked for."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from steadygrad.errors import InputError
from tests.reading.helpers import hours, read, save, stamps, told, wave, written

ROWS = 120
HOURS = stamps(ROWS, timedelta(hours=1), datetime(2021, 1, 20))
DAYS = stamps(ROWS, timedelta(days=1), datetime(2021, 1, 20))
MONTHS = [datetime(2001 + i // 12, 1 + i % 12, 1) for i in range(ROWS)]
VALUES = [f"{v:.2f}" for v in wave(ROWS)]
GERMAN = "Jan. Feb. März April Mai Juni Juli Aug. Sept. Okt. Nov. Dez.".split()
FRENCH = "janv. févr. mars avril mai juin juil. août sept. oct. nov. déc.".split()
RUSSIAN = (
    "января февраля марта апреля мая июня июля августа сентября октября ноября декабря".split()
)


def check(path: Path, expected: list[datetime], **options: object) -> None:
    table = read(path, **options)
    assert table.dates is not None, told(table)
    np.testing.assert_array_equal(table.dates, np.array(expected, "datetime64[us]"))


@pytest.mark.parametrize(
    "form",
    [
        *(
            "%Y-%m-%dT%H:%M:%SZ",
            "%Y-%m-%d %H:%M:%S+00:00",
            "%Y-%m-%d %H:%M:%S.%f",
            "%Y/%m/%d %H:%M",
        ),
        *("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p", "%d.%m.%Y %H:%M", "%d.%m.%y %H:%M"),
        *(
            "%Y%m%d %H%M",
            "%Y%m%dT%H%M%S",
            "%Y年%m月%d日 %H时",
            "%Y년 %m월 %d일 %H시",
            "%d-%b-%Y %H:%M:%S",
        ),
        *("%d/%b/%Y:%H:%M:%S", "%b %d, %Y %H:%M", "%Y-%m-%d %Hh%M", "%a, %d %b %Y %H:%M:%S GMT"),
        *("%A, %B %d, %Y %I:%M %p", "%Y-%m-%d_%H:%M:%S", "%d.%m.%Y %H.%M.%S", "%Y%m%d%H%M"),
    ],
)
def test_hours(tmp_path: Path, form: str) -> None:
    cells = written(HOURS, form)
    check(save(tmp_path / "a.csv", {"Time": cells, "v": VALUES}, ";"), HOURS)


@pytest.mark.parametrize(
    "form",
    ["%d.%m.%Y", "%m/%d/%Y", "%m/%d/%y", "%d-%m-%y", "%d-%b-%y", "%d %B %Y", "%Y%m%d", "%b %d, %Y"],
)
def test_days(tmp_path: Path, form: str) -> None:
    check(save(tmp_path / "a.csv", {"Date": written(DAYS, form), "v": VALUES}, ";"), DAYS)


@pytest.mark.parametrize(
    "form", ["%Y-%m", "%b %Y", "%b-%y", "%m/%Y", "%Y%m", "%d/%m/%Y", "%Y年%m月"]
)
def test_months(tmp_path: Path, form: str) -> None:
    path = save(tmp_path / "a.csv", {"Month": written(MONTHS, form), "v": VALUES}, ";")
    check(path, MONTHS)
    assert read(path).spec.frequency == "1 month"


@pytest.mark.parametrize("names", [GERMAN, FRENCH, RUSSIAN], ids=["German", "French", "Russian"])
def test_month_names_of_other_languages(tmp_path: Path, names: list[str]) -> None:
    cells = [f"{d.day}. {names[d.month - 1]} {d.year}" for d in DAYS]
    check(save(tmp_path / "a.csv", {"Datum": cells, "v": VALUES}), DAYS)
    cells = [f"{d.day} {names[d.month - 1]} {d.year}" for d in DAYS]
    check(save(tmp_path / "a.csv", {"Date": cells, "v": VALUES}), DAYS)


def test_quarters_and_weeks(tmp_path: Path) -> None:
    quarters = [datetime(1990 + i // 4, 1 + 3 * (i % 4), 1) for i in range(ROWS)]
    for form in ("{0.year}Q{1}", "Q{1} {0.year}", "{0.year}-Q{1}"):
        cells = [form.format(q, (q.month + 2) // 3) for q in quarters]
        check(save(tmp_path / "a.csv", {"Quarter": cells, "v": VALUES}), quarters)
    mondays = stamps(ROWS, timedelta(days=7), datetime(2020, 1, 6))
    check(save(tmp_path / "a.csv", {"w": written(mondays, "%G-W%V"), "v": VALUES}), mondays)


def test_an_offset_that_changes_is_one_time_all_along(tmp_path: Path) -> None:
    cells = [
        (h + timedelta(hours=1 + (i > 60))).strftime("%Y-%m-%dT%H:%M:%S") + f"+0{1 + (i > 60)}:00"
        for i, h in enumerate(HOURS)
    ]
    check(save(tmp_path / "a.csv", {"t": cells, "v": VALUES}), HOURS)


def test_midnight_without_its_time_and_24_o_clock(tmp_path: Path) -> None:
    cells = [h.strftime("%d.%m.%Y" + (" %H:%M" if h.hour else "")) for h in HOURS]
    check(save(tmp_path / "a.csv", {"t": cells, "v": VALUES}), HOURS)
    late = [
        h.strftime("%d.%m.%Y %H:%M")
        if h.hour
        else (h - timedelta(days=1)).strftime("%d.%m.%Y 24:00")
        for h in HOURS
    ]
    check(save(tmp_path / "a.csv", {"t": late, "v": VALUES}), HOURS)


@pytest.mark.parametrize(
    ("day", "clock", "names"),
    [
        ("%d/%m/%Y", "%H:%M:%S", ("Date", "Time")),
        ("%d/%m/%Y", "%H.%M.%S", ("Date", "Time")),
        ("%Y-%m-%d", "%I:%M %p", ("Date", "Time")),
        ("%d/%m/%Y", "%-H", ("Date", "Hour")),
        ("%Y%m%d", "%H%M%S", ("DATE", "TIME")),
        ("%Y%m%d", "%-H", ("Datum", "Stunde")),
        ("%Y-%m-%d", "%H%M", ("日期", "时间")),
    ],
)
def test_date_and_time_in_two_columns(
    tmp_path: Path, day: str, clock: str, names: tuple[str, str]
) -> None:
    columns = {names[0]: written(HOURS, day), "v": VALUES, names[1]: written(HOURS, clock)}
    path = save(tmp_path / "a.csv", columns)
    check(path, HOURS)
    table = read(path)
    assert list(table.numbers) == ["v"] and not table.categories
    assert table.spec.frequency == "1 hour" and (hours(table) == 1).all()


def test_hours_from_1_to_24(tmp_path: Path) -> None:
    before = [h - timedelta(hours=1) for h in HOURS]
    columns = {
        "Date": written(before, "%Y-%m-%d"),
        "Hour": [str(h.hour + 1) for h in before],
        "v": VALUES,
    }
    check(save(tmp_path / "a.csv", columns), HOURS)


def test_parts_in_columns_of_their_own(tmp_path: Path) -> None:
    parts = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H"}
    columns = {name: written(HOURS, form) for name, form in parts.items()}
    check(save(tmp_path / "a.csv", columns | {"v": VALUES}), HOURS)
    german = dict(zip(("Jahr", "Monat", "Tag", "Stunde"), columns.values(), strict=True))
    check(save(tmp_path / "a.csv", german | {"v": VALUES}), HOURS)


@pytest.mark.parametrize("unit", [1, 1000])
def test_seconds_since_1970(tmp_path: Path, unit: int) -> None:
    cells = [str(int((h - datetime(1970, 1, 1)).total_seconds()) * unit) for h in HOURS]
    check(save(tmp_path / "a.csv", {"timestamp": cells, "v": VALUES}), HOURS)


def test_day_and_month_that_could_be_exchanged_are_asked_for(tmp_path: Path) -> None:
    days = [datetime(2021, m, d) for m in range(1, 11) for d in range(1, 13)]
    order = np.random.default_rng(0).permutation(len(days))
    cells = [days[i].strftime("%d/%m/%Y") for i in order]
    path = save(tmp_path / "a.csv", {"Date": cells, "v": VALUES})
    with pytest.raises(InputError, match="--date-format '%d/%m/%Y' or --date-format '%m/%d/%Y'"):
        read(path)
    table = read(path, date_format="%d/%m/%Y")
    np.testing.assert_array_equal(table.dates, np.array(days, "datetime64[us]"))


def test_a_total_row_is_named_and_is_no_data(tmp_path: Path) -> None:
    for word in ("Summe", "Total", "合计", "Gesamt:"):
        path = save(
            tmp_path / "a.csv",
            {"Datum": written(DAYS, "%d.%m.%Y"), "v": VALUES},
            ";",
            tail=[f"{word};99999.5"],
        )
        table = read(path)
        assert table.rows == ROWS and table.numbers["v"].max() < 100
        assert f"line {ROWS + 2}: {word!r}" in told(table)
        assert table.dates is not None and table.spec.frequency == "1 day"


def test_a_wrong_date_inside_is_named(tmp_path: Path) -> None:
    cells = written(DAYS, "%d.%m.%Y")
    cells[40] = "31.02.2021"
    path = save(tmp_path / "a.csv", {"Datum": cells, "v": VALUES})
    with pytest.raises(InputError, match=r"line 42, column 'Datum': expected a date, got '31.02"):
        read(path)


def test_no_year_no_date(tmp_path: Path) -> None:
    cells = [f"{d.month:02d}월 {d.day:02d}일" for d in DAYS]
    table = read(save(tmp_path / "a.csv", {"Date": cells, "v": VALUES}, encoding="cp949"))
    assert table.dates is None and "'01월 20일'" in told(table) and "cp949" in told(table)


def test_the_minute_24_is_no_hour(tmp_path: Path) -> None:
    moments = stamps(200, timedelta(minutes=1), datetime(2006, 12, 16, 17, 24))
    columns = {
        "Date": written(moments, "%d/%m/%Y"),
        "Time": written(moments, "%H:%M:%S"),
        "v": [str(v) for v in wave(200)],
    }
    table = read(save(tmp_path / "a.csv", columns, ";"))
    assert table.dates is not None
    np.testing.assert_array_equal(table.dates, np.array(moments, "datetime64[us]"))


def test_dates_that_never_change_are_not_those_of_the_rows(tmp_path: Path) -> None:
    moments = stamps(60, timedelta(hours=1))
    form = "%Y-%m-%dT%H:%M:%SZ"
    columns = {
        "_start": written(moments[:1] * 60, form),
        "_time": written(moments, form),
        "v": [str(v) for v in wave(60)],
    }
    table = read(save(tmp_path / "a.csv", columns))
    assert table.dates is not None
    np.testing.assert_array_equal(table.dates, np.array(moments, "datetime64[us]"))


def test_a_minute_beside_a_month_of_the_same_name(tmp_path: Path) -> None:
    moments = stamps(60, timedelta(minutes=20))
    columns = {
        name: written(moments, form)
        for name, form in {"YY": "%Y", "MM": "%m", "DD": "%d", "hh": "%H", "mm": "%M"}.items()
    }
    table = read(save(tmp_path / "a.csv", {**columns, "v": [str(v) for v in wave(60)]}))
    assert table.dates is not None
    np.testing.assert_array_equal(table.dates, np.array(moments, "datetime64[us]"))


def test_a_count_of_the_rows_is_no_time_of_day(tmp_path: Path) -> None:
    moments = stamps(48, timedelta(hours=1))
    columns = {
        "No": [str(i) for i in range(48)],
        "day": written(moments, "%Y-%m-%d"),
        "Uhrzeit": written(moments, "%H.%M"),
        "v": [str(v) for v in wave(48)],
    }
    table = read(save(tmp_path / "a.csv", columns))
    assert table.dates is not None
    np.testing.assert_array_equal(table.dates, np.array(moments, "datetime64[us]"))


def test_shuffled_hours_of_two_days_tell_day_from_month(tmp_path: Path) -> None:
    """Row after row goes from one day to the other: large steps, and yet no even ones."""
    times = stamps(40, timedelta(hours=1), datetime(1994, 9, 1))
    order = [i // 2 + 20 * (i % 2) for i in range(40)]
    cells = written([times[i] for i in order], "%d/%m/%Y %H:%M")
    path = save(tmp_path / "a.csv", {"date": cells, "y": [f"{i}.5" for i in order]})
    table = read(path)
    assert table.dates is not None and table.dates.tolist() == times
