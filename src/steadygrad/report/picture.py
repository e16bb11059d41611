"""Figures of the gradient through time for papers and READMEs, SVG or PDF on white.

For one run, the gradient left by lag beside its map over training; for several, beside their
losses, with runs that differ only in their seed as one curve with a band.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from steadygrad.record import Run
from steadygrad.report import palette, sentence
from steadygrad.report.chapter import Chapter, Track, chapters
from steadygrad.report.gradient_by_step import curve
from steadygrad.report.heat import Heat, ordinal
from steadygrad.report.line_styles import STYLES, drawing_rules
from steadygrad.report.markup import Html, el, join
from steadygrad.report.median_band import spread_line
from steadygrad.report.page import save
from steadygrad.report.plot import Plot, band, path, reading

_WIDE, _HIGH, _TOP, _LEFT, _GAP = 400, 220, 92, 62, 96
# Runs that differ in these options alone are seeds of one training.
_NOT_OPTIONS = frozenset({"seed", "out", "resume", "overwrite"})
_LOSSES = ("loss", "train_loss")

Told = tuple[Chapter, Track]


def picture(runs: Run | Sequence[Run], file: str | Path) -> Path:
    """Write one figure of a run, or of several, as SVG or PDF by the ending of ``file``.

    For one run: its map over training, and the gradient left by lag at its last measurement, with a
    band over the training. For several: their losses, and the gradient left by lag; runs that
    differ only in the seed are one curve, their median, with a band from lowest to highest.

    Raises:
        ValueError: No run; one has no gradient by time step; ``file`` is a folder, or neither SVG
            nor PDF.
        OSError: The file cannot be written.
    """
    return save(drawn(chapters([runs] if isinstance(runs, Run) else list(runs))), file)


def drawn(told: Sequence[Chapter]) -> Html:
    """Draw the figure of some runs as SVG.

    Raises:
        ValueError: One of them has no gradient by time step.
    """
    tracks = []
    for each in told:
        if each.main is None:
            raise ValueError(
                f"{each.run.path}: no gradient by time step was recorded, so there is nothing to "
                "draw. Record rows of log10_grad, or write the HTML report"
            )
        tracks.append((each, each.main))
    return _one(*tracks[0]) if len(tracks) == 1 else _several(tracks)


def _one(told: Chapter, track: Track) -> Html:
    plot = curve([(told, track)])
    lines = list(plot.lines)
    if len(track.steps) > 1:
        every = [_by_lag(track, row) for row in range(len(track.steps))]
        low, high = spread_line("", every, "main", holds=False).band or ([], [])
        lags = len(lines[-1].x)  # an earlier measurement may reach further back
        lines[-1] = replace(lines[-1], band=(low[:lags], high[:lags]))
    title = sentence.verdict(told)
    left = _map(Heat(track.steps, track.grid, 40_000), _LEFT)
    return _sheet(title, left, _chart(replace(plot, lines=lines), _RIGHT), 1)


def _several(told: Sequence[Told]) -> Html:
    groups = _groups(told)
    others = [s for s in STYLES if s != "main"]
    styles = [*(others[i % len(others)] for i in range(len(groups) - 1)), "main"]  # last: repaired
    lefts, losses = [], []
    for (name, members), style in zip(groups.items(), styles, strict=True):
        lefts.append(spread_line(name, [_by_lag(t, -1) for _, t in members], style, holds=False))
        found = [c for chapter, _ in members if (c := _loss(chapter)) is not None]
        if found:
            losses.append(spread_line(name, found, style, holds=False))
    plot = replace(curve([(c, t) for c, t in told]), lines=lefts)
    loss = Plot("Loss", "", losses, "training step", "loss", is_log=True)
    left = _chart(loss, _LEFT, keyed=False) if losses else Html("")
    title = f"{len(told)} runs" + (
        "; bands from lowest to highest" if len(told) > len(groups) else ""
    )
    return _sheet(title, left, _chart(plot, _RIGHT), math.ceil(len(groups) / 2))


def _groups(told: Sequence[Told]) -> dict[str, list[Told]]:
    """Runs by name; those that differ only in their seed share one."""
    groups: dict[str, list[Told]] = {}
    for each in told:
        options = {k: v for k, v in each[0].config.items() if k not in _NOT_OPTIONS}
        groups.setdefault(repr((options, each[0].remedies)), []).append(each)
    names = [_name(members[0][0], len(told) == len(groups)) for members in groups.values()]
    names = [f"{n} ({i + 1})" if names.count(n) > 1 else n for i, n in enumerate(names)]
    return dict(zip(names, groups.values(), strict=True))


def _name(told: Chapter, is_alone: bool) -> str:
    if is_alone:
        return told.label
    remedies = " + ".join(str(r.get("name", "")) for r in told.remedies)
    return f"{told.title} + {remedies}" if remedies else told.title


def _by_lag(track: Track, row: int) -> tuple[Any, Any]:
    values = track.by_lag(row)
    return np.arange(len(values), dtype=np.float64), values


def _loss(told: Chapter) -> tuple[Any, Any] | None:
    """Training step and log10 of the loss, averaged over fortieths of the training."""
    name = next((n for n in _LOSSES if n in told.run.scalar_names()), None)
    if name is None:
        return None
    steps, values = told.run.scalars(name)
    if (values <= 0).any():
        return None
    parts = np.array_split(np.arange(len(steps)), min(40, len(steps)))
    x = np.array([steps[part].mean().round() for part in parts])
    return x, np.log10([values[part].mean() for part in parts])


def _sheet(title: str, left: Html, right: Html, key_rows: int) -> Html:
    width, height = _LEFT + 2 * _WIDE + _GAP + 24, _TOP + _HIGH + 62 + 18 * max(0, key_rows - 1)
    return el(
        "svg",
        el("style", Html(drawing_rules())),
        el("rect", width=width, height=height, fill="#fff"),
        el("text", title, x=20, y=36, class_="h"),
        left,
        right,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        aria_label=title,
    )


_RIGHT = _LEFT + _WIDE + _GAP


def _map(heat: Heat, left: int) -> Html:
    image = el(
        "image",
        href=heat.image(),
        x=left,
        y=_TOP,
        width=_WIDE,
        height=_HIGH,
        preserveAspectRatio="none",
        style="image-rendering:pixelated",
    )
    stops = palette.palette()[: palette.LEVELS : 20]
    ramp = [
        el("rect", x=left + 76 + 10 * i, y=_TOP + _HIGH + 31, width=11, height=9, fill=f"rgb{c}")
        for i, c in enumerate(stops)
    ]
    return join(
        [
            _text("Gradient by time step, over training", left, _TOP - 11, "t"),
            el("g", *ramp),
            _text(reading(heat.low, True), left + 70, _TOP + _HIGH + 40, "e"),
            _text(reading(heat.high, True), left + 202, _TOP + _HIGH + 40, ""),
            image,
            *_ticks_y(ordinal(heat.times), left),
            *_ticks_x(ordinal(heat.steps), left),
            _text("training step", left + _WIDE, _TOP + _HIGH + 40, "e"),
        ]
    )


def _chart(plot: Plot, left: int, *, keyed: bool = True) -> Html:
    x, y = plot.axes()
    rules = []
    for rule in plot.rules:
        if rule.across:
            at = _TOP + (1 - y.at(rule.at)) * _HIGH
            rules.append(el("path", d=f"M{left} {at:.1f}h{_WIDE}", class_="rule"))
            rules.append(_text(rule.text, left + 6, at + 15, ""))
        elif 0 <= x.at(rule.at) <= 1:
            at = left + x.at(rule.at) * _WIDE
            rules.append(el("path", d=f"M{at:.1f} {_TOP}v{_HIGH}", class_="rule"))
            side, shift = ("e", -5) if x.at(rule.at) > 0.5 else ("", 5)
            rules.append(_text(rule.text, at + shift, _TOP + 14, side))
    lines = [band(n, x, y) for n in plot.lines]
    lines += [el("path", d=path(n, x, y), class_=f"line {n.style}") for n in plot.lines]
    fitted = f"translate({left} {_TOP}) scale({_WIDE / 1000} {_HIGH / 1000})"
    names = [(n.name.split(" (")[0], n.style) for n in plot.lines] if keyed else []
    ticks = [tick for tick in x.ticks() if "." not in tick[1]]
    return join(
        [
            _text(plot.title, left, _TOP - 11, "t"),
            *_ticks_y(y.ticks(), left, grid=True),
            *_ticks_x(ticks, left),
            *rules,
            el("g", *lines, transform=fitted),
            *(
                _key(name, style, left + 160 * (i % 2), 18 * (i // 2))
                for i, (name, style) in enumerate(names)
            ),
            _text(plot.x_name.split(" (")[0], left + _WIDE, _TOP + _HIGH + 40, "e"),
        ]
    )


def _ticks_y(ticks: list[tuple[float, str]], left: int, *, grid: bool = False) -> list[Html]:
    out = []
    for place, text in ticks:
        at = _TOP + (1 - place) * _HIGH
        if grid:
            out.append(el("path", d=f"M{left} {at:.1f}h{_WIDE}", class_="grid"))
        out.append(_text(text, left - 8, at + 4, "e"))
    return out


def _ticks_x(ticks: list[tuple[float, str]], left: int) -> list[Html]:
    return [_text(text, left + p * _WIDE, _TOP + _HIGH + 20, "m") for p, text in ticks]


def _key(name: str, style: str, left: float, down: float) -> Html:
    at = _TOP + _HIGH + 40 + down
    stroke = el("path", d=f"M{left} {at - 4}h24", class_=f"line {style}")
    return join([stroke, _text(name, left + 30, at, "")])


def _text(text: str, x: float, y: float, style: str) -> Html:
    return el("text", text, x=f"{x:.1f}", y=f"{y:.1f}", class_=style or None)
