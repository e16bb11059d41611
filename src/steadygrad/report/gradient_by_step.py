"""The gradient by distance back through time, and its heat map over training."""

import math

import numpy as np

from steadygrad.report import figures
from steadygrad.report.chapter import Chapter, Track
from steadygrad.report.heat import Heat, limits_of
from steadygrad.report.markup import Html, el, join
from steadygrad.report.plot import Line, Plot, Rule
from steadygrad.report.sections import Section, link, section

PIXELS = 270_000  # total over all maps of a page, to bound its size
MAPS = 12
BETWEEN = 2  # curves of the first layer between those of the first and last training step


def gradient_by_step(chapters: list[Chapter]) -> Section:
    """Draw curves and heat maps of the layer of the headline, then of the others."""
    measured = [c for c in chapters if c.main is not None]
    if not measured:
        why = "No gradient was recorded by time step, so there is nothing to draw here."
        return section("The gradient, back through time", el("p", why, class_="quiet"))
    keys = _keys(measured)
    maps = [(c, t) for key in keys for c in measured if (t := _track(c, key)) is not None]
    pixels = PIXELS // max(1, min(len(maps), MAPS))
    figures = [
        _layer(measured, key, pixels, BETWEEN if key == keys[0] else 0) for key in _drawn(measured)
    ]
    rest = join(figures[1:])
    more = len(keys) - len(figures)
    left_out = el("p", f"{more} more are in the record.", class_="quiet") if more > 0 else None
    others = el("details", el("summary", _others(keys[1:])), rest, left_out, class_="more")
    return section(
        "The gradient, back through time",
        el("p", _intro(measured)),
        figures[0],
        others if len(keys) > 1 else None,
    )


Key = tuple[str, str]  # layer, state


def _keys(chapters: list[Chapter]) -> list[Key]:
    """Layers and states, the worst of the last run first, then hidden states, then others."""
    everything = dict.fromkeys((t.layer, t.state) for c in chapters for t in c.tracks)
    main = chapters[-1].main
    first = (main.layer, main.state) if main else None
    return sorted(everything, key=lambda k: (k != first, k[1] != "h"))


def _drawn(chapters: list[Chapter]) -> list[Key]:
    """The keys that are drawn; limited, so that a page stays below a megabyte."""
    return _keys(chapters)[: max(1, MAPS // len(chapters))]


def layer_anchors(chapters: list[Chapter]) -> dict[str, str]:
    """The anchor of the first figure of each layer that is drawn, by the layer's name."""
    measured = [c for c in chapters if c.main is not None]
    figures = [layer for layer, _ in _drawn(measured)] if measured else []
    return {layer: f"layer-{figures.index(layer) + 1}" for layer in figures}


def _track(chapter: Chapter, key: Key) -> Track | None:
    tracks = (t for t in chapter.tracks if (t.layer, t.state) == key)
    return next(tracks, None)


def _intro(chapters: list[Chapter]) -> str:
    lag = chapters[-1].lag
    need = f" This task needs it to get {lag} steps back." if lag else ""
    if lag and chapters[-1].lag_is_estimated:
        need = f" By an estimate from the data it has to get {lag} steps back."
    return (
        "Training sends a signal, the gradient, from the answer back through every time step. "
        "Where it has faded, nothing can be learned from what happened there." + need
    )


def _layer(chapters: list[Chapter], key: Key, pixels: int, between: int) -> Html:
    tracks = [(c, t) for c in chapters if (t := _track(c, key)) is not None]
    shared = limits_of(*(t.grid for _, t in tracks))
    maps = [
        _by_time(c, t)
        if len(t.steps) == 1
        else Heat(t.steps, t.grid, pixels, shared).html(
            f"{c.label.capitalize()}: over training" if len(tracks) > 1 else "Over training",
            "A column is one measured training step, from the last time step down to the first.",
        )
        for c, t in tracks
    ]
    where = {"h": "", "x": ", at its input"}.get(key[1], f", state {key[1]}")
    name = f"Layer {key[0]}{where}"
    anchor = f"layer-{_drawn(chapters).index(key) + 1}"
    return join(
        [
            el("h3", name, link(anchor, name), id=anchor),
            curve(tracks, between).html(),
            el("div", *maps, class_="pair" if len(maps) > 1 else None),
        ]
    )


def _by_time(chapter: Chapter, track: Track) -> Html:
    """Draw the norms by time step, for a single training step."""
    values = np.ma.filled(track.grid[0], np.nan)
    present = ~np.ma.getmaskarray(track.grid[0])
    times = np.arange(len(values), dtype=np.float64)
    return Plot(
        title="By time step",
        about="Size of the gradient itself, over the whole batch.",
        lines=[Line(chapter.label, times[present], values[present], "main")],
        x_name="time step",
        y_name="size of the gradient",
        is_log=True,
        powers=True,
    ).html()


def curve(tracks: list[tuple[Chapter, Track]], between: int = 0) -> Plot:
    """Chart the gradient left by distance: one line per run, or several training steps of one run.

    Args:
        tracks: The track of each run.
        between: For a single run: training steps drawn between the first and the last.
    """
    comparable = all(t.is_share for _, t in tracks)
    lines = _lines(tracks, between)
    last = tracks[-1][0]
    rules = []
    if comparable:
        rules.append(Rule(last.threshold, f"gone: {figures.threshold(last.threshold)}", True))
    if last.lag:
        rules.append(Rule(float(last.lag), f"{last.lag_word}: {last.lag} steps", False))
    many = len(tracks) > 1
    starts = ", ".join((f"{c.label} " if many else "") + _norm(t.start()) for c, t in tracks)
    return Plot(
        title="How much is left",
        about=f"Share of the gradient\u2019s size at the start of the backward pass ({starts})."
        if comparable
        else "Size of the gradient; at the start of the backward pass it is zero or not finite.",
        lines=lines,
        x_name="steps back (the answer is at the right)",
        y_name="share of the gradient left" if comparable else "size of the gradient",
        is_log=True,
        powers=True,
        backwards=True,
        rules=rules,
    )


def _lines(tracks: list[tuple[Chapter, Track]], between: int) -> list[Line]:
    """One line per run; for a single run its first and last training step, and some between."""
    styles = ["before", *("second", "third", "fourth") * len(tracks)]
    styles[len(tracks) - 1 :] = ["main"]
    if len(tracks) > 1:
        return [_line(c.label, t, -1, s) for (c, t), s in zip(tracks, styles, strict=True)]
    ((_, track),) = tracks
    names = [f"training step {figures.plain(int(s))}" for s in track.steps]
    last = len(names) - 1
    rows = sorted({round(k * last / (between + 1)) for k in range(between + 1)} - {last})
    earlier = [
        _line(names[row], track, row, style)
        for row, style in zip(rows, ("before", "second", "third"), strict=False)
    ]
    return [*earlier, _line(f"{names[-1]} (last measured)", track, -1, "main")]


def _line(name: str, track: Track, row: int, style: str) -> Line:
    ratio = track.by_lag(row)
    return Line(name, np.arange(len(ratio), dtype=np.float64), ratio, style)


def _norm(log10_norm: float) -> str:
    if not math.isfinite(log10_norm):
        return figures.share(log10_norm)
    return figures.plain(10**log10_norm) if abs(log10_norm) < 300 else figures.power(log10_norm)


def _others(keys: list[Key]) -> str:
    names = [f"{layer}.{state}" for layer, state in keys]
    shown = ", ".join(names[:4]) + (", \u2026" if len(names) > 4 else "")
    return f"Other layers and states ({len(names)}): {shown}"
