"""How the numbers of a column are written: decided from all its cells, never from the first.

``2.375`` is two and a bit in one country and above two thousand in another. A cell such as ``0.5``
or ``1.234,5`` tells which; where no cell of the file does, the question is handed back.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from steadygrad.errors import InputError

MISSING = frozenset(
    {
        *(
            "",
            "?",
            "-",
            "--",
            "\u2014",
            "\u2013",
            "na",
            "n/a",
            "#n/a",
            "n.a.",
            "<na>",
            "nan",
            "-nan",
            "#na",
        ),
        *("null", "(null)", "none", "nil", "nat", "missing", "\\n"),
        # What spreadsheets write where a formula fails, in English, German, French and Spanish.
        *("#value!", "#div/0!", "#ref!", "#num!", "#name?", "#null!", "#nv", "#n/v"),
        *("#wert!", "#zahl!", "#bezug!", "#valeur!", "#nombre!", "#nom?", "#nul!"),
        *("#\u00a1valor!", "#\u00a1div/0!", "#\u00a1ref!", "#\u00a1num!", "#\u00bfnombre?"),
        *(".", "..", "...", ":"),
    }
)
# Of these, what may be the name of a column: sodium.
NAMES_TOO = frozenset({"", "na", "null", "none", "nil", "missing", ".", ":"})
INFINITE = frozenset({"inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})
PLAIN = re.compile(r"[^0-9.+\-eE\n]")  # what a cell of a plain number cannot hold
# Of the cells of a plain number, those that only a decimal point explains, and those that only
# thousands do.
DECIMAL_POINT = re.compile(
    r"^[+-]?(?:0\d*\.|\.|\d{4,}\.|\d{1,3}\.(?!\d{3}$)|\d*\.\d*[eE]|\d{4,}$)", re.MULTILINE
)
LONG = re.compile(r"^[+-]?\d{4,}$", re.MULTILINE)
SHORT = re.compile(r"^[+-]?[1-9]\d{0,2}$", re.MULTILINE)
# Blanks, apostrophes and minus signs of print, and the wide letters of East Asian fonts. No more:
# a general normalisation would read 5² as 52.
ALIKE = str.maketrans(
    dict.fromkeys("\xa0\u2009\u202f\u2007\u2002\u2003\u3000", " ")
    | dict.fromkeys("\u2019`\u00b4", "'")
    | {"\u2212": "-"}
    | {chr(0xFF00 + i): chr(0x20 + i) for i in range(1, 0x5F)}
)
SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "bn": 1e9, "t": 1e12}
SCALES |= dict.fromkeys("万萬만", 1e4) | dict.fromkeys("亿億억", 1e8)
CODES = (
    "Rp\\.?|RM|Rs\\.?|NT\\$|USD|EUR|GBP|JPY|CHF|CNY|INR|KRW|RUB|PLN|SEK|NOK|DKK|CZK|HUF|BRL|MXN|CAD|AUD|NZD|TRY|ZAR"
    "|Fr\\.|kr\\.?|zł|Kč|Ft|руб\\.?|元|円|원"  # noqa: RUF001
)
CURRENCY = rf"(?:(?:US|R|A|C|HK|NZ)?[$€£¥₩₹₽₺₿₴฿₫₪]|{CODES})"
# Units of measurement that stand behind every number of a column: 20.1 °C, 3 kWh, 5 m/s.
_MEASURE = (
    r"(?:(?:da|[kMGmcdhnpuµμ])?"
    r"(?:Wh|VAr|var|VA|Nm|Hz|Pa|bar|mol|Ohm|ohm|Ω|eV|cal|lx|lm|[mgsAVWJNlLF])[23²³]?"
    r"|°\s?[CFK]?|℃|℉|deg\s?[CF]?|mph|kn|kts?|rpm|bpm|psi|pp[mb]|lbs?|oz|ft|in|mi|yd|gal|px|pcs"
    r"|dB[mA]?|kWp|inHg|mmHg|min|sec|hrs?|days?)"
)
MEASURE = rf"{_MEASURE}(?:/(?:{_MEASURE}|h|d|dL))?"
NUMBER = re.compile(
    rf"(?P<open>\()?\s*(?P<sign1>[+-])?\s*(?P<unit1>{CURRENCY})?\s*(?P<sign2>[+-])?\s*"
    r"(?P<body>\d[\d.,' ]*|[.,]\d+)(?P<exp>[eE][+-]?\d+)?(?P<sign3>-)?"
    rf"\s*(?:(?P<scale>[kKMBT万萬만亿億억]|bn)?\s*(?P<unit2>%|{CURRENCY})?|(?P<measure>{MEASURE}))"
    r"\s*(?P<close>\))?",
    re.ASCII,
)
GROUPS = {
    mark: re.compile(
        rf"\d{{1,3}}(?:{re.escape(mark)}\d{{3}})+"
        + (
            rf"|\d{{1,2}}(?:{re.escape(mark)}\d{{2}})+{re.escape(mark)}\d{{3}}"
            if mark == ","
            else ""
        )
    )
    for mark in (".", ",", " ", "'")
}


@dataclass(frozen=True)
class NumberStyle:
    """How the numbers of one column are written.

    Args:
        decimal: The decimal mark.
        thousands: What stands between groups of three digits, or nothing.
        unit: A currency, the per cent sign or a unit of measurement that goes with the numbers; it
            is taken off.
        scaled: Whether K, M, B or T at the end multiplies.
    """

    decimal: str = "."
    thousands: str = ""
    unit: str = ""
    scaled: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether Python reads such numbers as they are."""
        return self == NumberStyle()

    @property
    def text(self) -> str:
        """For the reader: empty if there is nothing to say."""
        told = []
        if self.thousands:
            mark = {" ": "blank", ".": "point", ",": "comma", "'": "apostrophe"}[self.thousands]
            told.append(f"thousands marked by a{'n' if mark[0] == 'a' else ''} {mark}")
        if self.decimal == ",":
            told.append("decimal comma")
        if self.unit:
            told.append(f"{self.unit} taken off")
        if self.scaled:
            told.append("K, M, B multiplied out")
        return ", ".join(told)


@dataclass
class Evidence:
    """What the cells of a column tell of its marks; each entry is an example cell.

    ``decimal`` and ``thousands`` hold, by mark, a cell that proves the mark to be that;
    ``either`` one that could be both: three digits after it, one to three before.
    """

    decimal: dict[str, str]
    thousands: dict[str, str]
    either: dict[str, str]
    units: dict[str, str]
    scaled: bool = False
    bare: str = ""  # an example without unit, not zero
    long: str = ""  # four digits and more in a row without a mark: no thousands are marked here
    short: str = ""  # one to three digits without a mark: no three decimals are always written
    measure: str = ""  # the unit of measurement that may stand behind its numbers

    @classmethod
    def nothing(cls) -> "Evidence":
        """No cell seen yet."""
        return cls({}, {}, {}, {})

    def see_plain(self, text: str) -> bool:
        """Take in lines of plain numbers; return whether their points are decimal points."""
        if not self.short and (found := SHORT.search(text)):
            self.short = found.group()
        if "." not in text:
            if not self.long:
                self.long = next((m.group() for m in LONG.finditer(text) if _is_long(m[0])), "")
            return True
        found = DECIMAL_POINT.search(text)
        while found is not None and "." not in (cell := _line(text, found.start())):
            self.long = self.long or (cell if _is_long(cell) else "")
            found = DECIMAL_POINT.search(text, found.end())
        if found is not None:
            self.decimal.setdefault(".", _line(text, found.start()))
            return True
        self.see(c for c in text.split("\n") if "." in c)
        return False

    def see(self, cells: Iterable[str]) -> tuple[int, int, str | None]:
        """Take in cells; return how many are numbers and are not, and the first that is not."""
        numbers = texts = 0
        first: str | None = None
        for cell in cells:
            key = cell.strip().lower()
            if key in MISSING or key in INFINITE:
                continue
            parts = split_number(cell, self.measure)
            if parts is None or not self.see_body(parts, cell):
                texts += 1
                first = cell if first is None else first
                continue
            numbers += 1
            if parts.unit:
                self.units.setdefault(parts.unit, cell)
            elif not self.bare and parts.body.strip("0.,"):
                self.bare = cell
            self.scaled = self.scaled or bool(parts.scale)
        return numbers, texts, first

    def see_body(self, parts: "Parts", cell: str) -> bool:
        """Take in the digits and marks of a number; False: they are no number."""
        body = parts.body
        marks = [c for c in body if not c.isdigit()]
        if not marks:
            if len(body) > 3 and not self.long and _is_long(cell):
                self.long = cell
            elif len(body) <= 3 and not self.short and body.strip("0"):
                self.short = cell
            return True
        kinds = list(dict.fromkeys(marks))
        if len(kinds) > 2:
            return False
        if len(kinds) == 2:
            group, decimal = kinds
            whole, _, rest = body.rpartition(decimal)
            is_ok = decimal in ".," and rest.isdigit() and GROUPS[group].fullmatch(whole)
            if is_ok and marks.count(decimal) == 1:
                self.decimal.setdefault(decimal, cell)
                self.thousands.setdefault(group, cell)
                return True
            return False
        (mark,) = kinds
        grouped = GROUPS[mark].fullmatch(body) is not None
        if mark in " '":
            if grouped:
                self.thousands.setdefault(mark, cell)
            return grouped
        if len(marks) > 1:
            if grouped:
                self.thousands.setdefault(mark, cell)
            return grouped
        if grouped and not body.startswith("0") and not parts.exp:
            self.either.setdefault(mark, cell)
        else:
            self.decimal.setdefault(mark, cell)
        return True


@dataclass(frozen=True)
class Parts:
    """A number taken apart."""

    negative: bool
    body: str
    exp: str
    scale: str
    unit: str


@lru_cache(2**13)  # the delimiter, the style and the values ask about one cell in turn
def _matched(cell: str) -> re.Match[str] | None:
    text = cell.strip()
    return NUMBER.fullmatch(text if text.isascii() else text.translate(ALIKE).strip())


def split_number(cell: str, measure: str = "") -> Parts | None:
    """Take a number apart, whatever its marks mean; None if the cell is none.

    Args:
        cell: As it stands in the file.
        measure: The unit of measurement that may stand behind the number.
    """
    found = _matched(cell)
    if found is None:
        return None
    get = found.groupdict(default="")
    if bool(get["open"]) != bool(get["close"]) or (get["sign1"] and get["sign2"]):
        return None
    if (get["unit1"] and get["unit2"]) or (get["open"] and (get["sign1"] or get["sign2"])):
        return None
    if get["measure"] and (get["measure"] != measure or get["unit1"]):
        return None
    # A minus behind an amount, as accounts have it (20,06-); without decimals it is a mark (2-).
    if get["sign3"] and (get["open"] or get["sign1"] or get["sign2"] or get["body"].isdigit()):
        return None
    body = get["body"].rstrip(" ")
    if body[-1] in ".,'" and not body[:-1].isdigit():
        return None
    negative = bool(get["open"]) or "-" in (get["sign1"], get["sign2"], get["sign3"])
    unit = get["unit1"] or get["unit2"] or get["measure"]
    return Parts(negative, body, get["exp"], get["scale"], unit)


def measure_of(cells: Iterable[str]) -> str:
    """Return the unit of measurement behind nearly all of the cells, or nothing."""
    found: dict[str, int] = {}
    filled = 0
    for cell in cells:
        if cell.strip().lower() in MISSING:
            continue
        filled += 1
        match = _matched(cell)
        if match is not None and (unit := match["measure"]):
            found[unit] = found.get(unit, 0) + 1
    unit = max(found, key=lambda u: found[u], default="")
    return unit if unit and found[unit] >= 0.9 * filled else ""


def decide(
    evidence: Evidence,
    column: str,
    where: str,
    marks: tuple[str | None, str | None],
    file: tuple[str, str] | None,
) -> NumberStyle:
    """Decide how a column is written.

    Args:
        evidence: Of all its cells.
        column: Its name.
        where: The file, for messages.
        marks: Decimal and thousands mark as asked for.
        file: The decimal mark that another column of the file proves, and that column's name.

    Raises:
        InputError: Its cells contradict each other, or could be read in two ways.
    """
    unit = _unit(evidence, column, where)
    decimal, thousands = marks
    proved = set(evidence.decimal)
    grouping = set(evidence.thousands)
    if decimal is None:
        clash = (proved & grouping) or (proved if len(proved) > 1 else set())
        if clash or len(grouping) > 1:
            cells = [*evidence.decimal.values(), *evidence.thousands.values()]
            told = " and ".join(repr(c) for c in dict.fromkeys(cells))
            raise InputError(
                f"{where}: column {column!r}: numbers are written in two ways, {told};"
                " write them in one, or pass --decimal . --thousands , (or the reverse)"
            )
        decimal = _decimal(evidence, column, where, file, proved, grouping)
    other = "," if decimal == "." else "."
    if thousands is None:
        found = (grouping | set(evidence.either)) - {decimal}
        thousands = next((m for m in (other, " ", "'") if m in found), "")
    seen = grouping | set(evidence.either)
    return NumberStyle(
        decimal, thousands if thousands in seen - {decimal} else "", unit, evidence.scaled
    )


def _decimal(
    evidence: Evidence,
    column: str,
    where: str,
    file: tuple[str, str] | None,
    proved: set[str],
    grouping: set[str],
) -> str:
    """The decimal mark that the cells, or else other columns of the file, prove."""
    if proved:
        (mark,) = proved
        return mark
    for group, mark in ((".", ","), (",", ".")):
        if group in grouping:
            return mark
    if not evidence.either:
        return "."
    if len(evidence.either) == 1:
        # Where thousands are not marked though they could be, the mark is not one of thousands.
        alone = next(iter(evidence.either)) if evidence.long else None
        # But then three decimals are always written, too, or nothing is sure.
        if alone is not None and (file[0] == alone if file is not None else not evidence.short):
            return alone
        if alone is None and file is not None:
            return file[0]
    mark, cell = next(iter(evidence.either.items()))
    other = "," if mark == "." else "."
    digits = cell.replace(mark, "")
    raise InputError(
        f"{where}: column {column!r}: {cell!r} is {cell.replace(mark, '.')} or {digits}, and no"
        f" cell tells which; pass --decimal {mark} for the first,"
        f" --decimal {other} --thousands {mark} for the second"
    )


def _unit(evidence: Evidence, column: str, where: str) -> str:
    if len(evidence.units) > 1:
        told = " and ".join(repr(c) for c in list(evidence.units.values())[:2])
        raise InputError(
            f"{where}: column {column!r}: {told} have different units; one column, one unit"
        )
    unit = next(iter(evidence.units), "")
    if unit == "%" and evidence.bare:
        raise InputError(
            f"{where}: column {column!r}: {evidence.units['%']!r} has a per cent sign and"
            f" {evidence.bare!r} has none; write both alike"
        )
    return unit


def convert(
    cells: list[str], style: NumberStyle, missing: frozenset[str]
) -> tuple[np.ndarray, list[int]]:
    """Return the cells as float64, NaN where missing, and the places of those that are no number.

    Args:
        cells: As they stand in the file.
        style: How the column is written.
        missing: Further cells, in lower case, that stand for a missing value.
    """
    values = np.full(len(cells), np.nan)
    bad: list[int] = []
    if style.is_plain:
        try:
            joined = "\n".join(cells)
            if PLAIN.search(joined) is None:
                return np.array([c or "nan" for c in cells], np.float64), bad
        except ValueError:
            pass
    for row, cell in enumerate(cells):
        key = cell.strip().lower()
        if key in MISSING or key in missing:
            continue
        if key in INFINITE:
            values[row] = float(key)
            continue
        value = _value(cell, style)
        if value is None:
            bad.append(row)
        else:
            values[row] = value
    return values, bad


def _value(cell: str, style: NumberStyle) -> float | None:
    parts = split_number(cell, style.unit)
    if parts is None or (parts.scale and not style.scaled):
        return None
    if parts.unit not in ("", style.unit):  # in a file read by the style of another
        return None
    body = parts.body
    if style.thousands and style.thousands in body:
        whole, mark, rest = body.partition(style.decimal)
        if not GROUPS[style.thousands].fullmatch(whole):
            return None
        body = whole.replace(style.thousands, "") + mark + rest
    body = body.replace(style.decimal, ".") if style.decimal in body else body
    if body.count(".") > 1 or not set(body) <= set("0123456789."):
        return None
    if style.decimal == "," and "." in parts.body and style.thousands != ".":
        return None
    value = float(body + parts.exp) * SCALES[parts.scale.lower()]
    return -value if parts.negative else value


def _is_long(cell: str) -> bool:
    """Whether a cell could have had its thousands marked: codes such as -9999 never have."""
    return re.fullmatch(r"\s*[+-]?(?:9+|32768|8888|7777|6999)\s*", cell) is None


def _line(text: str, at: int) -> str:
    end = text.find("\n", at)
    return text[text.rfind("\n", 0, at) + 1 : len(text) if end < 0 else end]
