"""Dates: which form a column has, decided from all its cells; pandas reads them by that form."""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from steadygrad.errors import InputError
from steadygrad.reading.numbers import MISSING

MICRO = 1e6
MOST_FORMS = 4  # of one column: midnight without its time, seconds without their fraction, ...
SAMPLE = 400
# From January to December. A word is a month if it is the beginning, of three letters and more, of
# one of these; where two languages disagree, the first counts.
MONTHS = (
    "january february march april may june july august september october november december",
    "januar februar mrz april mai juni juli august september oktober november dezember",
    "jänner feber märz apr maj jun jul aug sept okt nov dez",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "januari februari maart april mei juni juli augustus september oktober november december",
    "januari februari mars april maj juni juli augusti september oktober november december",
    "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
    "январь февраль март апрель май июнь июль август сентябрь октябрь ноябрь декабрь",
    "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada"
    " grudnia",
    "styczeń luty marzec kwiecień maj czerwiec lipiec sierpień wrzesień październik listopad"
    " grudzień",
    "ledna února března dubna května června července srpna září října listopadu prosince",
    "leden únor březen duben květen červen červenec srpen září říjen listopad prosinec",
    "ocak şubat mart nisan mayıs haziran temmuz ağustos eylül ekim kasım aralık",  # noqa: RUF001
    "tammikuu helmikuu maaliskuu huhtikuu toukokuu kesäkuu heinäkuu elokuu syyskuu lokakuu"
    " marraskuu joulukuu",
    "tammikuuta helmikuuta maaliskuuta huhtikuuta toukokuuta kesäkuuta heinäkuuta elokuuta"
    " syyskuuta lokakuuta marraskuuta joulukuuta",
    "január február március április május június július augusztus szeptember október november"
    " december",
    "ianuarie februarie martie aprilie mai iunie iulie august septembrie octombrie noiembrie"
    " decembrie",
    "ιανουαρίου φεβρουαρίου μαρτίου απριλίου μαΐου ιουνίου ιουλίου αυγούστου σεπτεμβρίου"
    " οκτωβρίου νοεμβρίου δεκεμβρίου",
    "січня лютого березня квітня травня червня липня серпня вересня жовтня листопада грудня",
    "januari februari maret april mei juni juli agustus september oktober november desember",
    "januar februar marts april maj juni juli august september oktober november december",
    "januar februar mart april maj jun jul avgust septembar oktobar novembar decembar",
    "jaanuar veebruar märts aprill mai juuni juuli august september oktoober november detsember",
    "gener febrer març abril maig juny juliol agost setembre octubre novembre desembre",
    "януари февруари март април май юни юли август септември октомври ноември декември",
    "jan fev mar abr mai jun jul ago set out nov des",
)


def _beginnings() -> dict[str, int]:
    """Return what each beginning of a name means, unless two months of a language begin so."""
    found: dict[str, int] = {}
    for language in MONTHS:
        names = list(map(str, language.split()))
        own: dict[str, set[int]] = {}
        for number, name in enumerate(names, 1):
            for end in range(3, len(name) + 1):
                own.setdefault(name[:end], set()).add(number)
        # A whole name that another one begins with, as červen does with červenec, is that month.
        own |= {name: {number} for number, name in enumerate(names, 1)}
        for start, numbers in own.items():
            if len(numbers) == 1:
                found.setdefault(start, *numbers)
    return found


_MONTH = _beginnings()
WEEKDAYS = re.compile(
    r"^(?:mon|tue|wed|thu|fri|sat|sun|mo|di|mi|do|fr|sa|so|lun|mar|mer|jeu|ven|sam|dim|mié|jue|vie"
    r"|sáb|dom|пн|вт|ср|чт|пт|сб|вс)[a-zäéàçí]*[.,]?\s+(?=\d|[a-zа-я])",  # noqa: RUF001
    re.IGNORECASE,
)
WORD = re.compile(r"[^\W\d_]{3,}\.?")
SIMPLE = b"0123456789:./- T\x1f"  # cells of these letters alone need no rewriting
MARKS = re.compile(r"[AP]M|Z|\+")  # which need none either
REMEMBERED = 2**13  # cells whose form is asked for again: by the delimiter, the dates, a new file
# Hours ahead of UTC. Where a name has several meanings, the note about the dates shows which it is.
ZONES: dict[str, float] = {"Z": 0, "UTC": 0, "GMT": 0, "WET": 0}
ZONES |= {"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}
ZONES |= {"CET": 1, "CEST": 2, "MEZ": 1, "MESZ": 2, "WEST": 1, "BST": 1, "EET": 2, "EEST": 3}
ZONES |= {"MSK": 3, "IST": 5.5, "HKT": 8, "SGT": 8, "JST": 9, "KST": 9, "AEST": 10, "AEDT": 11}
ZONE = re.compile(rf"(?<=[\dM])\s*({'|'.join(ZONES)}|[+-]\d\d(?::?\d\d)?)(?:\[\w+/[\w/]+\])?$")
LATE = re.compile(r"(?<![\d:])24:00")
HAS_TIME = re.compile(r":|\d{8}T\d{4}|-\d\dT\d\d")  # only then a sign at the end is an offset
CLOCK = (
    (r"(?P<I>\d{1,2}):\d\d:\d\d\.\d+ ?[AP]M", "%I:%M:%S.%f{s}%p"),
    (r"\d{1,2}:\d\d:\d\d ?[AP]M", "%I:%M:%S{s}%p"),
    (r"\d{1,2}:\d\d ?[AP]M", "%I:%M{s}%p"),
    (r"\d{1,2} ?[AP]M", "%I{s}%p"),
    (r"\d{1,2}\.\d\d\.\d\d\.\d+ ?[AP]M", "%I.%M.%S.%f{s}%p"),
    (r"\d{1,2}\.\d\d\.\d\d ?[AP]M", "%I.%M.%S{s}%p"),
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
DIGIT_CLOCKS = frozenset({"%H%M%S", "%H%M", "%H"})  # alone, these are numbers
_SEP = r"[-/. ]"
_TEXT_SEP = r"[-/., ]{1,2}"
DAYS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\d{4}(?P<a>[-/., ])\d{1,2}(?P=a)\d{1,2}", ("%Y{a}%m{a}%d",)),
    (rf"\d{{1,2}}(?P<a>{_SEP})\d{{1,2}}(?P=a)\d{{4}}", ("%d{a}%m{a}%Y", "%m{a}%d{a}%Y")),
    (
        rf"\d{{1,2}}(?P<a>{_SEP})\d{{1,2}}(?P=a)\d{{2}}",
        ("%d{a}%m{a}%y", "%m{a}%d{a}%y", "%y{a}%m{a}%d"),
    ),
    (r"\d{4}(?P<a>[-/.:])\d{1,2}", ("%Y{a}%m",)),
    (r"\d{4}(?P<a>-?)\d{3}", ("%Y{a}%j",)),
    (r"\d{1,2}(?P<a>[-/.])\d{4}", ("%m{a}%Y",)),
    (r"\d{8}", ("%Y%m%d",)),
    (r"\d{6}", ("%y%m%d",)),  # only with a time behind it
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
            ``number``: digits such as 20160104; ``epoch``: seconds since 1970; ``excel``: days
            since 1899-12-30; ``year``.
        formats: As strptime has them, the commonest first; of ``parts``: year, month, ...
        clock: How the time's column is written, if that of the date is one of numbers, or it is
            itself: ``hour``, ``HHMM``, ``HHMMSS``, or as strptime has it.
        unit: Units in a second, of ``epoch``.
        texts: Of ``parts``: the columns that hold names of months.
        zoned: Whether times end in an offset from UTC or the name of a zone.
    """

    columns: tuple[str, ...]
    kind: str
    formats: tuple[str, ...] = ()
    clock: str = ""
    unit: float = 1.0
    texts: tuple[str, ...] = ()
    zoned: bool = False

    def is_number(self, column: str) -> bool:
        """Whether a column of the date is read as numbers, not as text."""
        if self.kind == "parts":
            return column not in self.texts
        has_clock = bool(self.clock) and not self.clock.startswith("%")
        is_clock = len(self.columns) > 1 and column == self.columns[-1]
        return has_clock if is_clock else self.kind != "text"


@lru_cache(REMEMBERED)
def rewrite(cell: str) -> str:
    """Bring a date into a form that strptime knows: month names, quarters, marks of East Asia."""
    text = AT.sub(" ", ERA.sub(_gregorian, cell.strip()))
    if not text.isascii():
        text = text.translate(BLANKS)
        text = re.sub(r"\bπ\.?μ\.?$", "AM", re.sub(r"\bμ\.?μ\.?$", "PM", text))
        text = re.sub(r"(?<=\d) ?г(?:\.|ода?|$)", "", text)  # noqa: RUF001 (of the year)
        text = re.sub(r"\s*[年년]\s*|\s*[月월]\s*", "-", text)
        text = re.sub(r"[日일]", " ", text)
        text = re.sub(r"\s*[時时시]\s*|\s*[分분]\s*", ":", text)
        text = re.sub(r"[秒초]", "", text).strip().rstrip("-:")
        text = text.replace("午前", "AM ").replace("午後", "PM ")
        text = text.replace("上午", "AM ").replace("下午", "PM ")
        text = text.replace("오전", "AM ").replace("오후", "PM ")
        text = re.sub(r"([AP]M) +(\d[\d:.]*)$", r"\2 \1", re.sub(r" +", " ", text))
    text = TAIWAN.sub(lambda m: str(int(m[0]) + 1911), text)
    text = re.sub(r"\b([AaPp])\.? ?[Mm]\b\.?", lambda m: f"{m[1].upper()}M", text)
    if len(text) < 24 and (period := _period(text)):
        return period
    if span := SPAN.fullmatch(text):
        text = span[1]
    if clock := TIME_FIRST.fullmatch(text):
        text = f"{clock[2]} {clock[1]}"
    text = re.sub(r"(?<=\d\d)- (?=\d)", "-", text)  # 2020- 06- 11
    text = re.sub(r"(?<=\d)_(?=\d\d?_\d)|(?<=\d_\d)_|(?<=\d_\d\d)_", "-", text)
    text = re.sub(r"(?<=\d)\.(?=,? \d\d?[:.h]\d\d)|(?<=\d)\.$|(?<=\d) ?Uhr$", "", text)
    text = re.sub(r"(?<=\d)\. (?=\d)", ".", text)  # 18. 11. 2021
    if text[:1].isalpha():
        bare = WEEKDAYS.sub("", text)
        # "Mar" is Tuesday in French and March in English: it is a month if no other is left.
        text = bare if re.search(r"[^\W\d]{3,}\.? ?\d|\d+([-/.])\d+\1\d+", bare) else text
    text = re.sub(r"(?<=\d)(st|nd|rd|th)\b", "", text)
    text = re.sub(r"(?<=\d)\. (?=[^\W\d])", " ", text)  # 3. März
    text = re.sub(r"\bde\b ?", "", text)
    text = re.sub(r"(?<=:\d\d),(?=\d)", ".", text)
    text = WORD.sub(_month, text)
    if stamp := CTIME.fullmatch(text):
        text = f"{stamp[1]} {stamp[3]} {stamp[2]}"
    return text


# Japan's years by the name of an emperor, and Taiwan's since 1912.
ERAS = {"R": 2018, "令和": 2018, "H": 1988, "平成": 1988, "S": 1925, "昭和": 1925}
ERA = re.compile(rf"^({'|'.join(ERAS)})(\d{{1,2}}|元)(?=(?:[-./]\d{{1,2}}){{2}}$|年)")
TAIWAN = re.compile(r"^1[0-2]\d(?=([-/.])\d{1,2}\1\d{1,2}(?!\d))")
# The word between a day and its time.
AT = re.compile(r"(?<=[\d.]),? (?:à|a las|às|at|um|kl\.?|klo|om|alle|ore) (?=\d)")
BLANKS = str.maketrans("\xa0\u202f\u2009", "   ")  # browsers put them before AM and PM
# A date behind the time of day; and as ctime and the Unix command date write them.
TIME_FIRST = re.compile(r"(\d{1,2}:\d\d(?::\d\d)?),? +(\d{1,4}([-./])\d{1,2}\3\d{1,4})")
# From when to when: a row is of its beginning.
SPAN = re.compile(r"(.*\d\d:\d\d) ?[-\u2013] ?.*\d\d:\d\d")
CTIME = re.compile(r"(m\d\d +\d{1,2}) +(\d\d:\d\d:\d\d)(?: (?:UTC|GMT))? +(\d{4})")
_QUARTER = r"(?:[QqTtKk]|第)"
QUARTERS = (
    re.compile(rf"(?P<y>\d{{4}})[-/: 年]*{_QUARTER}(?P<q>[1-4])(?: ?季度| ?분기)?"),
    re.compile(rf"{_QUARTER}(?P<q>[1-4])[-/ '’]*(?P<y>\d{{4}}|\d\d)"),  # noqa: RUF001
    re.compile(r"(?P<q>[1-4])[QqTt][-/ ']?(?P<y>\d{4}|\d\d)"),
    re.compile(r"(?P<q>[1-4])(?:\.|st|nd|rd|th)? ?(?:quart|trim|kwart)\w* (?P<y>\d{4})", re.I),
)
WEEKS = (
    re.compile(r"(?P<y>\d{4})[-/ ]?(?:W|KW)(?P<w>\d\d?)(?:-(?P<d>[1-7]))?", re.I),
    re.compile(r"(?:W|KW|week|wk) ?(?P<w>\d\d?)[-/, ]{1,2}(?P<y>\d{4})", re.I),
    re.compile(r"(?P<y>\d{4})[-/ ]+(?:week|wk|KW) ?(?P<w>\d\d?)", re.I),
)
HALVES = (
    re.compile(r"(?P<y>\d{4})[- ]?[HhSs](?P<h>[12])"),
    re.compile(r"[HhSs](?P<h>[12])[-/ ]?(?P<y>\d{4})"),
)
EUROSTAT_MONTH = re.compile(r"(\d{4})-?M(\d\d?)")


def _period(text: str) -> str | None:
    """Return a quarter, a week, or Eurostat's month in a form that strptime knows."""
    if text.isdigit():
        return None
    for form in QUARTERS:
        if found := form.fullmatch(text):
            year = found["y"] if len(found["y"]) == 4 else _century(found["y"])
            return f"{year}-{3 * int(found['q']) - 2:02d}"
    for form in WEEKS:
        if found := form.fullmatch(text):
            day = found.groupdict().get("d") or "1"
            return f"{found['y']}-W{int(found['w']):02d}-{day}"
    for form in HALVES:
        if found := form.fullmatch(text):
            return f"{found['y']}-{6 * int(found['h']) - 5:02d}"
    if found := EUROSTAT_MONTH.fullmatch(text):
        return f"{found[1]}-{int(found[2]):02d}"
    return None


def _gregorian(era: re.Match[str]) -> str:
    return str(ERAS[era[1]] + (1 if era[2] == "元" else int(era[2])))


def _century(year: str) -> str:
    """Complete a year of two digits as strptime does: 1969 to 2068."""
    return ("19" if int(year) >= 69 else "20") + year


def _month(word: re.Match[str]) -> str:
    number = _MONTH.get(word.group().lower().rstrip("."))
    return word.group() if number is None else f"m{number:02d}"


@lru_cache(REMEMBERED)
def formats_of(cell: str) -> tuple[str, ...]:
    """Return every form, as strptime has it, in which the cell could be a date."""
    text = rewrite(cell)
    text = ZONE.sub("", text) if HAS_TIME.search(text) else text
    found: list[str] = []
    for day, forms in _COMPILED:
        match = day.match(text)
        if match is None:
            continue
        rest = text[match.end() :]
        clock = "" if not rest else _clock(rest, packed=forms == ("%Y%m%d",))
        is_day = any(part in forms[0] for part in ("d", "j", "u"))
        # An hour of a month is no time; and six digits alone could be any number.
        if clock is None or (clock and not is_day) or (not clock and forms == ("%y%m%d",)):
            continue
        marks = {k: v or "" for k, v in match.groupdict().items()}
        found += [form.format(**marks) + clock for form in forms]
    return tuple(found)


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
    for clock, form in _CLOCKS[:14]:
        if form in DIGIT_CLOCKS:
            continue
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
    plain = _is_plain(joined, cells)
    zoned = (
        any(ZONE.search(c) for c in cells[:100] if HAS_TIME.search(c))
        or "+" in joined
        or "Z" in joined
    )
    # To numpy, 1611259200 is a year.
    is_iso = plain and not zoned and formats and formats[0] in ISO
    if is_iso and all(cell[4:5] == "-" for cell in cells if cell):
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
    # The end of a day; neither the year in 23/Dec/2024:00:00:00 nor the minute in 17:24:00.
    late = [i for i, t in enumerate(texts) if "24:00" in t and LATE.search(t)]
    for i in late:
        texts[i] = LATE.sub("00:00", texts[i])
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


def _is_plain(joined: str, cells: list[str]) -> bool:
    """Whether strptime knows the cells as they are."""
    if _has_other(joined) and _has_other(MARKS.sub("", joined)):
        return False
    # Points before a blank or at the end (18. 11. 2021.), trimesters (T1 2020), the time in front.
    if "." in joined and (". " in joined or ".\x1f" in joined or joined.endswith(".")):
        return False
    if "- " in joined:  # from when to when; 2020- 06- 11
        return False
    if "T" in joined and (joined.startswith("T") or "\x1fT" in joined):
        return False
    ends = [cell.strip() for cell in (*cells[:50], *cells[-50:])]
    return not any(TIME_FIRST.fullmatch(cell) or TAIWAN.match(cell) for cell in ends)


def _has_other(joined: str) -> bool:
    """Whether there are letters beside the simple ones."""
    return bool(joined.encode("utf-8", "surrogatepass").translate(None, SIMPLE))


def is_zoned(cell: str) -> bool:
    """Whether a time ends in an offset from UTC or the name of a zone."""
    return bool(HAS_TIME.search(cell) and ZONE.search(rewrite(cell)))


def is_changed(cell: str) -> bool:
    """Whether a cell says another year or hour than what is read: of another zone or calendar."""
    zone = ZONE.search(rewrite(cell)) if HAS_TIME.search(cell) else None
    is_offset = zone is not None and zone[1].strip("+-0:") != "" and ZONES.get(zone[1]) != 0
    return is_offset or bool(TAIWAN.match(cell) or ERA.match(cell))


def _strptime(texts: list[str], form: str) -> np.ndarray:
    pandas = need_pandas("dates of this form")
    found = pandas.to_datetime(pandas.Series(texts, dtype=object), format=form, errors="coerce")
    return found.to_numpy().astype("datetime64[us]")


def _zones(texts: list[str]) -> tuple[list[str], np.ndarray]:
    """Take offsets off the ends; return how far each lies ahead of UTC."""
    bare: list[str] = []
    minutes: list[int] = []
    for text in texts:
        zone = ZONE.search(text) if HAS_TIME.search(text) else None
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
            minutes.append(int(ZONES[mark] * 60))
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
        forms, dates = _completed(form, cells)
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
    _refuse_quarters(best[0][1], best[0][0], column, where)
    _refuse_calendars(best[0][1], best[0][0], column, where)
    _refuse_exchanged(best[0][1], best[0][0], column, where)
    return best[0][0]


def _refuse_quarters(dates: np.ndarray, forms: tuple[str, ...], column: str, where: str) -> None:
    """Ask about 2020-01 to 2020-04 in every year: the numbers could be those of quarters."""
    if _order(forms[0]) not in ("Ym", "mY"):
        return
    months = np.unique(dates[~np.isnat(dates)].astype("datetime64[M]").astype(np.int64))
    if len(months) >= 8 and months.max() - months.min() > 24 and (months % 12 < 4).all():
        raise InputError(
            f"{where}: column {column!r}: the month is 1 to 4 in every year, so these may be"
            f" quarters; write them as 2020Q3, or pass --date-format '{forms[0]}' if they are"
            " months"
        )


def _refuse_calendars(dates: np.ndarray, forms: tuple[str, ...], column: str, where: str) -> None:
    """Ask about whole dates of the years 2400 to 2650, or about 1400: of another calendar?"""
    known = dates[~np.isnat(dates)]
    first, last = (int(str(d)[:4]) for d in (known.min(), known.max()))
    names = {(2440, 2640): "Buddhist (2563 is 2020)", (1300, 1470): "Persian or Islamic"}
    name = next((n for (a, b), n in names.items() if a <= first and last <= b), None)
    if name is not None:
        raise InputError(
            f"{where}: column {column!r}: the years {first} to {last} look like those of the {name}"
            f" calendar; write the dates in the Gregorian one, or pass --date-format '{forms[0]}'"
            " if they are"
        )


def _refuse_exchanged(dates: np.ndarray, forms: tuple[str, ...], column: str, where: str) -> None:
    """Refuse days and months that a spreadsheet has exchanged where it took one for the other."""
    known = dates[~np.isnat(dates)]
    days = known.astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    day = (days - months).astype(int) + 1
    month = months.astype(int) % 12 + 1
    if _order(forms[0]) not in ("dmY", "mdY") or _is_ordered(known) or (day > 12).all():
        return
    # The other way round, wherever that is a date.
    first = months - (month - 1).astype("timedelta64[M]")
    other = (first + (day - 1).astype("timedelta64[M]")).astype("datetime64[D]")
    turned = np.where(day <= 12, other + (month - 1).astype("timedelta64[D]"), days)
    if _is_even(turned + (known - days)) and _is_ordered(turned):
        at = int(np.flatnonzero(np.diff(days) != np.diff(turned))[0])
        raise InputError(
            f"{where}: column {column!r}: in some cells the day stands first and in others the"
            f" month (around {days[at]} and {turned[at + 1]}), as where a spreadsheet took one for"
            " the other; write all dates alike"
        )


def _completed(form: str, cells: Cells) -> tuple[tuple[str, ...], np.ndarray]:
    """Read by a form, and add those of the cells it does not read, if their order is the same."""
    forms: tuple[str, ...] = (form,)
    order = _order(form)
    parts: list[tuple[tuple[str, ...], np.ndarray]] = []
    for chunk in cells():
        dates = read_dates(chunk, forms)
        while len(forms) < MOST_FORMS:
            bad = np.flatnonzero(np.isnat(dates))
            others = (f for i in bad[:50] for f in formats_of(chunk[i]) if f not in forms)
            other = next((f for f in others if _order(f) == order), None)
            if other is None:
                break
            forms += (other,)
            dates = read_dates(chunk, forms)
        parts.append((forms, dates))
    if any(own != forms for own, _ in parts):  # a form that a later chunk brought
        parts = [(forms, read_dates(chunk, forms)) for chunk in cells()]
    return forms, np.concatenate([dates for _, dates in parts])


def _order(form: str) -> str:
    return "".join(re.findall(r"%([YyGmdVuj])", form)).replace("y", "Y")


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


def _is_even(dates: np.ndarray, most: float = 1.2) -> bool:
    steps = np.abs(np.diff(dates).astype(np.float64))
    return len(steps) > 2 and steps.min() > 0 and float(steps.max() / np.median(steps)) <= most


def _is_ordered(dates: np.ndarray) -> bool:
    steps = np.diff(dates).astype(np.float64)
    return bool((steps >= 0).all() or (steps <= 0).all())


DIGITS = (  # dates written as one number, and whether the column's name must speak of dates
    (8, "%Y%m%d", False),
    (10, "%Y%m%d%H", True),  # seconds since 1970 have ten digits, too
    (12, "%Y%m%d%H%M", False),
    (14, "%Y%m%d%H%M%S", False),
    (7, "%Y%j", True),
)
EXCEL_DAY = 25569  # that of 1970-01-01, counted from 1899-12-30
DAY_NAMES = re.compile(r"^(?:date|datum|day|dia|día|fecha|data|jour|日付|日期|날짜|дата)", re.I)


def number_dates(values: np.ndarray, name: str) -> DateSpec | None:
    """Recognise dates that are written as plain numbers: 20160104, 201601, 1.46e9 s, years."""
    known = values[np.isfinite(values)]
    if len(known) < 2 or known.min() < 1:
        return None
    hinted = is_date_name(name)
    steps = np.diff(known)
    unique = np.unique(known)
    rising = bool((steps >= 0).all() or (steps <= 0).all())
    # The rows of several series, or shuffled ones: few gaps between the days that there are.
    rising |= (
        hinted and len(unique) > 2 and bool(np.median(np.diff(unique)) == np.diff(unique).min())
    )
    if (known != np.floor(known)).any():
        return _fractions(unique, name, rising) if hinted else None
    low, high = float(known.min()), float(known.max())
    for digits, form, needs_name in DIGITS:
        least = 1500 * 10.0 ** (digits - 4) if form.startswith("%Y") else 10.0 ** (digits - 2)
        most = 2200 * 10.0 ** (digits - 4) if form.startswith("%Y") else 10.0**digits
        if not (least <= low and high < most) or not (hinted or (rising and not needs_name)):
            continue
        if digits < 8 and not rising:
            continue
        spec = DateSpec((name,), "number", (form,))
        if not np.isnat(from_numbers(unique[:: max(1, len(unique) // 5000)], spec)).any():
            return spec
    if hinted and rising and high < 1e6 and (spec := _six_digits(unique, name)):
        return spec
    if hinted and rising and 1500 <= low and high <= 2200:
        return DateSpec((name,), "year")
    if DAY_NAMES.match(name) and rising and 10_000 <= low and high <= 80_000:
        return DateSpec((name,), "excel")
    for unit in (1.0, 1e3, 1e6, 1e9):
        if hinted and 1e8 * unit <= low and high <= 4.2e9 * unit:
            return DateSpec((name,), "epoch", unit=unit)
    return None


def _six_digits(known: np.ndarray, name: str) -> DateSpec | None:
    """Tell 201601, year and month, from 160104, year, month and day."""
    found: list[tuple[bool, DateSpec]] = []
    for form, low in (("%Y%m", 150_001), ("%y%m%d", 100)):
        spec = DateSpec((name,), "number", (form,))
        if known.min() >= low and not np.isnat(dates := from_numbers(known, spec)).any():
            found.append((_is_even(dates, most=3.0), spec))
    even = [spec for is_even, spec in found if is_even]
    return even[0] if len(even) == 1 else found[0][1] if len(found) == 1 else None


def _fractions(known: np.ndarray, name: str, rising: bool) -> DateSpec | None:
    """Recognise 2016.01 and 01.2016, which read as numbers, and Excel's days with a time."""
    if DAY_NAMES.match(name) and rising and 10_000 <= known.min() and known.max() <= 80_000:
        return DateSpec((name,), "excel")
    if known.min() >= 1e8 and known.max() <= 4.2e9:
        return DateSpec((name,), "epoch")
    for form in ("%Y.%m", "%m.%Y"):
        spec = DateSpec((name,), "number", (form,))
        dates = np.sort(from_numbers(known, spec))
        if not np.isnat(dates).any() and _is_even(dates, most=3.0):
            return spec
    return None


NAMES = re.compile(
    r"date|datum|fecha|^ds$|data$|data[ _]|time|zeit|stamp|^ts$|unix|epoch|year|jahr|année|annee"
    r"|^año|^ano$"
    r"|дата|время|год|日期|时间|時間|日付|年月|날짜|일자|기간|월$|month|^monat|^mes$|mois|tag$|^day|week",
    re.IGNORECASE,
)
CLOCK_NAMES = re.compile(
    r"time|hour|^hr|^hh|zeit|stunde|^std|hora|heure|^ora|час|время|时|時|시$|시간|utc",
    re.IGNORECASE,
)

DURATIONS = re.compile(
    r"elapsed|moving|durat|dauer|durée|pace|lap|asleep|sleep|spent|total|avg|average|mean|best|race"
    r"|response|travel|lead|run ?time|down ?time|up ?time|screen|wait|delay|life",
    re.IGNORECASE,
)


def is_date_name(name: str) -> bool:
    """Whether a column's name speaks of dates."""
    return NAMES.search(name) is not None


def is_clock_name(name: str) -> bool:
    """Whether a column's name speaks of the time of day, and not of how long something took."""
    return CLOCK_NAMES.search(name) is not None and DURATIONS.search(name) is None


def from_numbers(values: np.ndarray, spec: DateSpec) -> np.ndarray:
    """Return the dates that numbers stand for, NaT where there is none."""
    finite = np.isfinite(values)
    dates = np.full(len(values), np.datetime64("NaT"), "datetime64[us]")
    if spec.kind == "epoch":
        dates[finite] = (
            (values[finite] * (MICRO / spec.unit)).astype(np.int64).astype("datetime64[us]")
        )
    elif spec.kind == "excel":
        # To the second: a fraction of a day holds no more.
        seconds = np.rint((values[finite] - EXCEL_DAY) * 86400).astype(np.int64)
        dates[finite] = seconds.astype("datetime64[s]").astype("datetime64[us]")
    elif spec.kind == "year":
        years = (values[finite].astype(np.int64) - 1970).astype("datetime64[Y]")
        dates[finite] = years.astype("datetime64[us]")
    else:
        (form,) = spec.formats
        write, read_as = NUMBER_TEXTS.get(form, ("{:.0f}", form))
        unique, back = np.unique(values[finite], return_inverse=True)
        texts = [write.format(v) for v in unique]
        if form == "%Y%m":  # strptime would take 20161 for a month, too
            texts = [f"{t[:4]}-{t[4:]}" for t in texts]
        dates[finite] = read_dates(texts, (read_as,))[back]
    return dates


# How numbers are written out to be read by a form, and the form they are then in.
NUMBER_TEXTS = {
    "%Y%m": ("{:.0f}", "%Y-%m"),
    "%Y.%m": ("{:.2f}", "%Y.%m"),
    "%m.%Y": ("{:07.4f}", "%m.%Y"),
    "%y%m%d": ("{:06.0f}", "%y%m%d"),
}


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
    hinted = is_clock_name(name)
    if not hinted and (np.diff(values) == 1).all():  # it counts the rows
        return ""
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
    name: part
    for part, names in {
        "year": "year yr yy yyyy jahr año ano anio année annee anno rok год 年 년 연도",
        "quarter": "quarter qtr quartal trimestre trimester kwartał квартал 季度 분기",
        "month": "month mon mo mm monat mes mois mese mês miesiąc месяц 月 월",
        "week": "week wk isoweek woche kw semaine semana settimana неделя 周 週 주",
        "yearday": "doy yday dayofyear day_of_year julian jday jul ydy",
        "day": "day dy dd dom tag dia día jour giorno dzień день 日 일",
        "hour": "hour hr hrs hh stunde hora heure ora godzina час 时 時 시",
        "minute": "minute min mn mi minuto minuta минута 分 분",
        "second": "second sec ss sekunde segundo seconde secondo 秒 초",
    }.items()
    for name in names.split()
}
ORDER = ("year", "quarter", "month", "week", "yearday", "day", "hour", "minute", "second")
BOUNDS = {"year": (0, 9999), "quarter": (1, 4), "month": (1, 12), "week": (1, 53)}
BOUNDS |= {"yearday": (1, 366), "day": (1, 31), "hour": (0, 24), "minute": (0, 59)}
BOUNDS |= {"second": (0, 60)}
# What stands below the year, the first that there is; then what may stand below that.
BELOW_YEAR = {
    "month": ("day", "hour", "minute", "second"),
    "yearday": ("hour", "minute", "second"),
    "week": (),
    "quarter": (),
}


def part_columns(numbers: Mapping[str, np.ndarray]) -> DateSpec | None:
    """Find columns of year, month, day, hour, ...; of year and day of the year; quarter or week."""
    by_part: dict[str, str] = {}
    for name, values in numbers.items():
        part = PARTS.get(name.strip().lower().replace(" ", ""))
        if part == "month" and "month" in by_part and "hour" in by_part:  # YY MM DD hh mm
            part = "minute"
        if part is not None and _fits(part, values):
            by_part.setdefault(part, name)
    if "year" not in by_part:
        return None
    middle = next((p for p in BELOW_YEAR if p in by_part), None)
    if middle == "month" and "day" not in by_part and "yearday" in by_part:
        middle = "yearday"
    if middle is None:
        return None
    parts = ["year", middle]
    for part in BELOW_YEAR[middle]:
        if part not in by_part:  # an hour of a month is no time
            break
        parts.append(part)
    return DateSpec(tuple(by_part[p] for p in parts), "parts", tuple(parts))


def _fits(part: str, values: np.ndarray) -> bool:
    """Whether the values of a column can be that part of a date; few may be missing."""
    low, high = BOUNDS[part]
    known = values[np.isfinite(values)]
    fits = (known >= low) & (known <= high) & (known == np.floor(known))
    return len(known) > 0.9 * len(values) and bool(fits.all())


def month_numbers(cells: list[str]) -> np.ndarray:
    """Return the months that names stand for; NaN where there is none."""
    return np.array([_MONTH.get(c.strip().lower().rstrip("."), np.nan) for c in cells], np.float64)


def from_parts(columns: Sequence[np.ndarray], parts: Sequence[str]) -> np.ndarray:
    """Put year, month, day, hour, ... together; a year of two digits is 1969 to 2068.

    Args:
        columns: Of the parts.
        parts: What they are; () means year, month, day, hour, minute, second.
    """
    known = np.isfinite(np.stack(columns)).all(0)
    names = parts or ("year", "month", *BELOW_YEAR["month"])
    by_part = {
        n: np.where(known, v, 1).astype(np.int64) for n, v in zip(names, columns, strict=False)
    }
    year = by_part["year"]
    if year.max() < 100:
        year = np.where(year >= 69, 1900 + year, 2000 + year)
    start = (year - 1970).astype("datetime64[Y]")
    if "quarter" in by_part:
        day = (start.astype("datetime64[M]") + 3 * (by_part["quarter"] - 1)).astype("datetime64[D]")
    elif "month" in by_part:
        day = (start.astype("datetime64[M]") + (by_part["month"] - 1)).astype("datetime64[D]")
    else:
        day = start.astype("datetime64[D]")
    if "week" in by_part:  # ISO: week 1 holds January 4; weeks begin on Monday, as 1969-12-29 did
        fourth = day.astype(np.int64) + 3
        monday = fourth - (fourth + 3) % 7
        day = (monday + 7 * (by_part["week"] - 1)).astype("datetime64[D]")
    lengths = {"yearday": 86400, "day": 86400, "hour": 3600, "minute": 60, "second": 1}
    whole = day.astype("datetime64[us]")
    for part, length in lengths.items():
        if part in by_part:
            count = by_part[part] - (length == 86400)
            whole = whole + (count * length).astype("timedelta64[s]")
    whole[~known] = np.datetime64("NaT")
    return whole
