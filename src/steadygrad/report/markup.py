"""Build HTML: plain text is escaped, elements made by `el` are not."""

import html
import re
from collections.abc import Iterable

_POWER = re.compile("10([⁻⁰¹²³⁴-⁹]+)")
_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789\u2212")
_NO_MARKUP = frozenset({"title", "text", "option"})  # elements whose content is text alone

VOID = frozenset({"meta", "img", "br", "path", "line", "rect"})


class Html(str):
    """Text that is markup already. Everything else is escaped."""

    __slots__ = ()


def esc(text: object) -> Html:
    """Escape ``text`` for use as content and inside double quotes."""
    if isinstance(text, Html):
        return text
    # HTML allows control characters in no notation, and UTF-8 no lone surrogates.
    plain = "".join(c if c >= " " or c in "\n\t" else "\ufffd" for c in str(text))
    return Html(html.escape(plain.encode("utf-8", "replace").decode("utf-8"), quote=True))


def join(parts: Iterable[object], glue: str = "") -> Html:
    """Concatenate parts, escaping those that are plain text."""
    return Html(esc(glue).join(esc(part) for part in parts if part is not None))


def el(name: str, /, *children: object, **attributes: object) -> Html:
    """Make one element; children that are None are omitted.

    Attributes: a trailing underscore is dropped (``class_``), others become hyphens; True gives a
    bare attribute, False and None are omitted.
    """
    pairs = ""
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        pairs += f" {key}" if value is True else f' {key}="{attribute(value)}"'
    if name in VOID:
        return Html(f"<{name}{pairs}/>")
    inside = (c if isinstance(c, Html) or name in _NO_MARKUP else raised(c) for c in children if c)
    return Html(f"<{name}{pairs}>{join(inside)}</{name}>")


def raised(text: object) -> Html:
    """Escape ``text`` and set its numbers: raised powers of ten, no line break before a %.

    (Unicode's superscript digits differ in size in most fonts.)
    """
    escaped = esc(text).replace(" %", "\u00a0%")
    return Html(_POWER.sub(lambda m: f"10<sup>{m[1].translate(_DIGITS)}</sup>", escaped))


def attribute(value: object) -> str:
    """Escape for an attribute; markup is escaped too, because an attribute cannot hold tags."""
    return esc(str.__str__(value) if isinstance(value, Html) else value)


def table(head: Iterable[object], rows: Iterable[Iterable[object]], **attributes: object) -> Html:
    """Make a table that scrolls where it is too wide; the first column names the row.

    With class ``stack`` it becomes a list on a narrow screen.
    """
    names = list(head)
    body = [
        el(
            "tr",
            *(
                el("td", el("span", cell), data_label=name) if i else el("th", cell, scope="row")
                for i, (name, cell) in enumerate(zip(names, row, strict=True))
            ),
        )
        for row in rows
    ]
    top = el("thead", el("tr", *(el("th", h, scope="col") for h in names)))
    inner = el("table", top, el("tbody", *body), **attributes)
    label = f"Table: {', '.join(map(str, names[:3]))}"  # reachable by keyboard, as it scrolls
    return el("div", inner, class_="scroll", tabindex="0", role="group", aria_label=label)
