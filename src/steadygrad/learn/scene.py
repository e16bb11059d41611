"""Interactive figures: controls, and drawings that the page's script computes.

A scene names one pure function of the lesson's script: from the controls' values and the scene's
data it computes texts, curves, shapes, letters and rows. ``scene.js`` only reads controls and
draws results.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steadygrad.report.axis import Axis
from steadygrad.report.frame import framed
from steadygrad.report.line_styles import key as stroke
from steadygrad.report.markup import Html, el, join
from steadygrad.report.plot import grid_lines


@dataclass(frozen=True)
class Slider:
    """A number between two bounds."""

    key: str
    label: str
    low: float
    high: float
    value: float
    step: float

    def html(self) -> Html:
        """Draw; the output beside it shows the value."""
        return el(
            "label",
            el("span", self.label, class_="name"),
            el(
                "input",
                type="range",
                min=f"{self.low:g}",
                max=f"{self.high:g}",
                step=f"{self.step:g}",
                value=f"{self.value:g}",
                data_key=self.key,
            ),
            el("output", f"{self.value:g}", data_value=self.key),
        )


@dataclass(frozen=True)
class Choice:
    """One of several words: pairs of value and label."""

    key: str
    label: str
    options: Sequence[tuple[str, str]]
    value: str

    def html(self) -> Html:
        """Draw."""
        options = [el("option", t, value=v, selected=v == self.value) for v, t in self.options]
        return el(
            "label",
            el("span", self.label, class_="name"),
            el("select", *options, data_key=self.key),
        )


@dataclass(frozen=True)
class Entry:
    """A line of text."""

    key: str
    label: str
    value: str
    longest: int = 120

    def html(self) -> Html:
        """Draw."""
        field = el(
            "input",
            type="text",
            value=self.value,
            maxlength=self.longest,
            data_key=self.key,
            spellcheck="false",
            autocomplete="off",
        )
        return el("label", el("span", self.label, class_="name"), field, class_="wide")


@dataclass(frozen=True)
class Preset:
    """A button that sets several controls at once."""

    text: str
    values: Mapping[str, float | str]

    def html(self) -> Html:
        """Draw."""
        return el("button", self.text, type="button", data_set=json.dumps(dict(self.values)))


@dataclass(frozen=True)
class Step:
    """A button that moves a slider by ``by``."""

    text: str
    key: str
    by: float

    def html(self) -> Html:
        """Draw."""
        return el("button", self.text, type="button", data_move=self.key, data_by=f"{self.by:g}")


@dataclass(frozen=True)
class Curves:
    """A chart: names and styles of its lines, and fixed axes."""

    key: str
    title: str
    lines: Sequence[tuple[str, str]]
    x: Axis
    y: Axis
    x_name: str
    y_name: str
    about: str = ""

    def html(self) -> Html:
        """Draw the frame; the script draws the lines."""
        strokes = [el("span", stroke(style), " ", name, class_="key") for name, style in self.lines]
        drawing = el(
            "svg",
            grid_lines(self.y),
            *(el("path", class_=f"line {style}", d="M0 0") for _, style in self.lines),
            viewBox="0 0 1000 1000",
            preserveAspectRatio="none",
            aria_hidden="true",
        )
        axes = {
            "x": [self.x.low, self.x.high],
            "y": [self.y.low, self.y.high],
            "log": self.y.is_log,
            "name": self.x_name.split(" (")[0],
            "lines": [name for name, _ in self.lines],
        }
        inner = el(
            "div",
            drawing,
            el("i", class_="cursor", hidden=True),
            class_="area curve",
            tabindex="0",
            role="img",
            aria_label=f"{self.title}. Arrow keys read the values.",
            data_curves=self.key,
            data_axes=json.dumps(axes),
        )
        return framed(
            title=self.title,
            about=self.about,
            area=inner,
            x=self.x,
            y=self.y,
            x_name=self.x_name,
            y_name=self.y_name,
            key=el("div", *strokes, class_="legend") if len(strokes) > 1 else None,
        )


@dataclass(frozen=True)
class Picture:
    """A drawing of shapes in a box, with an image behind its upper part."""

    key: str
    label: str
    width: int
    height: int
    behind: str | None = None
    behind_height: int | None = None

    def html(self) -> Html:
        """Draw the box; the script draws the shapes."""
        back = (
            el(
                "image",
                href=self.behind,
                width=self.width,
                height=self.behind_height or self.height,
                preserveAspectRatio="none",
            )
            if self.behind
            else None
        )
        return el(
            "div",
            el(
                "svg",
                back,
                el("g", data_picture=self.key),
                viewBox=f"0 0 {self.width} {self.height}",
                role="img",
                aria_label=self.label,
            ),
            class_="picture",
            style=f"max-width:{self.width / 16:.1f}rem",
        )


@dataclass(frozen=True)
class Letters:
    """A row of letters with a bar above each; pointing at one sets the slider ``at``."""

    key: str
    label: str
    at: str | None = None

    def html(self) -> Html:
        """Draw the row; the script fills it."""
        return el(
            "div",
            class_="letters",
            role="group",
            aria_label=self.label,
            data_letters=self.key,
            data_at=self.at,
        )


@dataclass(frozen=True)
class Ledger:
    """A table whose rows the script writes."""

    key: str
    label: str
    head: Sequence[str]

    def html(self) -> Html:
        """Draw the head; the script writes the rows."""
        top = el("thead", el("tr", *(el("th", h, scope="col") for h in self.head)))
        body = el("tbody", data_rows=self.key)
        return el(
            "div",
            el("table", el("caption", self.label), top, body),
            class_="scroll ledger",
            tabindex="0",
            role="region",
            aria_label=self.label,
        )


@dataclass(frozen=True)
class Readings:
    """Numbers with names: pairs of key and label."""

    items: Sequence[tuple[str, str]]

    def html(self) -> Html:
        """Draw."""
        pairs = [
            el("div", el("dt", label), el("dd", "\u2013", data_text=key))
            for key, label in self.items
        ]
        return el("dl", *pairs, class_="facts")


@dataclass(frozen=True)
class Sentence:
    """One sentence that the script writes, read out when it changes."""

    key: str

    def html(self) -> Html:
        """Draw."""
        return el("p", "\u2013", class_="sentence", data_text=self.key, aria_live="polite")


Control = Slider | Choice | Entry | Preset | Step
Output = Curves | Picture | Letters | Ledger | Readings | Sentence


@dataclass(frozen=True)
class Scene:
    """An interactive figure.

    Args:
        name: The function of the lesson's script that computes it.
        title: The title.
        about: How to use it, in one or two sentences.
        controls: The controls in order.
        outputs: The outputs in order.
        data: Passed to the function with the controls' values.
    """

    name: str
    title: str
    about: str
    controls: Sequence[Control]
    outputs: Sequence[Output]
    data: Mapping[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, float | str]:
        """The controls' values when the page opens."""
        return {c.key: c.value for c in self.controls if isinstance(c, Slider | Choice | Entry)}

    def html(self) -> Html:
        """Draw."""
        buttons = [c.html() for c in self.controls if isinstance(c, Preset | Step)]
        fields = [c.html() for c in self.controls if not isinstance(c, Preset | Step)]
        return el(
            "figure",
            el("figcaption", el("strong", self.title), el("span", self.about)),
            el("noscript", el("p", "This figure needs the script of the page.")),
            el("div", join(fields), class_="controls") if fields else None,
            el("div", join(buttons), class_="buttons") if buttons else None,
            join(output.html() for output in self.outputs),
            el("script", Html(_data(self.data)), type="application/json"),
            class_="scene",
            data_scene=self.name,
        )


def _data(values: Mapping[str, Any]) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
