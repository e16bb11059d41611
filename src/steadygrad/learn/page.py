"""The page of a lesson: one offline HTML file, drawn with the tools of the report."""

import importlib.resources
from pathlib import Path

from steadygrad.learn.lesson import Lesson, Result
from steadygrad.learn.parts import Cell, Code, Heading, Part, Table, Text
from steadygrad.report.figures import plain
from steadygrad.report.markup import Html, el, table
from steadygrad.report.page import document, save

STACKED = 6  # most rows of a table that a narrow screen shows as a list; longer ones scroll


def html(lesson: Lesson, result: Result) -> str:
    """Return the page of ``lesson`` with the numbers of ``result``."""
    header = el(
        "header",
        el("p", f"steadygrad learn {lesson.name}", class_="kicker"),
        el("h1", lesson.question),
    )
    body = el(
        "main",
        header,
        *(_part(part) for part in result.parts()),
        el("footer", "Computed by Steadygrad; every number on this page can be computed again."),
    )
    style = _asset("lesson.css")
    return document(lesson.question, body, style=style, script=script(lesson.name))


def write(lesson: Lesson, result: Result, path: str | Path) -> Path:
    """Write the page to ``path``, HTML or PDF, replacing an existing file in one step."""
    return save(html(lesson, result), path)


def script(name: str) -> str:
    """The lesson's own functions and the script that draws them; empty without the former."""
    own = importlib.resources.files("steadygrad.learn") / f"{name}.js"
    return own.read_text(encoding="utf-8") + _asset("scene.js") if own.is_file() else ""


def number(value: Cell) -> str:
    """A cell of a table as text."""
    return value if isinstance(value, str) else plain(value)


def _part(part: Part) -> Html:
    match part:
        case Heading():
            return el("h2", part.text)
        case Text():
            return el("p", part.text)
        case Code():
            code = el("pre", el("code", part.text), tabindex="0", aria_label=part.language)
            return el("div", el("p", part.language, class_="quiet"), code, class_="code")
        case Table():
            rows = [[number(cell) for cell in row] for row in part.rows]
            about = el("span", part.about) if part.about else None
            caption = el("figcaption", el("strong", part.title), about)
            if len(rows) <= STACKED:
                return el("figure", caption, table(part.head, rows, class_="stack"))
            return el("figure", caption, el("div", table(part.head, rows), class_="wide"))
    return part.html()


def _asset(name: str) -> str:
    return (importlib.resources.files("steadygrad.learn") / name).read_text(encoding="utf-8")
