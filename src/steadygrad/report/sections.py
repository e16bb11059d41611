"""Sections of a page: headings, anchors, and the table of contents."""

import re
import unicodedata
from collections.abc import Sequence

from steadygrad.report.markup import Html, el


class Section(Html):
    """A section that knows its title and its anchor."""

    heading: str
    anchor: str


def section(title: str, *children: object) -> Section:
    """Make a section under a heading that can be linked to."""
    anchor = anchored(title)
    made = Section(el("section", el("h2", title, link(anchor, title)), *children, id=anchor))
    made.heading, made.anchor = title, anchor
    return made


def anchored(title: str) -> str:
    """The anchor of a title: its letters and digits, with hyphens between."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")[:60] or "section"


def link(anchor: str, title: str) -> Html:
    """A link to a heading, shown beside it."""
    return el("a", "#", href=f"#{anchor}", class_="anchor", aria_label=f"Link to: {title}")


def contents(sections: Sequence[Section]) -> Html | None:
    """A list of links to the sections; None if there are too few."""
    if len(sections) < 2:
        return None
    entries = [el("li", el("a", s.heading, href=f"#{s.anchor}")) for s in sections]
    return el("nav", el("ul", *entries), class_="contents", aria_label="Contents")
