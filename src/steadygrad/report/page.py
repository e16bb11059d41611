"""The report of runs as one self-contained HTML page."""

import base64
import hashlib
import importlib.resources
from collections.abc import Sequence
from pathlib import Path

from steadygrad import files
from steadygrad.record import Run
from steadygrad.record.ownership import GENERATOR
from steadygrad.report import (
    curves,
    gates,
    gradient_by_step,
    model_outputs,
    run_setup,
    run_tables,
    scores,
    sentence,
)
from steadygrad.report import findings as found
from steadygrad.report.chapter import Chapter, chapters
from steadygrad.report.glossary import glossary
from steadygrad.report.line_styles import page_rules, print_rules
from steadygrad.report.markup import Html, el, join
from steadygrad.report.pdf import printed, program
from steadygrad.report.sections import contents


def html(runs: Run | Sequence[Run], *, title: str | None = None) -> str:
    """Return the report of one run, or a joint one of several, as one HTML page.

    The page loads nothing, works offline and without its script (which only reads values out of the
    drawings), and stays below one megabyte.

    Args:
        runs: One run, or the first (before), those tried, and the last (after).
        title: Small line above the headline; by default the run's own title.

    Raises:
        ValueError: If there is no run.
        RecordError: If a record is damaged.
    """
    each = chapters([runs] if isinstance(runs, Run) else list(runs))
    title = title or _title(each)
    return document(f"{sentence.headline(each)} \u2013 {title}", _body(each, title))


def write(runs: Run | Sequence[Run], path: str | Path, *, title: str | None = None) -> Path:
    """Write the report of ``runs`` to ``path``, replacing an existing file in one step.

    With the ending ``.pdf``, write a PDF, printed by an installed Chromium.

    Raises:
        ValueError: If there is no run, ``path`` is a folder or has an unsupported ending, or no
            Chromium is found for a PDF.
        OSError: If the file cannot be written.
    """
    return save(html(runs, title=title), path)


def save(text: str, path: str | Path) -> Path:
    """Write a page or a drawing in the format given by the ending of ``path``.

    Raises:
        ValueError: The ending is unsupported, or ``path`` is a folder.
        OSError: The file cannot be written.
    """
    path = Path(path)
    check_format(path, is_drawing=text.startswith("<svg"))
    if path.is_dir():
        raise ValueError(f"{path}: this is a folder; a report is one file. Name a file in it")
    return put(printed(text, path) if path.suffix.lower() == ".pdf" else text, path)


def check_format(path: Path, *, is_drawing: bool) -> None:
    """Refuse an ending whose format cannot be written.

    Raises:
        ValueError: The ending is unsupported (names the supported ones), or no program can print
            a PDF.
    """
    endings = (".svg", ".pdf") if is_drawing else (".html", ".htm", ".pdf", "")
    if path.suffix.lower() not in endings:
        what, other = ("a figure", ".svg") if is_drawing else ("a report", ".html")
        raise ValueError(f"{path}: {what} is written as {other} or .pdf, not {path.suffix!r}")
    if path.suffix.lower() == ".pdf":
        program(path)


def put(content: str | bytes, path: str | Path) -> Path:
    """Write a file atomically: a reader sees the old one or the new one."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: this is a folder; a report is one file. Name a file in it")
    if isinstance(content, str):
        # a page has its generator in its head already
        mark = f"\n<!-- Made by {GENERATOR} -->\n" if content.startswith("<svg") else ""
        content = (content + mark).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, content)
    return path


def document(title: str, body: Html, *, style: str = "", script: str = "") -> str:
    """Return a page around ``body``, with the style and the script of all reports.

    Args:
        title: Title of the window.
        body: Content.
        style: Rules after those of the report.
        script: Code after that of the report; the page's policy allows no other script.
    """
    style = stylesheet(style)
    script = _asset("page.js") + script
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'"
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="generator", content=GENERATOR),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("style", Html(style)),
    )
    page = el("html", head, el("body", body, el("script", Html(script))), lang="en")
    return "<!doctype html>\n" + page


def stylesheet(more: str = "") -> str:
    """Return the style sheet of all pages, followed by rules for one page."""
    return page_rules() + _asset("page.css") + more + print_rules()


def _body(chapters: list[Chapter], title: str) -> Html:
    first, rest = sentence.parted(sentence.headline(chapters))
    header = el(
        "header",
        el("p", title, class_="kicker"),
        el("h1", first),
        el("p", rest) if rest else "",
        _subtitle(chapters),
    )
    sections = [
        scores.scores(chapters),
        model_outputs.shown(chapters[-1]),
        run_tables.runs(chapters),
        run_tables.trials(chapters),
        found.findings(chapters),
        gradient_by_step.gradient_by_step(chapters),
        curves.curves(chapters),
        gates.gates(chapters),
        run_setup.trained(chapters),
        glossary(),
    ]
    there = [each for each in sections if each is not None]
    footer = el("footer", "Made by Steadygrad from ", _sources(chapters), ".")
    return el("main", header, contents(there), *there, footer)


def _subtitle(chapters: list[Chapter]) -> Html:
    scored = sentence.scored(chapters)
    before = el("p", el("b", "Before: "), sentence.verdict(chapters[0]), class_="lead")
    return join(
        [
            el("p", scored, class_="lead") if scored else None,
            before if len(chapters) > 1 else None,
        ]
    )


def _sources(chapters: list[Chapter]) -> Html:
    return join((el("code", c.run.path.name) for c in chapters), ", ")


def _title(chapters: list[Chapter]) -> str:
    names = list(dict.fromkeys(c.title for c in chapters))
    return " \u2192 ".join((names[0], names[-1])) if len(names) > 1 else names[0]


def _asset(name: str) -> str:
    return (importlib.resources.files("steadygrad.report") / name).read_text(encoding="utf-8")
