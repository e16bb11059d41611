"""Dates: which form a column has, decided from all its cells; pandas reads them by that form."""

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steadygrad.errors import InputError
from steadygrad.reading.numbers import MISSING

MICRO = 1e6
MOST_FORMS = 4  # of one column: midnight without its time, seconds without their fraction, ...
SAMPLE = 400
MONTHS = (  # as English, German, French, Spanish, Italian, Portuguese, Dutch and others begin them
    "jan|ene|gen|janv|янв|sty",
    "feb|fév|fev|févr|фев|lut|únor",
    "mar|mär|mrz|mrt|maart|mär|мар",
    "apr|avr|abr|апр|kwi",
    "may|mai|mag|mei|maj|май|мая",
    "jun|juin|giu|июн|cze",
    "jul|juil|lug|июл|lip",
    "aug|aoû|aou|ago|авг|sie",
    "sep|set|сен|wrz",
    "oct|okt|ott|out|окт|paź",
    "nov|ноя|lis",
    "dec|dez|déc|dic|des|дек|gru",
)
_MONTH = [(number, start) for number, row in enumerate(MONTHS, 1) for start in row.split("|")]
_STARTS = sorted(_MONTH, key=lambda pair: -len(pair[1]))  # "juil" before "jul", "mai" before "ma"
WEEKDAYS = re.compile(
    r"^(?:mon|tue|wed|thu|fri|sat|sun|mo|di|mi|do|fr|sa|so|lun|mar|mer|jeu|ven|sam|dim|mié|jue|vie"
    r"|sáb|dom|пн|вт|ср|чт|пт|сб|вс)[a-zäéàçí]*[.,]?\s+(?=\d|[a-zа-я])",  # noqa: RUF001
    re.IGNORECASE,
)
WORD = re.compile(r"[^\W\d_]{3,}\.?")
SIMPLE = re.compile(r"[^0-9:./\- T\x1f]")  # cells without any of these need no rewriting
MARKS = re.compile(r"[AP]M|Z|\+")  # which need none either
ZONE = re.compile(r"(?<=\d)\s*(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)$")
CLOCK = (
    (r"(?P<I>\d{1,2}):\d\d:\d\d\.\d+ ?[AP]M", "%I:%M:%S.%f{s}%p"),
    (r"\d{1,2}:\d\d:\d\d ?[AP]M", "%I:%M:%S{s}%p"),
    (r"\d{1,2}:\d\d ?[AP]M", "%I:%M{s}%p"),
    (r"\d{1,2} ?[AP]M", "%I{s}%p"),
    (r"\d{1,2}:\d\d:\d\d\.\d+", "%H:%M:%S.%f"),
    (r"\d{1,2}:\d\d:\d\d", "%H:%M:%S"),
    (r"\d{1,2}:\d\d", "%H:%M"),
    (r"\d{1,2}\.\d\d\.\d\d", "%H.%M.%S"),
    (r"\d{1,2}\.\d\d", "%H.%M"),
    (r"\d\d-\d\d-\d\d", "%H-%M-%S"),
    (r"\d\d\d\d\d\d", "%H%M%S"),
    (r"\d\d\d\d", "%H%M"),
    (r"\d\d?h\d\d", "%Hh%M"),
    (r"\d\d?h", "%Hh"),
    (r"\d\d", "%H"),
)
_SEP = r"[-/. ]"
_TEXT_SEP = r"[-/., ]{1,2}"
DAYS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (rf"\d{{4}}(?P<a>{_SEP})\d{{1,2}}(?P=a)\d{{1,2}}", ("%Y{a}%m{a}%d",)),
    (rf"\d{{1,2}}(?P<a>{_SEP})\d{{1,2}}(?P=a)\d{{4}}", ("%d{a}%m{a}%Y", "%m{a}%d{a}%Y")),
    (
        rf"\d{{1,2}}(?P<a>{_SEP})\d{{1,2}}(?P=a)\d{{2}}",
        ("%d{a}%m{a}%y", "%m{a}%d{a}%y", "%y{a}%m{a}%d"),
    ),
    (r"\d{4}(?P<a>[-/.])\d{1,2}", ("%Y{a}%m",)),
    (r"\d{1,2}(?P<a>[-/.])\d{4}", ("%m{a}%Y",)),
    (r"\d{8}", ("%Y%m%d",)),
    (rf"\d{{1,2}}(?P<a>{_TEXT_SEP})?m\d\d(?P<b>{_TEXT_SEP})?\d{{4}}", ("%d{a}m%m{b}%Y",)),
    (rf"\d{{1,2}}(?P<a>{_TEXT_SEP})?m\d\d(?P<b>{_TEXT_SEP})?\d\d", ("%d{a}m%m{b}%y",)),
    (rf"m\d\d(?P<a>{_TEXT_SEP})\d{{1,2}}(?P<b>{_TEXT_SEP})\d{{4}}", ("m%m{a}%d{b}%Y",)),
    (rf"m\d\d(?P<a>{_TEXT_SEP})?\d{{4}}", ("m%m{a}%Y",)),
    (r"m\d\d(?P<a>[-/.' ]{1,2})\d\d", ("m%m{a}%y",)),
    (rf"\d{{4}}(?P<a>{_TEXT_SEP})?m\d\d(?P<b>{_TEXT_SEP})\d{{1,2}}", ("%Y{a}m%m{b}%d",)),
    (rf"\d{{4}}(?P<a>{_TEXT_SEP})?m\d\d", ("%Y{a}m%m",)),
    (r"\d{4}-W\d\d-\d", ("%G-W%V-%u",)),
)
_COMPILED = [(re.compile(day), forms) for day, forms in DAYS]
_CLOCKS = [(re.compile(clock), form) for clock, form in CLOCK]
BETWEEN = re.compile(r"[ T_,:]{1,2}|\s*-\s*|")
ISO = frozenset(
    {"%Y-%m-%d", "%Y-%m"}
    | {f"%Y-%m-%d{s}{c}" for s in " T" for c in ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f")}
)


@dataclass(frozen=True)
class DateSpec:
    """How the dates of a file are written.

    Args:
        columns: The date's column; then that of the time, if it stands apart; or year, month, ...
        kind: ``text``: by ``formats``; ``parts``: one column each for year, month, ...;
            ``number``: digits such as 20160104; ``epoch``: seconds since 1970; ``year``.
        formats: As strptime has them, the commonest first.
        clock: How the time's column is written, if that of the date is one of numbers, or it is
            itself: ``hour``, ``HHMM``, ``HHMMSS``, or as strptime has it.
        unit: Units in a second, of ``epoch``.
    """

    columns: tuple[str, ...]
    kind: str
    formats: tuple[str, ...] = ()
    clock: str = ""
    unit: float = 1.0

    def is_number(self, column: str) -> bool:
        """Whether a column of the date is read as numbers, not as text."""
        if self.kind == "parts":
            return True
        has_clock = bool(self.clock) and not self.clock.startswith("%")
        is_clock = len(self.columns) > 1 and column == self.columns[-1]
        return has_clock if is_clock else self.kind != "text"


def rewrite(cell: str) -> str:
    """Bring a date into a form that strptime knows: month names, quarters, marks of East Asia."""
    text = cell.strip()
    if not text.isascii():
        text = re.sub(r"\s*[年년]\s*|\s*[月월]\s*", "-", text)
        text = re.sub(r"[日일]", " ", text)
        text = re.sub(r"\s*[時时시]\s*|\s*[分분]\s*", ":", text)
        text = re.sub(r"[秒초]", "", text).strip().rstrip("-:")
        text = text.replace("午前", "AM ").replace("午後", "PM ")
        text = text.replace("上午", "AM ").replace("下午", "PM ")
        text = text.replace("오전", "AM ").replace("오후", "PM ")
        text = re.sub(r"([AP]M) +(\d[\d:.]*)$", r"\2 \1", re.sub(r" +", " ", text))
    text = re.sub(r"\b([AaPp])\.? ?[Mm]\b\.?", lambda m: f"{m[1].upper()}M", text)
    if quarter := re.fullmatch(r"(\d{4})[- ]?[Qq]([1-4])", text):
        return f"{quarter[1]}-{3 * int(quarter[2]) - 2:02d}"
    if quarter := re.fullmatch(r"[Qq]([1-4])[- /]?(\d{4})", text):
        return f"{quarter[2]}-{3 * int(quarter[1]) - 2:02d}"
    if week := re.fullmatch(r"(\d{4})-?W(\d\d)", text):
        return f"{week[1]}-W{week[2]}-1"
    if text[:1].isalpha():
        bare = WEEKDAYS.sub("", text)
        # "Mar" is Tuesday in French and March in English: it is a month if no other is left.
        text = bare if re.search(r"[^\W\d]{3,}\.? ?\d|\d+[-/.]\d+", bare) else text
    text = re.sub(r"(?<=\d)(st|nd|rd|th)\b", "", text)
    text = re.sub(r"(?<=\d)\. (?=[^\W\d])", " ", text)  # 3. März
    text = re.sub(r"\bde\b ?", "", text)
    text = re.sub(r"(?<=:\d\d),(?=\d)", ".", text)
    return WORD.sub(_month, text)


def _month(word: re.Match[str]) -> str:
    text = word.group().lower()
    for number, start in _STARTS:
        if text.startswith(start):
            return f"m{number:02d}"
    return word.group()


def formats_of(cell: str) -> list[str]:
    """Return every form, as strptime has it, in which the cell could be a date."""
    text = rewrite(cell)
    text = ZONE.sub("", text) if ":" in text else text
    found: list[str] = []
    for day, forms in _COMPILED:
        match = day.match(text)
        if match is None:
            continue
        rest = text[match.end() :]
        clock = "" if not rest else _clock(rest, packed=forms == ("%Y%m%d",))
        if clock is None or (clock and "d" not in forms[0]):  # an hour of a month is no time
            continue
        marks = {k: v or "" for k, v in match.groupdict().items()}
        found += [form.format(**marks) + clock for form in forms]
    return found


def _clock(rest: str, *, packed: bool) -> str | None:
    """Return the form of a time behind a date; only behind 20160104 may it follow at once."""
    between = BETWEEN.match(rest)
    assert between is not None
    time = rest[between.end() :]
    if not between.group() and not packed:
        return None
    for clock, form in _CLOCKS:
        if clock.fullmatch(time):
            return between.group() + form.format(s=" " if re.search(r" [AP]M$", time) else "")
    return None


def clock_format(cell: str) -> str | None:
    """Return the form of a time of day that stands alone, or None."""
    text = rewrite(cell)
    for clock, form in _CLOCKS[:10]:
        if clock.fullmatch(text):
            return form.format(s=" " if " " in text else "")
    return None


def looks_like_date(cell: str) -> bool:
    """Whether the cell has the form of a date or of a time of day."""
    if not any(c.isdigit() for c in cell) or len(cell) > 40:
        return False
    return bool(formats_of(cell)) or clock_format(cell) is not None


def read_dates(cells: list[str], formats: Sequence[str]) -> np.ndarray:
    """Return ``datetime64[us]``, NaT where a cell is in none of the forms.

    Times with an offset from UTC are taken in UTC.
    """
    joined = "\x1f".join(cells)
    plain = SIMPLE.search(MARKS.sub("", joined)) is None
    zoned = any(ZONE.search(c) for c in cells[:100] if ":" in c) or "+" in joined or "Z" in joined
    if plain and not zoned and formats and formats[0] in ISO:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return np.array(cells, "datetime64[us]")
        except (ValueError, UserWarning, DeprecationWarning):
            pass
    texts = [c.strip() for c in cells] if plain else [rewrite(c) for c in cells]
    shift = np.zeros(len(texts), "timedelta64[us]")
    if zoned or not plain:
        texts, shift = _zones(texts)
    late = [i for i, t in enumerate(texts) if "24:00" in t]
    for i in late:
        texts[i] = re.sub(r"(?<!\d)24:00", "00:00", texts[i])
    dates = np.full(len(texts), np.datetime64("NaT"), "datetime64[us]")
    left = np.arange(len(texts))
    for form in formats:
        if len(left) == 0:
            break
        dates[left] = _strptime([texts[i] for i in left], form)
        left = left[np.isnat(dates[left])]
    if late:
        dates[late] += np.timedelta64(1, "D")
    return dates - shift


def _strptime(texts: list[str], form: str) -> np.ndarray:
    pandas = need_pandas("dates of this form")
    found = pandas.to_datetime(pandas.Series(texts, dtype=object), format=form, errors="coerce")
    return found.to_numpy().astype("datetime64[us]")


def _zones(texts: list[str]) -> tuple[list[str], np.ndarray]:
    """Take offsets off the ends; return how far each lies ahead of UTC."""
    bare: list[str] = []
    minutes: list[int] = []
    for text in texts:
        zone = ZONE.search(text) if ":" in text else None
        if zone is None:
            bare.append(text)
            minutes.append(0)
            continue
        bare.append(text[: zone.start()])
        mark = zone[1]
        if mark[0] in "+-":
            digits = mark[1:].replace(":", "").ljust(4, "0")
            size = int(digits[:2]) * 60 + int(digits[2:])
            minutes.append(-size if mark[0] == "-" else size)
        else:
            minutes.append(0)
    return bare, np.array(minutes, "timedelta64[m]").astype("timedelta64[us]")


def need_pandas(what: str) -> Any:
    """Import pandas.

    Raises:
        InputError: It is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError:
        raise InputError(
            f"{what}: reading them needs pandas: pip install 'steadygrad[cli]'"
        ) from None
    return pandas


Cells = Callable[[], Iterable[list[str]]]


def choose_formats(cells: Cells, column: str, where: str) -> tuple[str, ...] | None:
    """Choose the forms of a column of dates; None if it holds none.

    Args:
        cells: Returns all cells, chunk by chunk.
        column: Its name, for the message.
        where: The file, for the message.

    Raises:
        InputError: Day and month could be exchanged, and nothing tells which is which.
    """
    sample: list[str] = []
    for chunk in cells():
        sample += [c for c in chunk[:SAMPLE] if c.strip().lower() not in MISSING]
        if len(sample) >= SAMPLE:
            break
    known = [formats_of(cell) for cell in sample[:SAMPLE]]
    if not known or sum(map(bool, known)) < 0.5 * len(known):
        return None
    first = next(forms for forms in known if forms)
    found: list[tuple[int, tuple[str, ...], np.ndarray]] = []
    for form in first:
        forms = _completed(form, cells)
        dates = np.concatenate([read_dates(c, forms) for c in cells()])
        found.append((int(np.isnat(dates).sum()), forms, dates))
    least = min(bad for bad, _, _ in found)
    best = [(forms, dates) for bad, forms, dates in found if bad == least]
    if least == len(best[0][1]):
        return None
    if len(best) > 1:
        best = _most_regular(best)
    if len(best) > 1:
        told = " or ".join(f"--date-format '{forms[0]}'" for forms, _ in best)
        cell = next(c for c, forms in zip(sample, known, strict=False) if forms)
        raise InputError(
            f"{where}: column {column!r}: {cell.strip()!r} can be read in {len(best)} ways, and no"
            f" cell tells which is the day and which the month; pass {told}"
        )
    return best[0][0]


def _completed(form: str, cells: Cells) -> tuple[str, ...]:
    """Add the forms of the cells that ``form`` does not read, as long as the order is the same."""
    forms: tuple[str, ...] = (form,)
    order = _order(form)
    for chunk in cells():
        while len(forms) < MOST_FORMS:
            bad = np.flatnonzero(np.isnat(read_dates(chunk, forms)))
            others = (f for i in bad[:50] for f in formats_of(chunk[i]) if f not in forms)
            other = next((f for f in others if _order(f) == order), None)
            if other is None:
                break
            forms += (other,)
    return forms


def _order(form: str) -> str:
    return "".join(re.findall(r"%([YyGmdVu])", form)).replace("y", "Y")


def _most_regular(
    candidates: list[tuple[tuple[str, ...], np.ndarray]],
) -> list[tuple[tuple[str, ...], np.ndarray]]:
    """Keep what the distances between the rows tell apart: even ones, or at least one direction."""
    for test in (_is_even, _is_ordered):
        passed = [c for c in candidates if test(c[1][~np.isnat(c[1])])]
        if len(passed) == 1:
            return passed
        if passed:
            candidates = passed
    return candidates


def _is_even(dates: np.ndarray) -> bool:
    steps = np.abs(np.diff(dates).astype(np.float64))
    return len(steps) > 2 and steps.min() > 0 and float(steps.max() / np.median(steps)) <= 1.2


def _is_ordered(dates: np.ndarray) -> bool:
    steps = np.diff(dates).astype(np.float64)
    return bool((steps >= 0).all() or (steps <= 0).all())


def number_dates(values: np.ndarray, name: str) -> DateSpec | None:
    """Recognise dates that are written as plain numbers: 20160104, 201601, 1.46e9 s, years."""
    known = values[np.isfinite(values)]
    if len(known) < 2 or (known != np.floor(known)).any() or known.min() < 1:
        return None
    low, high = float(known.min()), float(known.max())
    hinted = is_date_name(name)
    steps = np.diff(known)
    rising = bool((steps >= 0).all() or (steps <= 0).all())
    for digits, form in ((8, "%Y%m%d"), (10, "%Y%m%d%H"), (12, "%Y%m%d%H%M"), (14, "%Y%m%d%H%M%S")):
        scale = 10.0 ** (digits - 4)
        if not (1500 * scale <= low and high < 2200 * scale) or not (hinted or rising):
            continue
        if digits == 10 and not hinted:
            continue  # seconds since 1970 have ten digits, too
        unique = np.unique(known[:: max(1, len(known) // 5000)])
        dates = read_dates([f"{v:.0f}" for v in unique], (form,))
        if not np.isnat(dates).any():
            return DateSpec((name,), "number", (form,))
    if 150001 <= low and high <= 220012 and hinted and rising:
        months = known % 100
        if ((months >= 1) & (months <= 12)).all():
            return DateSpec((name,), "number", ("%Y%m",))
    if hinted and rising and 1500 <= low and high <= 2200:
        return DateSpec((name,), "year")
    for unit in (1.0, 1e3, 1e6, 1e9):
        if hinted and 3e8 * unit <= low and high <= 4.2e9 * unit:
            return DateSpec((name,), "epoch", unit=unit)
    return None


NAMES = re.compile(
    r"date|datum|fecha|data$|data[ _]|time|zeit|stamp|^ts$|unix|epoch|year|jahr|année|annee"
    r"|^año|^ano$"
    r"|дата|время|год|日期|时间|時間|日付|年月|날짜|일자|기간|월$|month|^monat|^mes$|mois|tag$|^day|week",
    re.IGNORECASE,
)
CLOCK_NAMES = re.compile(
    r"time|hour|^hr|^hh|zeit|stunde|^std|hora|heure|^ora|час|время|时|時|시$|시간|utc",
    re.IGNORECASE,
)


def is_date_name(name: str) -> bool:
    """Whether a column's name speaks of dates."""
    return NAMES.search(name) is not None


def from_numbers(values: np.ndarray, spec: DateSpec) -> np.ndarray:
    """Return the dates that numbers stand for, NaT where there is none."""
    finite = np.isfinite(values)
    dates = np.full(len(values), np.datetime64("NaT"), "datetime64[us]")
    if spec.kind == "epoch":
        dates[finite] = (
            (values[finite] * (MICRO / spec.unit)).astype(np.int64).astype("datetime64[us]")
        )
    elif spec.kind == "year":
        years = (values[finite].astype(np.int64) - 1970).astype("datetime64[Y]")
        dates[finite] = years.astype("datetime64[us]")
    else:
        unique, back = np.unique(values[finite], return_inverse=True)
        texts = [f"{v:.0f}" for v in unique]
        if spec.formats == ("%Y%m",):
            texts = [f"{t[:4]}-{t[4:]}" for t in texts]
            dates[finite] = read_dates(texts, ("%Y-%m",))[back]
        else:
            dates[finite] = read_dates(texts, spec.formats)[back]
    return dates


def number_clock(values: np.ndarray, name: str, dates: np.ndarray) -> str:
    """Return how a column of numbers tells the time of day: ``hour``, ``HHMM``, ``HHMMSS`` or "".

    Only where the dates alone repeat, and with the time no row repeats and all lie in order: what
    merely looks like a time does not do that.
    """
    if not np.isfinite(values).all() or (values != np.floor(values)).any() or values.min() < 0:
        return ""
    days = dates.astype("datetime64[D]")
    if (dates != days.astype("datetime64[us]")).any() or len(np.unique(days)) == len(days):
        return ""
    high = values.max()
    hinted = CLOCK_NAMES.search(name) is not None
    forms = [("hour", high <= 24 and hinted), ("HHMM", 24 < high <= 2400)]
    forms.append(("HHMMSS", 2400 < high <= 240000))
    for clock, fits in forms:
        if not fits:
            continue
        seconds = clock_seconds(values, clock)
        if seconds is None:
            continue
        steps = np.diff((days.astype("datetime64[s]") + seconds).astype(np.int64))
        if (steps > 0).all() or (steps < 0).all():
            return clock
        if hinted and (steps != 0).all():
            return clock
    return ""


def clock_texts(cells: list[str], form: str) -> np.ndarray:
    """Return the times of day that texts stand for, NaT where there is none."""
    days = read_dates(
        [f"1970-01-01 {c}" if c.strip() else "" for c in cells], (f"%Y-%m-%d {form}",)
    )
    return days - np.datetime64(0, "us")


def clock_seconds(values: np.ndarray, clock: str) -> np.ndarray | None:
    """Return the time of day that numbers stand for; None if they cannot be that."""
    whole = values.astype(np.int64)
    if clock == "hour":
        return (whole * 3600).astype("timedelta64[s]")
    if clock == "HHMM":
        whole = whole * 100
    hours, minutes, seconds = whole // 10000, whole // 100 % 100, whole % 100
    if (minutes > 59).any() or (seconds > 59).any() or (hours > 24).any():
        return None
    return (hours * 3600 + minutes * 60 + seconds).astype("timedelta64[s]")


PARTS: dict[str, str] = {
    **dict.fromkeys(
        ("year", "yr", "jahr", "año", "ano", "année", "annee", "anno", "год", "年"), "year"
    ),
    **dict.fromkeys(("month", "mon", "mo", "monat", "mes", "mois", "mese", "месяц", "月"), "month"),
    **dict.fromkeys(("day", "dy", "tag", "dia", "día", "jour", "giorno", "день", "日"), "day"),
    **dict.fromkeys(
        ("hour", "hr", "hh", "stunde", "hora", "heure", "ora", "час", "时", "時"), "hour"
    ),
    **dict.fromkeys(("minute", "min", "mn", "minuto", "минута", "分"), "minute"),
    **dict.fromkeys(("second", "sec", "sekunde", "segundo", "seconde", "秒"), "second"),
}
ORDER = ("year", "month", "day", "hour", "minute", "second")


def part_columns(numbers: dict[str, np.ndarray]) -> DateSpec | None:
    """Find columns of year, month, day, hour, ...; at least year and month are needed."""
    by_part: dict[str, str] = {}
    for name in numbers:
        part = PARTS.get(name.strip().lower())
        if part is not None:
            by_part.setdefault(part, name)
    if not {"year", "month"} <= set(by_part):
        return None
    if "day" not in by_part:  # an hour of a month is no time
        by_part = {part: by_part[part] for part in ("year", "month")}
    bounds = {"year": (0, 9999), "month": (1, 12), "day": (1, 31), "hour": (0, 24)}
    bounds |= {"minute": (0, 59), "second": (0, 60)}
    for part, name in list(by_part.items()):
        values = numbers[name]
        low, high = bounds[part]
        known = values[np.isfinite(values)]
        fits = bool(((known >= low) & (known <= high) & (known == np.floor(known))).all())
        if len(known) < len(values) or not fits:
            if part in ("year", "month"):
                return None
            del by_part[part]
    return DateSpec(tuple(by_part[p] for p in ORDER if p in by_part), "parts")


def from_parts(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Put year, month, day, hour, ... together; a year of two digits is 1969 to 2068."""
    year, month, *rest = [c.astype(np.int64) for c in columns]
    if year.max() < 100:
        year = np.where(year >= 69, 1900 + year, 2000 + year)
    dates = (year - 1970).astype("datetime64[Y]").astype("datetime64[M]") + (month - 1)
    whole = dates.astype("datetime64[D]").astype("datetime64[us]")
    lengths = (86400, 3600, 60, 1)
    for number, values in enumerate(rest):
        steps = (values - (number == 0)) * lengths[number]
        whole = whole + steps.astype("timedelta64[s]")
    return whole
