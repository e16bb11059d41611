"""What surrounds the numbers: series in one file, gaps, rows that are no data, packing."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import zstandard

from steadygrad.errors import InputError
from steadygrad.reading import TableSpec, read_table
from steadygrad.reading.prose import is_table
from steadygrad.tasks import ForecastSpec, read_forecast
from steadygrad.tasks.from_table import apply_spec
from tests.reading.helpers import read, save, stamps, told, wave, written

ROWS = 120
HOURS = stamps(ROWS, timedelta(hours=1), datetime(2021, 1, 20))
TIMES = written(HOURS, "%Y-%m-%d %H:%M")
VALUES = wave(ROWS)
CELLS = [f"{v:.2f}" for v in VALUES]


def long_format(tmp_path: Path, names: tuple[str, ...], rows: int = ROWS) -> Path:
    columns: dict[str, list[str]] = {"date": [], "name": [], "value": []}
    for i in range(rows):
        for k, name in enumerate(names):
            columns["date"].append(TIMES[i])
            columns["name"].append(name)
            columns["value"].append(f"{VALUES[i] * 10**k:.2f}")
    return save(tmp_path / "long.csv", columns)


@pytest.mark.parametrize(
    "names", [("A", "B"), ("OT", "HUFL", "HULL"), tuple("abcdefghijklmnopqrstuvwxyz")]
)
def test_long_format_is_never_one_series(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = long_format(tmp_path, names)
    with pytest.raises(
        InputError, match=f"'name' names {len(names)} series.*--series 'name'.*--only"
    ):
        read(path)
    table = read(path, series="name")
    assert table.spec.names == tuple(sorted(names)) and len(table.starts) == len(names)
    first = 10 ** names.index(min(names))
    np.testing.assert_allclose(table.numbers["value"][:ROWS], np.round(VALUES * first, 2))
    one = read(path, series="name", only=names[1])
    np.testing.assert_allclose(one.numbers["value"], np.round(VALUES * 10, 2))
    with pytest.raises(InputError, match="no such series in 'name'; there are: "):
        read(path, series="name", only="zz")


def test_a_panel_by_number_and_with_gaps(tmp_path: Path) -> None:
    columns: dict[str, list[str]] = {"date": [], "store": [], "sales": []}
    for i in range(ROWS):
        for store in (1, 2, 7):
            if (i, store) != (50, 2):
                columns["date"].append(TIMES[i])
                columns["store"].append(str(store))
                columns["sales"].append(CELLS[i])
    path = save(tmp_path / "a.csv", columns)
    with pytest.raises(InputError, match="'store' names 3 series"):
        read(path)
    table = read(path, series="store")
    assert table.spec.names == ("1", "2", "7") and table.spec.gaps == 1
    task = read_forecast(path, window=12, horizon=3, reading=_reading(series="store"))
    starts = np.array(task.starts)
    for split in ("train", "val", "test"):
        for origin in task.origins(split):
            series = np.searchsorted(starts, origin, side="right")
            assert np.searchsorted(starts, origin - 11, side="right") == series
            assert np.searchsorted(starts, origin + 3, side="right") == series


def _reading(**options: str):
    from steadygrad.reading import Reading

    return Reading(**options)  # pyright: ignore[reportArgumentType]


def test_repeated_dates_that_nothing_explains_are_refused(tmp_path: Path) -> None:
    days = [t[:10] for t in TIMES]
    path = save(tmp_path / "a.csv", {"date": days, "v": CELLS})
    with pytest.raises(InputError, match=r"every date comes 24 times.*--date"):
        read(path)
    assert read(path, date="none").dates is None


def test_gaps_are_told_and_a_grid_makes_them_rows(tmp_path: Path) -> None:
    kept = [i for i in range(ROWS) if i not in (20, 60, 61, 62, 100)]
    path = save(tmp_path / "a.csv", {"t": [TIMES[i] for i in kept], "v": [CELLS[i] for i in kept]})
    table = read(path)
    assert table.spec.gaps == 3 and "3 gaps in the dates, the longest 4 hours" in told(table)
    assert "--every 1h" in told(table)
    grid = read(path, every="1h")
    assert grid.rows == ROWS and np.flatnonzero(grid.missing["v"]).tolist() == [20, 60, 61, 62, 100]
    np.testing.assert_array_equal(grid.numbers["v"][kept], VALUES[kept])
    with pytest.raises(InputError, match="--every 1 hr"):
        read(path, every="1 hr?")


def test_newest_first_is_turned_round(tmp_path: Path) -> None:
    table = read(save(tmp_path / "a.csv", {"t": TIMES[::-1], "v": CELLS[::-1]}))
    np.testing.assert_array_equal(table.numbers["v"], VALUES)
    assert "newest first" in told(table)


def test_business_days_have_no_gap_at_the_weekend(tmp_path: Path) -> None:
    days = [d for d in stamps(170, timedelta(days=1)) if d.weekday() < 5][:ROWS]
    table = read(save(tmp_path / "a.csv", {"t": written(days, "%Y-%m-%d"), "v": CELLS}))
    assert table.spec.frequency == "business day" and table.spec.gaps == 0


def test_empty_columns_at_the_end_blank_rows_units_and_headers(tmp_path: Path) -> None:
    lines = ["t;v;w;;", "h;kg;°C;;"]
    for i, (time, cell) in enumerate(zip(TIMES, CELLS, strict=True)):
        if i == 60:
            lines.append("t;v;w;;")
        lines.append(f"{time};{cell};{cell};;")
    path = tmp_path / "a.csv"
    path.write_text("\n".join([*lines, ";;;;", ";;;;", ""]), encoding="utf-8")
    table = read(path)
    assert table.rows == ROWS and list(table.numbers) == ["v", "w"]
    np.testing.assert_array_equal(table.numbers["v"], VALUES)
    for said in ("units or notes below the header", "repeated header line", "without any value"):
        assert said in told(table)


def test_a_column_without_any_number_is_dropped_with_its_cell(tmp_path: Path) -> None:
    for word in ("nan", "inf", "n.d."):
        path = save(tmp_path / "a.csv", {"t": TIMES, "x": [word] * ROWS, "v": CELLS})
        table = read(path, missing="n.d.")
        assert list(table.numbers) == ["v"]
        column = table.spec.column("x")
        assert column is not None and column.role == "dropped" and column.cell == word


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("cp949", ("기간", "운항도착", "여객출발")),
        ("cp949", ("날짜", "기온", "강수량")),
        ("gb18030", ("日期", "销售额", "库存数量")),
        ("cp1252", ("Datum", "Zählerstand", "Größe")),
        ("cp1251", ("Дата", "Температура", "Давление")),
        ("utf-16", ("Datum", "Größe", "Länge")),
        ("utf-8-sig", ("Datum", "Größe", "Länge")),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, names: tuple[str, str, str]) -> None:
    columns = dict(zip(names, (TIMES, CELLS, CELLS), strict=True))
    path = save(tmp_path / "a.csv", columns, encoding=encoding)
    for table in (read(path), read(path, encoding=encoding)):
        assert list(table.numbers) == list(names[1:])
        np.testing.assert_array_equal(table.numbers[names[1]], VALUES)
    if not encoding.startswith("utf"):
        assert f"read as {encoding}" in told(read(path)) and "--encoding" in told(read(path))


def packed_zip(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner/data.csv", data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("ending", "pack"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", zstandard.compress),
        (".zip", packed_zip),
    ],
)
def test_packed_files(tmp_path: Path, ending: str, pack) -> None:
    data = save(tmp_path / "a.csv", {"t": TIMES, "v": CELLS}).read_bytes()
    path = tmp_path / f"data.csv{ending}"
    path.write_bytes(pack(data))
    assert is_table(path)
    np.testing.assert_array_equal(read(path).numbers["v"], VALUES)
    path.write_bytes(pack(data)[:-40])
    with pytest.raises(InputError, match=r"cannot be|packed|zip"):
        read(path)


def test_archives_of_several_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "a\n1\n")
        archive.writestr("b.csv", "a\n1\n")
    with pytest.raises(InputError, match=r"2 files \(a.csv, b.csv\)"):
        read(path)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(path, "a.zip")
    with pytest.raises(InputError, match="tar archive"):
        read(tmp_path / "a.tar.gz")


@pytest.mark.parametrize(
    ("head", "says"),
    [(b"\x89HDF\r\n", "HDF5"), (b"SQLite format 3\0", "SQLite"), (b"%PDF-1.7", "PDF")],
)
def test_other_kinds_are_named(tmp_path: Path, head: bytes, says: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(head + b"\0\1\2" * 100)
    with pytest.raises(InputError, match=says):
        read(path)


ARFF = "% note\n@relation r\n@attribute 'a b' real\n@attribute c {x,y}\n@data\n"


def test_arff_tsf_and_columns_split_by_blanks(tmp_path: Path) -> None:
    arff = tmp_path / "a.arff"
    arff.write_text(ARFF + "\n".join(f"{c},{'xy'[i % 2]}" for i, c in enumerate(CELLS)))
    assert is_table(arff)
    np.testing.assert_array_equal(read(arff).numbers["a b"], VALUES)
    tsf = tmp_path / "a.tsf"
    head = "@relation r\n@attribute name string\n@attribute start date\n@frequency hourly\n@data\n"
    tsf.write_text(
        head + "".join(f"T{i}:2021-01-20 00-00-00:{','.join(CELLS)}\n" for i in range(2))
    )
    assert is_table(tsf)
    table = read(tsf)
    assert table.spec.names == ("T0", "T1") and table.starts == (0, ROWS)
    np.testing.assert_array_equal(table.numbers["value"][ROWS:], VALUES)
    np.testing.assert_array_equal(table.dates, np.array(HOURS * 2, "datetime64[us]"))
    blanks = tmp_path / "a.data"
    blanks.write_text("\n".join(f"  {c}   {c}  7" for c in CELLS))
    assert is_table(blanks)
    with pytest.raises(InputError, match="--header none"):
        read(blanks)
    np.testing.assert_array_equal(read(blanks, header="none").numbers["2"], VALUES)


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [json.dumps({"t": t, "v": float(v)}) for t, v in zip(TIMES, VALUES, strict=True)]
    path.write_text("\n".join(rows))
    table = read(path)
    np.testing.assert_array_equal(table.numbers["v"], VALUES)
    assert table.spec.frequency == "1 hour"


@pytest.mark.parametrize("kind", ["parquet", "feather", "xlsx"])
def test_formats_of_libraries(tmp_path: Path, kind: str) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl" if kind == "xlsx" else "pyarrow")
    frame = pandas.DataFrame({"t": pandas.to_datetime(TIMES), "v": VALUES})
    path = tmp_path / f"a.{kind}"
    options = {"index": False} if kind == "xlsx" else {}
    getattr(frame, "to_excel" if kind == "xlsx" else f"to_{kind}")(path, **options)
    assert is_table(path)
    table = read(path)
    np.testing.assert_array_equal(table.numbers["v"], VALUES)
    np.testing.assert_array_equal(table.dates, np.array(HOURS, "datetime64[us]"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It was a dark and stormy night.\n" * 30, False),
        ("One, two, three.\nBuckle my shoe, my friend.\n" * 30, False),
        ("def f(x):\n    return x, 1\n" * 30, False),
        ("1 2 3\n4 5 6\n7 8 9\n" * 5, True),
        ("\n".join(f"{i} {i * i}" for i in range(30)), True),
        ("\n".join(f"{i}" for i in range(30)), True),
    ],
)
def test_what_looks_like_a_table_is_one(tmp_path: Path, text: str, expected: bool) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    assert is_table(path) == expected


def test_what_was_understood_can_be_saved_and_applied(tmp_path: Path) -> None:
    swap = str.maketrans(",.", ".,")
    big = [f"{v:,.2f} €".translate(swap) for v in VALUES * 100]
    wind = [("N", "S", "W")[i % 3] for i in range(ROWS)]
    columns = {"Datum": written(HOURS, "%d.%m.%Y %H:%M"), "Wind": wind, "Umsatz": big}
    path = save(tmp_path / "a.csv", columns, ";")
    task = read_forecast(path, window=12, horizon=3)
    assert task.spec is not None
    again = ForecastSpec.of(json.loads(json.dumps(task.spec.plain())))
    assert again == task.spec and TableSpec.of(again.table.plain()) == again.table
    part = {name: cells[-30:] for name, cells in columns.items()}
    new = save(tmp_path / "new.csv", part, ";")
    applied = apply_spec(read_table(new, spec=again.table), again)
    np.testing.assert_array_equal(applied.x.numpy(), task.x.numpy()[-30:])
    np.testing.assert_array_equal(applied.y.numpy(), task.y.numpy()[-30:])
    del part["Wind"]
    with pytest.raises(InputError, match="no column 'Wind'"):
        read_table(save(tmp_path / "less.csv", part, ";"), spec=again.table)


def test_what_is_known_ahead_is_seen_ahead(tmp_path: Path) -> None:
    plan = np.round(np.cos(np.arange(ROWS) / 5), 3)
    path = save(tmp_path / "a.csv", {"plan": [f"{v:.4f}" for v in plan], "v": CELLS})
    task = read_forecast(path, window=6, horizon=4, reading=_reading(known="plan"))
    assert task.inputs == ("plan", "plan, 4 rows ahead", "v")
    ahead, now = task.x[:, 1], task.x[:, 0]
    correlation = np.corrcoef(ahead[:-4].numpy(), now[4:].numpy())[0, 1]
    assert correlation > 0.999999


@pytest.mark.parametrize("unit", [1e200, 1e-170])
def test_values_whose_square_is_no_number(tmp_path: Path, unit: float) -> None:
    path = save(tmp_path / "a.csv", {"v": [repr(float(v * unit)) for v in VALUES]})
    task = read_forecast(path, window=12, horizon=3)
    plain = read_forecast(save(tmp_path / "b.csv", {"v": CELLS}), window=12, horizon=3)
    np.testing.assert_allclose(task.x.numpy(), plain.x.numpy(), rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(task.naive("test"), plain.naive("test"), strict=True):
        factor = 1 if ours.unit == "MASE" else unit
        assert ours.value == pytest.approx(theirs.value * factor, rel=1e-6)


def lines_of(path: Path, *lines: str) -> Path:
    rows = [f"{2000 + i} {i % 12 + 1} {v}" for i, v in enumerate(wave(60))]
    path.write_text("\n".join([*lines, *rows]) + "\n")
    return path


def test_a_comment_that_names_the_columns(tmp_path: Path) -> None:
    for mark in ("# a b c", "#a b c", "%a b c"):
        for lines in ((mark,), ("# made by a program in 2020", mark), (mark, "#m s kg")):
            table = read(lines_of(tmp_path / "a.txt", *lines))
            assert list(table.numbers) == ["a", "b", "c"], lines


def test_names_over_several_comments_are_not_taken_from_the_last(tmp_path: Path) -> None:
    lines = ("#  decimal   monthly    day  of", "#  date   average  measured")
    with pytest.raises(ValueError, match="pass --header none"):
        read(lines_of(tmp_path / "a.txt", *lines))
    assert len(read(lines_of(tmp_path / "a.txt", *lines), header="none").numbers) == 3


def test_japanese_is_not_read_as_korean(tmp_path: Path) -> None:
    days = [f"{d.year}年{d.month}月{d.day}日" for d in stamps(60, timedelta(days=1))]
    path = save(
        tmp_path / "a.csv", {"年月日": days, "気温": [str(v) for v in wave(60)]}, encoding="cp932"
    )
    table = read(path)
    assert list(table.numbers) == ["気温"] and table.dates is not None


def test_the_records_of_an_answer_from_the_web(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    values = wave(60)
    rows = [{"t": i, "v": {"x": v}} for i, v in enumerate(values.tolist())]
    path.write_text(json.dumps({"status": "ok", "data": rows}))
    np.testing.assert_array_equal(read(path).numbers["v.x"], values)
    plain = [{"t": i, "v": v, "at": {"lat": 1.0}} for i, v in enumerate(values.tolist())]
    path.write_text(json.dumps(plain))
    np.testing.assert_array_equal(read(path).numbers["v"], values)
