"""Names of months, zones, eras and periods: a date in words, brought into a form of strptime."""

import re
from functools import lru_cache

import numpy as np

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


MONTH = _beginnings()
WEEKDAYS = re.compile(
    r"^(?:mon|tue|wed|thu|fri|sat|sun|mo|di|mi|do|fr|sa|so|lun|mar|mer|jeu|ven|sam|dim|mié|jue|vie"
    r"|sáb|dom|пн|вт|ср|чт|пт|сб|вс)[a-zäéàçí]*[.,]?\s+(?=\d|[a-zа-я])",  # noqa: RUF001
    re.IGNORECASE,
)
WORD = re.compile(r"[^\W\d_]{3,}\.?")
REMEMBERED = 2**13  # cells whose form is asked for again: by the delimiter, the dates, a new file
# Hours ahead of UTC. Where a name has several meanings, the note about the dates shows which it is.
ZONES: dict[str, float] = {"Z": 0, "UTC": 0, "GMT": 0, "WET": 0}
ZONES |= {"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}
ZONES |= {"CET": 1, "CEST": 2, "MEZ": 1, "MESZ": 2, "WEST": 1, "BST": 1, "EET": 2, "EEST": 3}
ZONES |= {"MSK": 3, "IST": 5.5, "HKT": 8, "SGT": 8, "JST": 9, "KST": 9, "AEST": 10, "AEDT": 11}
ZONE = re.compile(rf"(?<=[\dM])\s*({'|'.join(ZONES)}|[+-]\d\d(?::?\d\d)?)(?:\[\w+/[\w/]+\])?$")
HAS_TIME = re.compile(r":|\d{8}T\d{4}|-\d\dT\d\d")  # only then a sign at the end is an offset


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
    number = MONTH.get(word.group().lower().rstrip("."))
    return word.group() if number is None else f"m{number:02d}"


def is_zoned(cell: str) -> bool:
    """Whether a time ends in an offset from UTC or the name of a zone."""
    return bool(HAS_TIME.search(cell) and ZONE.search(rewrite(cell)))


def is_changed(cell: str) -> bool:
    """Whether a cell says another year or hour than what is read: of another zone or calendar."""
    zone = ZONE.search(rewrite(cell)) if HAS_TIME.search(cell) else None
    is_offset = zone is not None and zone[1].strip("+-0:") != "" and ZONES.get(zone[1]) != 0
    return is_offset or bool(TAIWAN.match(cell) or ERA.match(cell))


def month_numbers(cells: list[str]) -> np.ndarray:
    """Return the months that names stand for; NaN where there is none."""
    return np.array([MONTH.get(c.strip().lower().rstrip("."), np.nan) for c in cells], np.float64)
