"""Charts of all recorded scalars over training, known ones first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steadygrad.report.chapter import Chapter
from steadygrad.report.downsample import Curve
from steadygrad.report.figures import plain
from steadygrad.report.markup import Html, el
from steadygrad.report.plot import Line, Plot, Rule
from steadygrad.report.sections import Section, section


@dataclass(frozen=True)
class Panel:
    """Scalars that share a chart."""

    title: str
    about: str
    names: dict[str, str]  # name of the scalar: its label in the key
    is_log: bool
    is_share: bool = False  # 0 or 1 at each step: averaged to a share
    unit: str = "1"


# The scalars of the training loop; measured quantities are described in their record.
PANELS = (
    Panel(
        "Loss",
        "The value that training minimises. The validation part is not trained on.",
        {
            "loss": "training",
            "train_loss": "training",
            "val_loss": "validation",
            "test_loss": "test",
        },
        True,
    ),
    Panel("Learning rate", "How large a step each update takes.", {"lr": "learning rate"}, True),
)
_MOST_OTHERS = 8


def curves(chapters: list[Chapter]) -> Section | None:
    """Draw the scalars; None if none were recorded."""
    panels, left = panels_of(chapters)
    if not panels:
        return None
    if all(len(c.run.steps(n)) < 2 for c in chapters for n in c.run.scalar_names()):
        return section("Measured once", *(_once(c) for c in chapters))
    plots = [_plot(chapters, panel).html() for panel in panels]
    more = el("p", f"{left} more scalars are in the record.", class_="quiet") if left > 0 else None
    return section("Over training", el("div", *plots, class_="pair"), more)


def panels_of(chapters: list[Chapter]) -> tuple[list[Panel], int]:
    """The charts of the recorded scalars, and how many scalars are on none."""
    there = list(dict.fromkeys(n for c in chapters for n in c.run.scalar_names()))
    listed = {name for panel in PANELS for name in panel.names}
    described = _described(chapters, [n for n in there if n not in listed])
    listed |= {name for panel in described for name in panel.names}
    others = [
        Panel(_titled(n), "", {n: n}, _is_wide(chapters, n)) for n in there if n not in listed
    ]
    panels = [p for p in PANELS[:1] if set(p.names) & set(there)] + described
    panels += [p for p in PANELS[1:] if set(p.names) & set(there)] + others[:_MOST_OTHERS]
    return panels, len(others) - _MOST_OTHERS


def _described(chapters: list[Chapter], names: list[str]) -> list[Panel]:
    """Charts of the scalars that the records describe, related ones in one chart."""
    panels: dict[str, Panel] = {}
    for name in names:
        entry = _description(chapters, name)
        if entry is None:
            continue
        head = _description(chapters, str(entry.get("beside") or name)) or entry
        title = str(head.get("title") or _titled(name))
        about, unit = str(head.get("meaning") or ""), str(head.get("unit") or "1")
        panel = Panel(title, about, {}, bool(head.get("log")), bool(head.get("share")), unit)
        panels.setdefault(title, panel).names[name] = str(entry.get("label") or name).replace(
            "_", " "
        )
    return list(panels.values())


def _description(chapters: list[Chapter], name: str) -> Mapping[str, Any] | None:
    return next((entry for c in chapters if (entry := c.quantity(name)) is not None), None)


def _plot(chapters: list[Chapter], panel: Panel) -> Plot:
    series = [
        (c, name, *c.run.scalars(name))
        for c in chapters
        for name in panel.names
        if name in c.run.scalar_names()
    ]
    is_log = panel.is_log and not any((v < 0).any() for _, _, _, v in series)
    lines = [
        Line(
            _name(panel, name, c, len(chapters) > 1),
            *(_averaged if panel.is_share else _as_is)(
                steps.astype(np.float64), _log10(values) if is_log else values
            ),
            _style(panel, name, c is chapters[-1]),
        )
        for c, name, steps, values in series
    ]
    lag = chapters[-1].lag
    word = chapters[-1].lag_word
    needed = [Rule(float(lag), f"{word}: {lag}", True)] if lag and "horizon" in panel.names else []
    return Plot(
        title=panel.title,
        about=panel.about,
        lines=lines,
        x_name="training step",
        y_name=_axis(panel) + (" (log scale)" if is_log else ""),
        is_log=is_log,
        floor=0.0 if panel.is_share or "horizon" in panel.names else None,
        rules=needed,
    )


def _axis(panel: Panel) -> str:
    name = panel.title.lower()
    return name if panel.unit in ("1", "gradient") else f"{name}, {panel.unit}"


def _name(panel: Panel, name: str, chapter: Chapter, is_one_of_many: bool) -> str:
    words = panel.names[name]
    if not is_one_of_many:
        return words
    return f"{words}, {chapter.label}" if len(panel.names) > 1 else chapter.label


def _style(panel: Panel, name: str, is_last: bool) -> str:
    later = "" if list(panel.names).index(name) < 1 or name == "train_loss" else " dashed"
    return ("main" if is_last else "before") + later


def _once(chapter: Chapter) -> Html:
    names = chapter.run.scalar_names()
    pairs = []
    for name in names:
        entry = chapter.quantity(name) or {}
        unit = str(entry.get("unit") or "1")
        value = plain(float(chapter.run.scalars(name)[1][0]))
        title = entry.get("meaning") or None
        text = value if unit == "1" else f"{value} {unit}"
        pairs.append(el("div", el("dt", name.replace("_", " "), title=title), el("dd", text)))
    return el("dl", *pairs, class_="facts")


def _as_is(x: NDArray[np.float64], y: NDArray[np.float64]) -> Curve:
    return x, y


def _averaged(x: NDArray[np.float64], y: NDArray[np.float64], parts: int = 40) -> Curve:
    """Means over stretches with equal numbers of steps."""
    if len(x) < 2 * parts:
        return x, y
    pairs = zip(np.array_split(x, parts), np.array_split(y, parts), strict=True)
    means = np.array([(a.mean(), b.mean()) for a, b in pairs])
    return means[:, 0], means[:, 1]


def _log10(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log10(values)


def _titled(name: str) -> str:
    return name[:1].upper() + name[1:].replace("_", " ")


def _is_wide(chapters: list[Chapter], name: str) -> bool:
    """Whether a scalar without description needs a log axis: positive, over two decades."""
    series = [c.run.scalars(name)[1] for c in chapters if name in c.run.scalar_names()]
    values = np.concatenate(series)
    finite = values[np.isfinite(values)]
    return len(finite) > 0 and bool(finite.min() > 0) and bool(finite.max() > 100 * finite.min())
