"""One record, or one grid, as of now, as plain values for the page: small, whatever its length."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steadygrad.record import Results, Run
from steadygrad.report import palette, sentence
from steadygrad.report.chapter import Chapter, Track, chapter
from steadygrad.report.curves import Panel, panels_of
from steadygrad.report.downsample import thinned
from steadygrad.report.grid_curves import curve_plot
from steadygrad.report.grid_table import PAGE_HEAD, Row, page_cells, rows
from steadygrad.report.heat import Heat
from steadygrad.report.plot import short

STRETCHES = 200
"""Stretches of a curve, of each of which at most three points are sent."""
ROWS, PIXELS = 160, 24_000
"""Training steps of a map, and points of one, that are sent at most."""
MAPS, LAST = 12, 40
"""Maps, and the latest findings and events, that are sent at most."""


def of_run(run: Run, name: str) -> dict[str, Any]:
    """Everything the page draws of one run.

    Args:
        run: The record; read once, as it stands now.
        name: What the page calls it.

    Raises:
        RecordError: The record is damaged.
    """
    told = chapter(run, name, rows=ROWS)
    panels, _ = panels_of([told])
    return {
        "kind": "run",
        "name": name,
        "title": told.title,
        "step": run.last_step(),
        "open": run.is_being_written(),
        "verdict": told.verdict,
        "sentence": sentence.verdict(told),
        "lag": told.lag,
        "threshold": told.threshold,
        "charts": [_chart(told, panel) for panel in panels],
        "left": _left(told.main),
        "maps": [_map(track) for track in told.tracks[:MAPS]],
        "gates": _gates(run),
        "curable": any(f.get("remedies") for f in told.findings),
        "findings": [_finding(f) for f in reversed(told.findings[-LAST:])],
        "events": [_event(e) for e in reversed(told.events[-LAST:])],
    }


def of_grid(path: Path, name: str) -> dict[str, Any]:
    """Everything the page draws of a grid of runs: the table so far, and the curves."""
    with Results(path) as results:
        found = rows(results.rows())
    tasks = list(dict.fromkeys(row.task for row in found))
    return {
        "kind": "grid",
        "name": name,
        "title": name,
        "tasks": [_task(task, [row for row in found if row.task == task]) for task in tasks],
    }


def _task(task: str, found: Sequence[Row]) -> dict[str, Any]:
    plot = curve_plot(found)
    return {
        "task": task,
        "head": list(PAGE_HEAD),
        "rows": [page_cells(row) for row in found],
        "unit": plot.y_name,
        "lines": [{"name": n.name, **_points(n.x, 10.0**n.y)} for n in plot.lines],
    }


def _chart(told: Chapter, panel: Panel) -> dict[str, Any]:
    names = told.run.scalar_names()
    return {
        "title": panel.title,
        "about": panel.about,
        "unit": panel.unit,
        "log": panel.is_log,
        "lines": [
            {"name": words, **_points(*told.run.thinned(name, STRETCHES))}
            for name, words in panel.names.items()
            if name in names
        ],
    }


def _left(track: Track | None) -> dict[str, Any] | None:
    """What is left of the gradient by steps back, in the layer that the verdict speaks of."""
    if track is None:
        return None
    values = track.by_lag()
    lags = np.arange(len(values), dtype=np.float64)
    return {
        "layer": track.layer,
        "share": track.is_share,
        "step": int(track.steps[-1]),
        **_points(*thinned(lags, values, 3 * STRETCHES)),
    }


def _map(track: Track) -> dict[str, Any]:
    heat = Heat(track.steps, track.grid, PIXELS)
    return {
        "layer": track.layer,
        "state": track.state,
        "steps": heat.steps.tolist(),
        "times": heat.times.tolist(),
        "low": short(heat.low),
        "high": short(heat.high),
        "cells": base64.b64encode(heat.indices.tobytes()).decode("ascii"),
    }


def _gates(run: Run) -> list[dict[str, Any]]:
    """The share of dead units of each gate over training, by layer."""
    layers: dict[str, list[dict[str, Any]]] = {}
    for quantity, layer, state in run.quantities():
        if not quantity.startswith("gate:"):
            continue
        steps, grid = run.rows(quantity, layer, state, limit=ROWS)
        share = np.ma.filled(np.ma.mean(grid, axis=1).astype(np.float64), np.nan)
        line = {"name": quantity.removeprefix("gate:"), **_points(steps, np.atleast_1d(share))}
        layers.setdefault(layer, []).append(line)
    return [{"layer": layer, "lines": lines} for layer, lines in layers.items()]


def _finding(found: Mapping[str, Any]) -> dict[str, Any]:
    text = {k: None if found.get(k) is None else str(found[k]) for k in ("fault", "layer", "gate")}
    lists = {
        k: [str(v) for v in value] if isinstance(value := found.get(k), list) else []
        for k in ("remedies", "advice")
    }
    step = found.get("step")
    return {
        **text,
        **lists,
        "step": step if isinstance(step, int) else found["recorded_at"],
        "text": str(found.get("text") or ""),
        "patch": str(found.get("patch") or ""),
    }


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    return {k: event[k] for k in ("step", "kind", "text", "time")}


def _points(x: NDArray[Any], y: NDArray[np.float64]) -> dict[str, list[Any]]:
    return {"x": [short(float(v)) for v in x], "y": [short(float(v)) for v in y]}


def colours() -> list[str]:
    """The colours of a map by index, as the page paints them."""
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in palette.palette()]
