"""Writes tables in the forms that people's files have, and keeps what their cells mean.

Each draw puts together a form of numbers, a form of dates, a layout, an encoding and a container,
so that what a reader makes of the file can be held to the values that were written.
"""

import bz2
import calendar
import gzip
import io
import json
import lzma
import random
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

EPOCH = datetime(1970, 1, 1)
EXCEL = datetime(1899, 12, 30)
MINUTE, HOUR, DAY, WEEK = (timedelta(**{u: 1}) for u in ("minutes", "hours", "days", "weeks"))
MISSING = ("", "NA", "n/a", "?", "NaN", "null", "-", "N/A", "None", "#N/A", "nan", "..", ".")
CODES = (-200.0, -9999.0, -999.0, 9999.0, -99.9, 999.9, -32768.0, 1e20)
SIGNS = ("$", "€", "£", "%", " €", " %", " kr", "US$", "¥", "CHF ", " EUR")
SIGNS += (" °C", " kWh", "m/s", " µg/m³", " min")
TOTALS = ("Total", "Summe", "合计", "Sum:", "Average", "Итого", "Mean", "TOTAL", "Gesamt")
TAILS = ("Source: National Office", "Quelle: Amt für Statistik", "* provisional", "Note")
WORDS = ("north", "south", "east", "Größe", "a b", "x-1", "No", "true", "N", "K-1")
STYLES = (("", "."), (",", "."), ("", ","), (".", ","), (" ", ","), ("'", "."), (" ", "."))
STYLES += (("\u202f", ","), ("\xa0", ","), ("’", "."))  # noqa: RUF001

# Names of columns, each with encodings that hold them.
NAMES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("de", ("Größe", "Wärme", "Kühlöl", "Preis"), ("latin-1", "cp1252", "utf-8")),
    ("fr", ("énergie", "débit", "marché", "août"), ("latin-1", "cp1252", "utf-8", "mac_roman")),
    ("es", ("tamaño", "año pasado", "energía"), ("latin-1", "cp1252", "utf-8")),
    ("ko", ("기온 평균", "강수량", "풍속 최대", "습도"), ("cp949", "euc_kr", "utf-8")),
    ("zh", ("温度", "湿度平均", "风速最大", "气压"), ("gbk", "gb18030", "utf-8")),
    ("ja", ("気温の平均", "降水量の合計", "風速"), ("cp932", "shift_jis", "euc_jp", "utf-8")),
    ("ru", ("температура", "давление", "ветер"), ("cp1251", "koi8_r", "utf-8")),
    ("en", ("v", "Temp (°C)", "2020", "x y", "a.b", "load"), ("utf-8", "cp1252", "utf-16")),
)
GERMAN = "Januar Februar März April Mai Juni Juli August September Oktober November Dezember"
MONTHS = {
    "de": GERMAN.split(),
    "de-abbr": "Jan Feb Mär Apr Mai Jun Jul Aug Sep Okt Nov Dez".split(),
    "fr": (
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre"
    ).split(),
    "fr-abbr": "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.".split(),
    "es": (
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"
    ).split(),
    "es-abbr": "ene feb mar abr may jun jul ago sep oct nov dic".split(),
    "it": (
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre"
        " dicembre"
    ).split(),
    "pt": (
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro"
    ).split(),
    "nl": (
        "januari februari maart april mei juni juli augustus september oktober november december"
    ).split(),
    "ru": (
        "января февраля марта апреля мая июня июля августа сентября октября ноября декабря"
    ).split(),
    "pl": (
        "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października"
        " listopada grudnia"
    ).split(),
    "cs": (
        "ledna února března dubna května června července srpna září října listopadu prosince"
    ).split(),
    "sv": (
        "januari februari mars april maj juni juli augusti september oktober november december"
    ).split(),
    "tr": "Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık".split(),  # noqa: RUF001
    "fi": (
        "tammikuu helmikuu maaliskuu huhtikuu toukokuu kesäkuu heinäkuu elokuu syyskuu lokakuu"
        " marraskuu joulukuu"
    ).split(),
    "hu": (
        "január február március április május június július augusztus szeptember október november"
        " december"
    ).split(),
}
Form = Callable[[datetime], str]


def strf(form: str) -> Form:
    return lambda stamp: stamp.strftime(form)


def named(language: str, form: str) -> Form:
    return lambda s: form.format(d=s.day, m=MONTHS[language][s.month - 1], y=s.year, s=s.year % 100)


DAYS: tuple[Form, ...] = (
    *map(
        strf,
        (
            *("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%y", "%d-%b-%Y", "%b %d, %Y"),
            *(
                "%Y%m%d",
                "%Y/%m/%d",
                "%d %B %Y",
                "%Y年%m月%d日",
                "%d-%b-%y",
                "%Y.%m.%d",
                "%B %d, %Y",
            ),
            *("%A, %B %d, %Y", "%a %d %b %Y", "%d%b%Y", "%d-%m-%Y", "%m-%d-%Y", "%m/%d/%y"),
            *(
                "%d/%m/%y",
                "%-m/%-d/%Y",
                "%-d.%-m.%Y",
                "%-m/%-d/%y",
                "%Y/%-m/%-d",
                "%Y년 %-m월 %-d일",
            ),
            *(
                "%Y-%j",
                "%Y%j",
                "%y%m%d",
                "%d %b %y",
                "%Y %m %d",
                "%d. %m. %Y",
                "%Y-%b-%d",
                "%G-W%V-%u",
            ),
            *("%b-%d-%Y", "%d/%b/%Y", "%a, %d %b %Y", "%d.%m.%Y.", "%Y. %m. %d.", "%Y. %-m. %-d"),
            *("%d_%m_%Y", "%Y_%m_%d"),
        ),
    ),
    *(named(x, "{d} {m} {y}") for x in ("fr", "it", "nl", "ru", "pl", "cs", "sv", "tr", "fr-abbr")),
    *(named(x, "{d}. {m} {y}") for x in ("de", "cs", "fi", "de-abbr")),
    *(named(x, "{d} de {m} de {y}") for x in ("es", "pt")),
    *(named(x, "{d}-{m}-{s:02d}") for x in ("es-abbr", "de-abbr")),
    named("hu", "{y}. {m} {d}."),
)
CLOCKS: tuple[Form, ...] = tuple(
    map(
        strf,
        (
            *(" %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %-I:%M:%S %p", " %-H:%M"),
            *(" %H.%M", " %Hh%M", " %I:%M%p", ", %H:%M", " %H:%M:%S.000", " %H:%M:%S,000"),
        ),
    )
)
STAMPS: tuple[Form, ...] = tuple(
    map(
        strf,
        (
            *("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.000Z", "%Y-%m-%dT%H:%M:%S+00:00"),
            *("%Y-%m-%d %H:%M:%S UTC", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%SZ", "%Y%m%d%H%M"),
            *("%Y%m%d%H%M%S", "%Y%m%d%H", "%Y%m%d %H%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H"),
            *("%d%b%Y:%H:%M:%S", "%d/%b/%Y:%H:%M:%S +0000", "%a, %d %b %Y %H:%M:%S +0000"),
            *(
                "%a %b %d %H:%M:%S %Y",
                "%a %b %d %H:%M:%S UTC %Y",
                "%H:%M %d/%m/%Y",
                "%H:%M %d.%m.%Y",
            ),
            *(
                "%b %d %Y %-I:%M%p",
                "%Y-%m-%d-%H.%M.%S",
                "%Y-%m-%d_%H:%M:%S",
                "%Y-%m-%d %H:%M:%S GMT",
            ),
            *("%Y-%m-%dT%H:%M:%S.000000", "%Y-%m-%d %H:%M:%S.000000000", "%Y-%m-%dT%HZ"),
            *(
                "%Y-%m-%dT%H:%M:%S.000000000",
                "%Y-%m-%d %H:%M:%S+0000",
                "%m/%d/%Y %I:%M:%S %p +00:00",
            ),
            *("%Y-%m-%dT%H:%M:%S-00:00", "%d.%m.%Y %H:%M Uhr", "%d.%m.%Y %H:%M:%S"),
        ),
    )
)
MONTHLY: tuple[Form, ...] = (
    *map(
        strf,
        (
            *(
                "%Y-%m",
                "%Y/%m",
                "%m/%Y",
                "%Y%m",
                "%b-%y",
                "%b %Y",
                "%B %Y",
                "%Y-%b",
                "%YM%m",
                "%Y年%m月",
            ),
            *(
                "%Y년 %m월",
                "%b-%Y",
                "%Y %b",
                "%m.%Y",
                "%Y %B",
                "%b'%y",
                "%m-%Y",
                "%YM%-m",
                "%Y-M%m",
            ),
            *("%Y:%m", "%y-%b", "%Y.%m", "%b.%Y"),
        ),
    ),
    *(named(x, "{m} {y}") for x in ("de", "fr", "es", "it", "pt", "nl", "sv", "fr-abbr")),
    *(named(x, "{m}-{s:02d}") for x in ("es-abbr", "de-abbr")),
)
QUARTERS = ("{y}-Q{q}", "{y}Q{q}", "{y} Q{q}", "Q{q} {y}", "Q{q}-{y}", "{q}Q{y}", "{y}:Q{q}")
QUARTERS += ("{y}q{q}", "Q{q}/{y}", "{q}Q{s:02d}", "Q{q} {s:02d}", "{q}. Quartal {y}", "T{q} {y}")
QUARTERS += ("{y}/Q{q}", "{y}:{q}", "{y}-0{q}", "{y}年第{q}季度", "Q{q}'{s:02d}", "{y}K{q}")
WEEKS = (
    "{y}W{w:02d}",
    "{y}-W{w:02d}",
    "{y}-W{w:02d}-1",
    "W{w:02d} {y}",
    "{y}w{w:02d}",
    "KW{w:02d} {y}",
)
WEEKS += ("{y} W{w:02d}", "{y}/W{w:02d}", "{y}-{w:02d}", "{y}{w:02d}", "W{w}-{y}", "{y}W{w}")


@dataclass
class Written:
    """What was written.

    Args:
        cells: By column, row by row as they stand in the file.
        numbers: What the cells of a column mean; NaN where they mean nothing.
        codes: Numbers that stand for a missing value, by column.
        stamps: The time of each row.
        texts: Columns of categories.
        series: The column that names the series.
        parts: What was put together: for messages.
        unsure: Why the file may be refused or asked about.
    """

    cells: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    codes: dict[str, float] = field(default_factory=dict)
    stamps: list[datetime] | None = None
    texts: dict[str, list[str]] = field(default_factory=dict)
    series: str | None = None
    parts: dict[str, str] = field(default_factory=dict)
    unsure: list[str] = field(default_factory=list)
    path: Path = Path()
    header: bool = True


def next_month(stamp: datetime, months: int) -> datetime:
    total = stamp.year * 12 + stamp.month - 1 + months
    year, month = divmod(total, 12)
    day = min(stamp.day, calendar.monthrange(year, month + 1)[1])
    return stamp.replace(year=year, month=month + 1, day=day)


def write_number(value: float, digits: int, style: tuple[str, str]) -> str:
    thousands, decimal = style
    marks = str.maketrans({",": thousands or "_", ".": decimal})
    text = f"{abs(value):,.{digits}f}".translate(marks)
    return ("-" if value < 0 else "") + text.replace("_", "")


def draw_numbers(
    draw: random.Random, rows: int, style: tuple[str, str], written: Written, name: str
) -> None:
    """Draw a column of numbers in one of the ways that they are written."""
    kind = draw.choices(
        ("plain", "unit", "suffix", "accountant", "exponent", "sign", "flag", "constant", "minus"),
        (20, 4, 2, 1, 1, 1, 2, 1, 1),
    )[0]
    digits = draw.choice((0, 0, 1, 2, 3, 4))
    size = draw.choice((1, 20, 900, 5_000, 3_000_000))
    low = draw.choice((-1, 0, 0.3)) * size
    values = np.array([round(draw.uniform(low, size), digits) for _ in range(rows)]) + 0.0
    if kind == "flag":
        values, digits = np.array([float(draw.random() < 0.5) for _ in range(rows)]), 0
    if kind == "constant":
        values[:] = values[0]
    unit = draw.choice(SIGNS)
    marks = str.maketrans(".", style[1])
    cells: list[str] = []
    for row, value in enumerate(values):
        text = write_number(value, digits, style)
        if kind == "unit":
            sign = "-" if text.startswith("-") else ""
            front = unit.strip() in ("$", "€", "£", "US$", "¥") and not unit.startswith(" ")
            bare = text.removeprefix("-")
            text = sign + unit + bare if front or unit == "CHF " else text + unit
        elif kind == "suffix":
            power = 0 if value == 0 else min(2, max(0, int(np.log10(abs(value)) // 3)))
            text = f"{value / 1000**power:.3f}" + ("", "K", "M")[power]
            values[row] = round(float(text.rstrip("KM")) * 1000**power, 6)
            text = text.translate(marks)
        elif kind == "accountant" and value < 0:
            text = f"({text.removeprefix('-')})"
        elif kind == "exponent":
            text = f"{value:.6e}"
            values[row] = float(text)
            text = text.translate(marks)
        elif kind == "sign" and value > 0:
            text = "+" + text
        elif kind == "minus":
            text = text.replace("-", "\u2212")
        cells.append(text)
    gaps = draw.choice((0, 0.03, 0.03, 0.3))
    word = draw.choice(MISSING)
    for row in range(rows):
        if draw.random() < gaps:
            values[row] = np.nan
            cells[row] = word
    if kind == "plain" and draw.random() < 0.12 and rows > 40:
        code = draw.choice(
            [c for c in CODES if abs(c) > 3 * size or (c < -99 and low >= 0)] or [0.0]
        )
        if code:
            written.codes[name] = code
            for row in draw.sample(range(rows), max(4, rows // 12)):
                values[row] = np.nan
                plain = f"{code:g}" if digits == 0 else f"{code:.{digits}f}"
                cells[row] = plain.translate(marks) if abs(code) < 1e6 else f"{code:g}"
    written.cells[name], written.numbers[name] = cells, values
    written.parts[name] = f"{kind} {unit if kind == 'unit' else ''}{digits} digits"


def draw_times(draw: random.Random, rows: int, written: Written) -> None:
    """Draw the times of the rows, and write them in columns."""
    first = datetime(draw.randint(1975, 2024), draw.randint(1, 12), draw.randint(1, 28))
    kind = draw.choices(
        ("day", "clock", "stamp", "month", "quarter", "week", "year", "number", "parts", "apart"),
        (8, 8, 6, 4, 2, 2, 1, 4, 4, 4),
    )[0]
    step = draw.choice((DAY, DAY, WEEK)) if kind == "day" else draw.choice((10 * MINUTE, HOUR))
    stamps = [first + i * step for i in range(rows)]
    name = draw.choice(("Date", "date", "Datum", "timestamp", "Fecha", "日付", "ds", "time"))
    written.parts["dates"] = kind

    def put(form: Form, told: str = "") -> None:
        written.cells[name] = [form(s) for s in stamps]
        written.parts["form"] = f"{told} {form(stamps[0])!r}"

    if kind == "day":
        put(draw.choice(DAYS))
    elif kind == "clock":
        day, clock = draw.choice(DAYS), draw.choice(CLOCKS)
        put(lambda s: day(s) + clock(s))
    elif kind == "stamp":
        form = draw.choice(STAMPS)
        if form(first).count(":") < 1 and "h" not in form(first):
            stamps = [first + i * HOUR for i in range(rows)]
        put(form)
    elif kind == "month":
        stamps = [next_month(first.replace(day=1), i) for i in range(rows)]
        name = draw.choice((name, "Month", "Monat", "month"))
        put(draw.choice(MONTHLY))
    elif kind == "quarter":
        start = first.replace(month=draw.choice((1, 4, 7, 10)), day=1)
        stamps = [next_month(start, 3 * i) for i in range(rows)]
        name = draw.choice((name, "Quarter", "TIME_PERIOD"))
        text = draw.choice(QUARTERS)
        put(lambda s: text.format(y=s.year, s=s.year % 100, q=(s.month + 2) // 3))
    elif kind == "week":
        monday = first - timedelta(days=first.weekday())
        stamps = [monday + i * WEEK for i in range(rows)]
        name = draw.choice((name, "Week", "week"))
        text = draw.choice(WEEKS)
        put(lambda s: text.format(y=s.isocalendar()[0], w=s.isocalendar()[1]))
    elif kind == "year":
        stamps = [datetime(1850 + i, 1, 1) for i in range(rows)]
        name = draw.choice(("Year", "year", "Jahr", "date"))
        put(strf("%Y"))
    elif kind == "number":
        unit = draw.choice((1, 1000, 10**6, 10**9, 0))
        name = draw.choice(("timestamp", "time", "unix", "Date", "epoch"))
        if unit:
            put(lambda s: str(int((s - EPOCH).total_seconds()) * unit), f"epoch {unit}")
        else:
            name = draw.choice(("Date", "date"))
            mark = written.parts["style"][-1:]
            put(lambda s: f"{(s - EXCEL) / DAY:.10g}".replace(".", mark), "excel")
            written.unsure.append("dates")
    else:
        _times_apart(draw, written, stamps, first, kind)
        return
    written.stamps = stamps


def _times_apart(
    draw: random.Random, written: Written, stamps: list[datetime], first: datetime, kind: str
) -> None:
    """Write the times in two to five columns."""
    rows = len(stamps)

    def put(name: str, form: Form) -> None:
        written.cells[name] = [form(s) for s in stamps]
        written.parts[f"form {name}"] = repr(form(stamps[0]))

    if kind == "apart":
        clock = draw.choice((*CLOCKS, strf("%H"), strf("%-H"), strf("%H%M"), strf("%H%M%S")))
        if ":" not in clock(first) and "." not in clock(first):
            stamps = [first + i * HOUR for i in range(rows)]
        put(draw.choice(("Date", "date", "Datum", "<DATE>")), draw.choice(DAYS))
        put(
            draw.choice(("Time", "time", "Hour", "Uhrzeit", "hour", "<TIME>")),
            lambda s: clock(s).strip(" ,"),
        )
    else:
        names = draw.choice(
            (
                ("year", "month", "day", "hour", "minute"),
                ("Year", "Month", "Day", "Hour", "Minute"),
                ("YEAR", "MO", "DY", "HR", "MN"),
                ("Jahr", "Monat", "Tag", "Stunde", "Minute"),
                ("yy", "mm", "dd", "hh", "mi"),
                ("año", "mes", "día", "hora", "minuto"),
                ("year", "doy", "", "hour", ""),
                ("Year", "Quarter", "", "", ""),
                ("Year", "Week", "", "", ""),
            )
        )
        month = draw.choice((strf("%-m"), strf("%m"), strf("%b"), strf("%B")))
        if names[1] == "Quarter":
            stamps = [next_month(first.replace(month=1, day=1), 3 * i) for i in range(rows)]
            month = lambda s: str((s.month + 2) // 3)  # noqa: E731
        elif names[1] == "Week":
            monday = first - timedelta(days=first.weekday())
            stamps = [monday + i * WEEK for i in range(rows)]
            month = strf("%V")
        elif names[1] == "doy":
            stamps = [first + i * HOUR for i in range(rows)]
            month = strf("%j")
        else:
            many = draw.choice((2, 3, 4, 5))
            names = names[:many]
            step = (DAY, HOUR, 10 * MINUTE)[max(0, many - 3)]
            stamps = [first + i * step for i in range(rows)]
            if many == 2:
                stamps = [next_month(first.replace(day=1), i) for i in range(rows)]
        year = strf("%G" if names[1] == "Week" else "%Y")
        forms = (year, month, strf("%-d"), strf("%-H"), strf("%M"))
        order = [i for i, n in enumerate(names) if n]
        if draw.random() < 0.2 and len(order) == 3:
            order.reverse()
        for i in order:
            put(names[i], forms[i])
        written.unsure.append("dates")
    written.stamps = stamps


def draw_columns(draw: random.Random, rows: int) -> Written:
    """Draw what stands in the rows."""
    written = Written()
    style = draw.choice(STYLES)
    written.parts["style"] = "".join(style)
    if draw.random() < 0.85:
        draw_times(draw, rows, written)
    _, names, encodings = draw.choice((*NAMES, NAMES[-1], NAMES[-1]))
    written.parts["encoding"] = draw.choice((*encodings, "utf-8", "utf-8-sig", "utf-16"))
    for number in range(draw.randint(1, 4)):
        name = draw.choice(names)
        draw_numbers(draw, rows, style, written, name if number == 0 else f"{name} {number}")
    if draw.random() < 0.3:
        some = draw.sample(WORDS, draw.randint(2, 4))
        name = draw.choice(("kind", "weekday", "status"))
        written.texts[name] = written.cells[name] = [draw.choice(some) for _ in range(rows)]
    if draw.random() < 0.1:
        name = draw.choice(("is open", "holiday"))
        yes, no = draw.choice((("True", "False"), ("yes", "no"), ("Y", "N"), ("ja", "nein")))
        written.texts[name] = written.cells[name] = [draw.choice((yes, no)) for _ in range(rows)]
    return written


def _reorder(written: Written, order: Sequence[int]) -> None:
    written.cells = {n: [c[i] for i in order] for n, c in written.cells.items()}
    written.texts = {n: [c[i] for i in order] for n, c in written.texts.items()}
    written.numbers = {n: v[list(order)] for n, v in written.numbers.items()}
    if written.stamps is not None:
        written.stamps = [written.stamps[i] for i in order]


def draw_order(draw: random.Random, rows: int, written: Written) -> None:
    """Draw the order of the rows, which are left out, and whether there are several series."""
    order = list(range(rows))
    what = draw.choices(
        ("as is", "newest first", "shuffled", "gaps", "doubled", "panel"), (10, 3, 1, 2, 1, 3)
    )[0]
    if what == "newest first":
        order.reverse()
    elif written.stamps is None:
        return
    elif what == "shuffled":
        draw.shuffle(order)
        written.unsure.append("shuffled")
    elif what == "gaps":
        order = sorted(draw.sample(order, int(0.9 * rows)))
    elif what == "doubled":
        order.insert(rows // 2, rows // 2)
    elif what == "panel":
        count = draw.choice((2, 3))
        written.series = draw.choice(("name", "store", "Station"))
        labels = draw.choice((("A", "B", "C"), ("1", "2", "3"), ("OT", "HUFL", "a b")))[:count]
        pairs = [(i, k) for i in order for k in range(count) if draw.random() < 0.9]
        if draw.random() < 0.5:
            pairs.sort(key=lambda p: (p[1], p[0]))
        _reorder(written, [i for i, _ in pairs])
        for name, values in written.numbers.items():
            if "flag" in written.parts[name] or name in written.codes:
                continue
            # Rows of one time differ from series to series, or mixing them would not be seen.
            for row, (_, k) in enumerate(pairs):
                if k and not np.isnan(values[row]) and draw.random() < 0.7:
                    other = draw.randrange(len(pairs))
                    values[row] = values[other]
                    written.cells[name][row] = written.cells[name][other]
        written.cells[written.series] = [labels[k] for _, k in pairs]
        written.parts["rows"] = what
        return
    _reorder(written, order)
    written.parts["rows"] = what


def draw_lines(draw: random.Random, written: Written, delimiter: str) -> list[list[str]]:
    """Put the rows together with what people's files have beside them."""
    names = list(written.cells)
    lines = [list(row) for row in zip(*written.cells.values(), strict=True)]
    first = names[0]
    has_dates = written.stamps is not None and first not in written.numbers

    def at(chance: float, what: str) -> bool:
        if draw.random() >= chance:
            return False
        written.parts[what] = "yes"
        return True

    if at(0.06, "index column"):
        names = [draw.choice(("", "Unnamed: 0", "index", "No")), *names]
        lines = [[str(i), *line] for i, line in enumerate(lines)]
        has_dates = False
    if at(0.05, "blank column"):
        names, lines = [*names, ""], [[*line, ""] for line in lines]
    if at(0.05, "comment column"):
        names = [*names, "remark"]
        lines = [[*line, draw.choice(("", "see\nnote", 'a "b"', "ok, fine"))] for line in lines]
    width = len(names)
    written.header = not at(0.04, "no header")
    if written.header and at(0.06, "repeated header"):
        lines.insert(len(lines) // 2, names)
    if written.header and at(0.05, "units row"):
        lines.insert(0, [draw.choice(("°C", "m/s", "[kWh]", "%")) for _ in names])
    if has_dates and at(0.06, "total row"):
        marks = (written.parts["style"][:-1], written.parts["style"][-1])
        totals = [write_number(1e6, 0, marks) for _ in names[1:]]
        lines.append([draw.choice(TOTALS), *totals])
    if at(0.06, "rows without values"):
        lines += [[""] * width] * 2
    if width > 1 and at(0.04, "blank lines"):  # in one column, these are gaps
        lines.insert(len(lines) // 3, [])
        lines.append([])
    if has_dates and at(0.04, "footer"):
        lines += [[], [draw.choice(TAILS)]]
    if at(0.03, "short row"):
        row = draw.randrange(len(lines))
        if len(lines[row]) > 1:
            lines[row] = lines[row][:-1]
            written.unsure.append("ragged")
    if at(0.05, "trailing delimiters"):
        lines = [[*line, "", ""] if line else line for line in lines]
        names = [*names, "", ""]
    return [names, *lines] if written.header else lines


def draw_file(draw: random.Random, folder: Path) -> Written:
    """Write a file; its ending is that of its container."""
    rows = draw.randint(30, 130)
    written = draw_columns(draw, rows)
    draw_order(draw, rows, written)
    delimiter = draw.choice(",;\t|,;")
    written.parts["delimiter"] = repr(delimiter)
    if draw.random() < 0.08 and _write_other(draw, written, folder):
        return written
    lines = draw_lines(draw, written, delimiter)
    ending = draw.choice(("\n", "\n", "\r\n"))
    quote = draw.random() < 0.2

    def cell(text: str) -> str:
        if quote or delimiter in text or "\n" in text or '"' in text:
            return '"' + text.replace('"', '""') + '"'
        return text

    texts = [delimiter.join(map(cell, line)) for line in lines]
    if len(written.cells) > 1 and draw.random() < 0.06:
        texts = draw_preamble(draw, delimiter) + texts
        written.parts["preamble"] = "yes"
    if draw.random() < 0.03:
        texts.insert(len(texts) // 2, "# sensor replaced")
        written.parts["comment inside"] = "yes"
    data = (ending.join(texts) + draw.choice((ending, ending, ""))).encode(
        _encoding(written, texts)
    )
    written.path = _pack(draw, data, folder, written)
    return written


def draw_preamble(draw: random.Random, delimiter: str) -> list[str]:
    """Draw lines above the header."""
    return draw.choice(
        (
            ["# made by a logger", "# 2020-01-01"],
            ["Station: Hill", "Height: 1041 m", ""],
            ["Category: All categories", ""],
            [f"sep={delimiter}"],
            ["", ""],
            ["% comment"],
            [delimiter.join(("Data Source", "World Indicators")), ""],
        )
    )


def _encoding(written: Written, texts: Sequence[str]) -> str:
    """Return the drawn encoding if it holds all there is."""
    try:
        "\n".join(texts).encode(written.parts["encoding"])
    except UnicodeEncodeError:
        written.parts["encoding"] = "utf-8"
    return written.parts["encoding"]


def _pack(draw: random.Random, data: bytes, folder: Path, written: Written) -> Path:
    kind = draw.choices(("", ".gz", ".bz2", ".xz", ".zip", "two.zip"), (20, 1, 1, 1, 1, 0.4))[0]
    written.parts["container"] = kind
    name = draw.choice(("a.csv", "a.txt", "a.dat"))
    path = folder / (name + ("" if kind == "two.zip" else kind))
    if kind.endswith(".zip"):
        path = folder / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, data)
            if kind == "two.zip":
                archive.writestr("README.csv", "a,b\n1,2\n")
                written.unsure.append("container")
        return path
    packers = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    path.write_bytes(packers[kind](data))
    return path


def _write_other(draw: random.Random, written: Written, folder: Path) -> bool:
    """Write JSON lines, a sheet, blank-separated columns or ARFF; False: it does not suit."""
    kind = draw.choice(("jsonl", "xlsx", "blanks", "fixed", "arff"))
    rows = [
        dict(zip(written.cells, r, strict=True)) for r in zip(*written.cells.values(), strict=True)
    ]
    cells = [c for row in rows for c in row.values()]
    names = list(written.cells)
    written.parts["container"] = kind
    written.parts["encoding"] = "utf-8"
    if kind == "jsonl":
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        written.path = folder / "a.jsonl"
        written.path.write_text(text + "\n", encoding="utf-8")
        return True
    if kind == "xlsx":
        from openpyxl import Workbook

        book = Workbook()
        sheet = book.active
        assert sheet is not None
        sheet.append(names)
        for at, row in enumerate(rows):
            sheet.append(
                [
                    (None if np.isnan(v := written.numbers[n][at]) else v)
                    if n in written.numbers
                    else row[n]
                    for n in names
                ]
            )
        written.codes.clear()  # their cells are empty here
        buffer = io.BytesIO()
        book.save(buffer)
        written.path = folder / "a.xlsx"
        written.path.write_bytes(buffer.getvalue())
        return True
    if any(not c or " " in c or "\t" in c for c in (*cells, *names)):
        return False
    if kind == "arff":
        if written.parts["style"] not in (".",) or any("'" in c or "%" in c for c in cells):
            return False
        types = ["numeric" if n in written.numbers else "string" for n in names]
        head = [f"@attribute '{n}' {t}" for n, t in zip(names, types, strict=True)]
        body = [",".join(f"'{c}'" if "," in c else c for c in row.values()) for row in rows]
        written.path = folder / "a.arff"
        written.path.write_text("\n".join(["@relation r", *head, "@data", *body]), encoding="utf-8")
        return True
    width = max(map(len, (*cells, *names))) + 1
    pad = (lambda c: c.rjust(width)) if kind == "fixed" else (lambda c: c)
    lines = [" ".join(map(pad, names)), *(" ".join(map(pad, row.values())) for row in rows)]
    written.path = folder / "a.txt"
    written.path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return True
