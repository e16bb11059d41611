"""Draw the model's scores and the naive answers as bars with numbers."""

import math
from collections.abc import Mapping
from typing import Any

from steadygrad.report import figures
from steadygrad.report.chapter import Chapter
from steadygrad.report.markup import Html, el, join
from steadygrad.report.sections import Section, section


def scores(chapters: list[Chapter]) -> Section | None:
    """Draw one block of bars for each unit; None if nothing was scored."""
    rows = _rows(chapters)
    units = list(dict.fromkeys(unit for _, _, unit, _, _ in rows))
    if not units:
        return None
    return section("How good are the answers?", *(_block(u, rows) for u in units))


Row = tuple[str, float, str, str, str]  # name, value, unit, which way is better, style


def _rows(chapters: list[Chapter]) -> list[Row]:
    """The model's scores for each run, then each naive answer once."""
    ours = [
        _row(
            s,
            f"{s.get('name', 'model')}, {c.label}" if len(chapters) > 1 else "",
            c is chapters[-1],
        )
        for c in chapters
        for s in c.scores
        if s.get("ours")
    ]
    naive = [_row(s, "", None) for c in reversed(chapters) for s in c.scores if not s.get("ours")]
    first = {(name, unit): row for row in reversed(naive) for name, _, unit, _, _ in [row]}
    kept = [row for row in dict.fromkeys(naive) if first[(row[0], row[2])] == row]
    return ours + kept


def _row(score: Mapping[str, Any], name: str, is_last: bool | None) -> Row:
    value = score.get("value")
    number = float(value) if isinstance(value, int | float) else math.nan
    style = "naive" if is_last is None else "main" if is_last else "before"
    name = name or str(score.get("name", "model"))
    return name, number, str(score.get("unit", "")), str(score.get("better", "")), style


def _block(unit: str, rows: list[Row]) -> Html:
    mine = [row for row in rows if row[2] == unit]
    top = max((abs(v) for _, v, _, _, _ in mine if math.isfinite(v)), default=0.0) or 1.0
    way = {"lower": "lower is better", "higher": "higher is better"}.get(mine[0][3], "")
    bars = [
        el(
            "tr",
            el("th", name, scope="row"),
            el("td", _bar(value, top, style), class_="track"),
            el("td", figures.score(value, unit), class_="value"),
            class_=style,
        )
        for name, value, _, _, style in mine
    ]
    caption = join([el("strong", unit), f" \u2014 {way}" if way else None])
    return el("table", el("caption", caption), el("tbody", *bars), class_="bars")


def _bar(value: float, top: float, style: str) -> Html | None:
    if not math.isfinite(value):
        return None
    return el("i", class_=f"bar {style}", style=f"width:{100 * abs(value) / top:.2f}%")
