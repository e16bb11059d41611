"""Draw the trained model's forecasts beside the truth, with intervals, or samples of its text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steadygrad.report import figures
from steadygrad.report.chapter import Chapter
from steadygrad.report.markup import Html, el, join
from steadygrad.report.plot import Band, Line, Plot, Rule
from steadygrad.report.sections import Section, section

FAR = 0.05  # difference of coverage and level from which a sentence states it
Floats = NDArray[np.float64]


def shown(chapter: Chapter) -> Section | None:
    """Draw forecasts, their errors and the rows to come, or show samples of text; None if neither.

    Args:
        chapter: The run, whose note ``shown`` is read.
    """
    note = chapter.notes.get("shown")
    if not isinstance(note, Mapping):
        return None
    if note.get("kind") == "forecast":
        return _forecast(note, chapter)
    if note.get("kind") == "text":
        return _text(note)
    return None


def _forecast(note: Mapping[str, Any], chapter: Chapter) -> Section:
    target, share = str(note.get("target", "")), _percent(note.get("level"))
    windows = [
        _window(w, target, share, f"{str(w.get('name', '')).capitalize()} forecast", True)
        for w in _mappings(note.get("windows"))
    ]
    ahead = [
        _window(w, target, share, _named("After the end of the file", w), False)
        for w in _mappings(note.get("next"))
    ]
    margin = chapter.notes.get("margin")
    told = f"{margin[:1].upper()}{margin[1:]}" if isinstance(margin, str) else ""
    return section(
        "What does it forecast?",
        el("p", f"{told}.") if told else None,
        el("p", _coverage(note, share)),
        el("div", *ahead, class_="pair" if len(ahead) > 1 else None),
        el("h3", "In the test part: the worst, the median and the best window")
        if windows
        else None,
        el("div", *windows, class_="pair"),
        _errors(note.get("residuals"), target),
    )


def _coverage(note: Mapping[str, Any], share: str) -> str:
    windows = note.get("calibrated on")
    coverage = note.get("coverage")
    measured = coverage.get(f"{note.get('level'):g}") if isinstance(coverage, Mapping) else None
    if not isinstance(windows, int) or not isinstance(measured, int | float):
        return "There are too few windows in the validation part to draw intervals from."
    return (
        f"An interval is as wide as the errors on {figures.plain(windows)} windows of the"
        f" validation part ask for, so that it should hold {share} of the truth. In the test part"
        f" it held {100 * measured:.1f} %{_far(measured, note.get('level'))}."
    )


def _far(measured: float, level: object) -> str:
    """State in words that the coverage is far from the level."""
    off = measured - level if isinstance(level, int | float) else 0.0
    if abs(off) <= FAR:
        return ""
    way = "narrow" if off < 0 else "wide"
    return f": the series has changed since, so the intervals are too {way}"


def _named(title: str, ahead: Mapping[str, Any]) -> str:
    return f"{title}: {ahead['series']}" if ahead.get("series") else title


def _window(ahead: Mapping[str, Any], target: str, share: str, title: str, is_scored: bool) -> Html:
    """Chart the past, the forecast with its interval, and the truth if known."""
    past, values = _numbers(ahead.get("past")), _numbers(ahead.get("values"))
    low, high = _numbers(ahead.get("low")), _numbers(ahead.get("high"))
    truth = _numbers(ahead.get("truth"))
    back, on = np.arange(1 - len(past), 1, dtype=np.float64), np.arange(1.0, len(values) + 1)
    lines = [Line("past", back, past, "past")] if len(past) else []
    if len(truth):
        lines.append(Line("truth", *_from_now(past, on[: len(truth)], truth), "truth"))
    lines.append(Line("forecast", *_from_now(past, on, values), "main"))
    inside = np.isfinite(low) & np.isfinite(high)
    bands = []
    if len(low) == len(on) and inside.all():
        bands = [Band(f"interval of {share}", on, low, high)]
    told = []
    if ahead.get("after_date"):
        told.append(f"after {ahead['after_date']}".replace("T", " "))
    if is_scored and isinstance(ahead.get("rmse"), int | float):
        told.append(f"RMSE {figures.plain(float(ahead['rmse']))}")
    dates = ahead.get("dates")
    if not is_scored and isinstance(dates, list) and dates:
        told.append(f"{dates[0]} to {dates[-1]}".replace("T", " "))
    return Plot(
        title=title,
        about="; ".join(told),
        lines=lines,
        x_name="rows ahead",
        y_name=target,
        rules=[Rule(0.5, "now", False)] if len(past) else [],
        bands=bands,
    ).html()


def _from_now(past: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Start a line at the last known value."""
    if not len(past):
        return x, y
    return np.concatenate([[0.0], x]), np.concatenate([past[-1:], y])


def _errors(residuals: object, target: str) -> Html | None:
    """Chart the distribution of the errors and their growth with the rows ahead."""
    if not isinstance(residuals, Mapping) or not residuals:
        return None
    edges, counts = _numbers(residuals.get("edges")), _numbers(residuals.get("counts"))
    by_row = _numbers(residuals.get("rmse by row ahead"))
    mean, deviation = residuals.get("mean"), residuals.get("deviation")
    charts = []
    if len(edges) == len(counts) + 1 and counts.sum() > 0:
        middle = (edges[:-1] + edges[1:]) / 2
        told = ""
        if isinstance(mean, int | float) and isinstance(deviation, int | float):
            told = (
                f"Forecast minus truth: mean {figures.plain(float(mean))}, standard deviation"
                f" {figures.plain(float(deviation))}. Errors beyond the range are counted at its "
                "ends."
            )
        charts.append(
            Plot(
                title="Errors in the test part",
                about=told,
                lines=[Line("share", middle, counts / counts.sum(), "main")],
                x_name=f"error, in the unit of {target}",
                y_name="share of the errors",
                floor=0.0,
                rules=[Rule(0.0, "none", False)],
            ).html()
        )
    if len(by_row) > 1:
        charts.append(
            Plot(
                title="Error by distance",
                about="How the error grows with the distance.",
                lines=[Line("RMSE", np.arange(1.0, len(by_row) + 1), by_row, "main")],
                x_name="rows ahead",
                y_name="RMSE",
                floor=0.0,
            ).html()
        )
    return join([el("h3", "How large are its errors?"), el("div", *charts, class_="pair")])


def _text(note: Mapping[str, Any]) -> Section:
    blocks = [
        join(
            [
                el("h3", f"Temperature {figures.plain(s.get('temperature'))}", _word(s)),
                el("div", str(s.get("text", "")), class_="sample"),
            ]
        )
        for s in _mappings(note.get("samples"))
    ]
    return section(
        "What does it write?",
        el(
            "p",
            "Each symbol is drawn from the probabilities that the model predicts after all before "
            "it. A low temperature favours the likeliest symbols, 1 uses the probabilities as "
            "learnt.",
        ),
        *blocks,
    )


def _word(sample: Mapping[str, Any]) -> str:
    return ": always the likeliest symbol" if sample.get("temperature") == 0 else ""


def _percent(level: object) -> str:
    return f"{100 * level:g} %" if isinstance(level, int | float) else "?"


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, Sequence) else []


def _numbers(value: object) -> Floats:
    """A list of numbers, missing ones as NaN."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return np.zeros(0)
    return np.array([v if isinstance(v, int | float) else math.nan for v in value], np.float64)
