"""The encoding of a text: its mark, UTF-8, or a guess that is said."""

import contextlib
import re
from pathlib import Path

from steadygrad.errors import InputError

# Those that people's files are in. A guess among all that exist finds rarer ones far too often.
LEGACY = (
    *("cp949", "gb18030", "big5", "cp932", "euc_jp", "cp1252", "cp1250", "cp1251", "cp1253"),
    *("cp1254", "cp1257", "koi8_r", "mac_roman"),
)
WIDE = frozenset({"cp949", "gb18030", "big5", "cp932", "euc_jp"})  # of two bytes a letter
MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
LETTERS = re.compile(r"[^\W\d_]", re.UNICODE)
HANGUL = re.compile("[가-힣]")
NARROW = re.compile("[\uff66-\uff9f]")
VOWELS = frozenset("аеёиоуыэюя")
KANA = re.compile("[ぁ-ヿ]")
HIGH = re.compile(rb"[^\n]*[\x80-\xff][^\n]*\n?")
SAMPLE = 20_000


def by_mark(head: bytes, path: Path) -> str | None:
    """Return the encoding that the first bytes name or show; None: to be found out.

    Raises:
        InputError: Zero bytes that no encoding of text explains.
    """
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    nul = head.find(b"\0")
    if nul < 0:
        return None
    even, odd = head[::2].count(0), head[1::2].count(0)
    half = max(1, len(head) // 2)
    if odd > 0.4 * half and even < 0.05 * half:
        return "utf-16-le"
    if even > 0.4 * half and odd < 0.05 * half:
        return "utf-16-be"
    raise InputError(f"{path}: byte {nul} is zero, so this is a binary file; expected text")


def guess(data: bytes, path: Path) -> tuple[str, str]:
    """Guess the encoding of bytes that are not UTF-8.

    Returns:
        Its name, and a few words as they read in it, to be shown.

    Raises:
        InputError: charset-normalizer is not installed, or finds nothing plausible.
    """
    try:
        from charset_normalizer import from_bytes
    except ModuleNotFoundError:
        raise InputError(
            f"{path}: is not UTF-8; give its --encoding, or pip install charset-normalizer to"
            " have it guessed"
        ) from None
    sample = b"".join(HIGH.findall(data))[:SAMPLE] or data[:SAMPLE]
    if set(re.findall(rb"[^\s,;]*[\x80-\xff][^\s,;]*", sample)) == {b"\xe0"}:
        return "cp1252", "à"  # a word of French
    found: dict[str, str] = {}
    for match in from_bytes(sample, cp_isolation=list(LEGACY)):
        # Those that read alike come as one; of them the commonest.
        alike = match.could_be_from_charset
        found["cp1252" if "cp1252" in alike else match.encoding] = str(match)
    plausible = {name: text for name, text in found.items() if _is_plausible(name, text)}
    if plausible.keys() <= WIDE:  # of few words with one accent each the library knows no more
        with contextlib.suppress(UnicodeDecodeError):
            text = sample.decode("cp1252")
            if _is_plausible("cp1252", text) and _score("cp1252", text)[0] == 1:
                plausible["cp1252"] = text
    if not plausible:
        raise InputError(
            f"{path}: is not UTF-8, and no other encoding reads it well; give its --encoding"
            " (cp949, gb18030, cp932, cp1252, cp1251, ...)"
        )
    name = max(plausible, key=lambda n: _score(n, plausible[n]))
    words = re.findall(r"[^\s,;\t\"|]*[^\x00-\x7f][^\s,;\t\"|]*", plausible[name])
    return name, ", ".join(dict.fromkeys(words[:3]))


# The letters that texts in Latin script have beside a to z; other ones are rare.
USUAL = frozenset("äöüßéèêëàâçîïôûùñóíáúãõåøæąćęłńśźżěščřžýůőűğışÄÖÜÉÅØÑÇ°€µ²³£¥§½–’ºª·ß")  # noqa: RUF001
# Letters in the headers of tables of East Asia, simplified and traditional.
COMMON = frozenset(
    "年月日時时間间分秒値值価价格數数量気气温溫度湿濕風风速雨水降電电力流圧压高低最平均合計计名称稱地点點店"
    "付商品売卖上下前後后収收開开盤盘終终始金額额人口番号號種种類类比率変变動动曜週周期号别別単位"
)
WORD = re.compile(r"[^\W\d_]+")


def _score(name: str, text: str) -> tuple[float, int, int]:
    """Order the encodings that read plausibly: usual letters, then the commonest encoding."""
    high = [c for c in text if ord(c) > 127]
    single = name.startswith(("cp125", "mac", "koi8"))
    if name == "koi8_r" and _is_russian(text):
        return (2.0, 0, 0)
    if not high or not single or _is_cyrillic_or_greek(high):
        # Many bytes that fit a rule are no accident; of two that do, the one with common letters,
        # and then the one listed first.
        common = sum(c in COMMON for c in high) if name != "cp949" else len(high)
        return (1.0, common, -LEGACY.index(name) if name in LEGACY else -99)
    usual = sum(c in USUAL for c in high) / len(high)
    return (usual, name == "cp1252", -LEGACY.index(name) if name in LEGACY else -99)


def _is_russian(text: str) -> bool:
    """Whether words have vowels and no capitals inside: little of Chinese reads so by accident."""
    words = [w for w in WORD.findall(text) if not w.isascii()]
    letters = sum(map(len, words))
    vowels = sum(c in VOWELS for word in words for c in word.lower())
    marks = sum(ord(c) > 127 and not LETTERS.match(c) for c in text)
    small = all(word[1:] == word[1:].lower() for word in words)
    return small and 0.25 * letters <= vowels <= 0.6 * letters and marks <= 0.1 * letters


def _is_cyrillic_or_greek(letters: list[str]) -> bool:
    own = [c for c in letters if LETTERS.match(c)]
    return bool(own) and all("\u0370" <= c <= "\u04ff" for c in own)


def _is_plausible(name: str, text: str) -> bool:
    """Whether words are of one script, and those in Latin letters mostly without accents.

    Korean is read from almost any East Asian bytes: but then it is not Hangul throughout.
    """
    letters = [c for c in text if ord(c) > 127 and LETTERS.match(c)]
    if not letters:
        return name not in WIDE
    if name == "cp949":
        hangul = [c for c in letters if HANGUL.match(c)]
        # What Korean is written with is in the national standard; Japanese read as Korean is not.
        common = sum(len(c.encode("euc_kr", "ignore")) == 2 for c in hangul)
        usual = len(hangul) + sum(c in COMMON for c in letters)  # a few words are written so
        is_korean = len(hangul) > 0.7 * len(letters) and usual > 0.9 * len(letters)
        return is_korean and common > 0.9 * len(hangul)
    if name in ("big5", "gb18030"):
        return not any(KANA.match(c) for c in letters)
    if name == "cp932":
        return sum(bool(NARROW.match(c)) for c in letters) <= 0.5 * len(letters)
    if not name.startswith(("cp125", "mac", "koi8")):
        return True
    words = [w for w in WORD.findall(text) if not w.isascii()]
    if any("\u0370" <= c <= "\u04ff" for c in letters):
        mixed = sum(any(c.isascii() for c in word) for word in words)
        shouted = sum(word[1:] != word[1:].lower() and word != word.upper() for word in words)
        return mixed + shouted <= 0.2 * len(words)
    accents = sum(not c.isascii() for word in words for c in word)
    inside = sum(any(c.isupper() for c in word[1:]) and not word.isupper() for word in words)
    return accents <= 0.5 * sum(map(len, words)) and inside <= 0.2 * len(words)
