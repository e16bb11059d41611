"""The page as a whole: one file, no network, no script but its own."""

import base64
import hashlib
import importlib.resources
from collections.abc import Sequence
from pathlib import Path

from steadygrad import files
from steadygrad.record import Run
from steadygrad.record.ownership import GENERATOR
from steadygrad.report import compare, curves, gates, scores, sentence, shown, trained
from steadygrad.report import findings as found
from steadygrad.report import gradient_by_step as journey
from steadygrad.report.chapter import Chapter, chapters
from steadygrad.report.glossary import glossary
from steadygrad.report.markup import Html, el, join
from steadygrad.report.pdf import printed, program
from steadygrad.report.sections import contents
from steadygrad.report.strokes import page_rules, print_rules


def html(runs: Run | Sequence[Run], *, title: str | None = None) -> str:
    """Return the report of one run, or of several told together, as one HTML page.

    The page is complete in itself: it loads nothing, works offline and without its script (which
    only reads values out of the drawings), and stays below one megabyte.

    Args:
        runs: One run, or the first (before), those tried, and the last (after).
        title: Small line above the headline; by default the run's own title.

    Raises:
        ValueError: If there is no run.
        RecordError: If a record is damaged.
    """
    told = chapters([runs] if isinstance(runs, Run) else list(runs))
    title = title or _title(told)
    return document(f"{sentence.headline(told)} \u2013 {title}", _body(told, title))


def write(runs: Run | Sequence[Run], path: str | Path, *, title: str | None = None) -> Path:
    """Write the report of ``runs`` to ``path``, replacing in one step what stands there.

    A name that ends in ``.pdf`` gets a PDF, printed by an installed Chromium.

    Raises:
        ValueError: If there is no run, ``path`` is a folder or names a format that a page cannot
            have, or a PDF is asked for and there is no Chromium.
        OSError: If the file cannot be written.
    """
    return save(html(runs, title=title), path)


def save(text: str, path: str | Path) -> Path:
    """Write a page or a drawing in the format that the ending of ``path`` asks for.

    Raises:
        ValueError: It cannot have that format, or ``path`` is a folder.
        OSError: The file cannot be written.
    """
    path = Path(path)
    check_format(path, is_drawing=text.startswith("<svg"))
    if path.is_dir():
        raise ValueError(f"{path}: this is a folder; a report is one file. Name a file in it")
    return put(printed(text, path) if path.suffix.lower() == ".pdf" else text, path)


def check_format(path: Path, *, is_drawing: bool) -> None:
    """Refuse an ending that asks for a format that cannot be written.

    Raises:
        ValueError: What the ending may be; or that nothing here can print a PDF.
    """
    allowed = (".svg", ".pdf") if is_drawing else (".html", ".htm", ".pdf", "")
    if path.suffix.lower() not in allowed:
        what, other = ("a figure", ".svg") if is_drawing else ("a report", ".html")
        raise ValueError(f"{path}: {what} is written as {other} or .pdf, not {path.suffix!r}")
    if path.suffix.lower() == ".pdf":
        program(path)


def put(content: str | bytes, path: str | Path) -> Path:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: this is a folder; a report is one file. Name a file in it")
    if isinstance(content, str):
        # A page names its generator in its head.
        mark = f"\n<!-- Made by {GENERATOR} -->\n" if content.startswith("<svg") else ""
        content = (content + mark).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, content)
    return path


def document(title: str, body: Html, *, style: str = "", script: str = "") -> str:
    """Return a page around ``body``, with the style and the script of every report in it.

    Args:
        title: Of the window.
        body: Content.
        style: Rules after those of the report.
        script: Code after that of the report; the page's policy allows these two and no other.
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
    """Return the style sheet of every page, with rules of a page's own."""
    return page_rules() + _asset("page.css") + more + print_rules()


def _body(told: list[Chapter], title: str) -> Html:
    header = el(
        "header",
        el("p", title, class_="kicker"),
        el("h1", sentence.headline(told)),
        _subtitle(told),
    )
    sections = [
        scores.scores(told),
        shown.shown(told[-1]),
        compare.runs(told),
        compare.trials(told),
        found.findings(told),
        journey.journey(told),
        curves.curves(told),
        gates.gates(told),
        trained.trained(told),
        glossary(),
    ]
    there = [each for each in sections if each is not None]
    footer = el("footer", "Made by Steadygrad from ", _sources(told), ".")
    return el("main", header, contents(there), *there, footer)


def _subtitle(told: list[Chapter]) -> Html:
    scored = sentence.scored(told)
    before = el("p", el("b", "Before: "), sentence.verdict(told[0]), class_="lead")
    return join(
        [
            el("p", scored, class_="lead") if scored else None,
            before if len(told) > 1 else None,
        ]
    )


def _sources(told: list[Chapter]) -> Html:
    return join((el("code", c.run.path.name) for c in told), ", ")


def _title(told: list[Chapter]) -> str:
    names = list(dict.fromkeys(c.title for c in told))
    return " \u2192 ".join((names[0], names[-1])) if len(names) > 1 else names[0]


def _asset(name: str) -> str:
    return (importlib.resources.files("steadygrad.report") / name).read_text(encoding="utf-8")
