"""Describe the training and the measurement, with every option needed to repeat them."""

import datetime
from collections.abc import Mapping
from typing import Any

from steadygrad.report import figures
from steadygrad.report.chapter import Chapter
from steadygrad.report.findings import brief
from steadygrad.report.markup import Html, el, join, table
from steadygrad.report.run_tables import named
from steadygrad.report.sections import Section, section

_TOLD = frozenset(
    (
        "title kind verdict lag lag_estimate scores layers remedies trials thresholds quantities"
        " shown margin not_judged"
    ).split()
)
_FIRST = ("data", "model", "seeds", "versions")
_DULL = frozenset({"epoch", "checkpoint"})


def trained(chapters: list[Chapter]) -> Section:
    """Describe each run: data, model, remedies, options, measurement, events."""
    blocks = [_of(c, len(chapters) > 1) for c in chapters]
    return section("What was trained, and how it was measured", *blocks)


def _of(chapter: Chapter, is_named: bool) -> Html:
    notes = {k: v for k, v in chapter.notes.items() if k not in _TOLD}
    ordered = [k for k in _FIRST if k in notes] + sorted(k for k in notes if k not in _FIRST)
    level = "h4" if is_named else "h3"
    return join(
        [
            el("h3", f"{chapter.label.capitalize()}: {chapter.title}") if is_named else None,
            _measuring(chapter, level),
            *(_note(key, notes[key], level) for key in ordered),
            _remedies(chapter, level),
            _fold("Options", _pairs(chapter.config)) if chapter.config else None,
            _thresholds(chapter),
            _quantities(chapter),
            _events(chapter),
        ]
    )


def _measuring(chapter: Chapter, level: str) -> Html | None:
    if not chapter.layers:
        return None
    head = [
        "Layer",
        "Cell",
        "Hidden",
        "Steps",
        "Reaches back",
        "Per step back",
        "How it was measured",
    ]
    rows = [
        [
            brief(y.get("name")),
            brief(y.get("cell")),
            brief(y.get("hidden")),
            brief(y.get("time_steps")),
            f"{figures.plain(y['horizon'])} steps"
            if isinstance(y.get("horizon"), int)
            else "\u2013",
            f"{figures.plain(y['slope'])} decades"
            if isinstance(y.get("slope"), int | float)
            else "\u2013",
            join([brief(y.get("how")), el("br"), el("small", brief(y.get("exactness")))]),
        ]
        for y in chapter.layers
    ]
    return join(
        [
            el(level, "How each measurement was made, and how exact it is"),
            table(head, rows, class_="stack"),
        ]
    )


def _note(key: str, value: Any, level: str) -> Html:
    if isinstance(value, Mapping):  # for programs: other notes say the same in words
        value = {k: v for k, v in value.items() if k != "understood"}
    body = _pairs(value) if isinstance(value, Mapping) else _text(value)
    return join([el(level, key.replace("_", " ").capitalize()), body])


def _text(value: Any) -> Html:
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return el("ul", *(el("li", v) for v in value))
    return el("p", brief(value))


def _pairs(mapping: Mapping[str, Any]) -> Html:
    pairs = [
        el("div", el("dt", str(k).replace("_", " ")), el("dd", brief(v)))
        for k, v in mapping.items()
    ]
    return el("dl", *pairs, class_="facts")


def _remedies(chapter: Chapter, level: str) -> Html | None:
    if not chapter.remedies:
        return None
    items = [
        el(
            "li",
            el("b", named(r)),
            f" claims: {r['claim']}" if r.get("claim") else None,
            f" Changed: {r['changed']}" if r.get("changed") else None,
        )
        for r in chapter.remedies
    ]
    return join([el(level, "Remedies"), el("ul", *items)])


def _thresholds(chapter: Chapter) -> Html | None:
    thresholds = chapter.notes.get("thresholds")
    if not isinstance(thresholds, Mapping) or not thresholds:
        return None
    return _fold("Limits that decide", _pairs(thresholds))


def _quantities(chapter: Chapter) -> Html | None:
    """The meaning of the quantities in this record."""
    there = [*chapter.run.scalar_names(), *(name for name, *_ in chapter.run.quantities())]
    found = [(name, chapter.quantity(name)) for name in dict.fromkeys(there)]
    rows = [
        (name, brief(told.get("meaning")), brief(told.get("unit"))) for name, told in found if told
    ]
    if not rows:
        return None
    return _fold("What the numbers mean", table(("Quantity", "Meaning", "Unit"), rows))


def _events(chapter: Chapter) -> Html | None:
    told = [e for e in chapter.events if e["kind"] not in _DULL][:60]
    if not told:
        return None
    rows = [
        [
            figures.plain(e["step"]),
            e["kind"],
            e["text"] + (f" ({brief(e['data'])})" if e["data"] else ""),
            _time(e["time"]),
        ]
        for e in told
    ]
    return _fold(
        "What happened", table(("Training step", "Event", "What happened", "Time (UTC)"), rows)
    )


def _fold(title: str, body: Html) -> Html:
    return el("details", el("summary", title), body, class_="more")


def _time(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}"
