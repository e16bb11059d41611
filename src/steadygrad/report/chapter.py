"""Read from a record everything that a report shows; whatever is missing is left empty."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steadygrad.faults import NOT_JUDGED
from steadygrad.record import Run

GRADIENT = "log10_grad"
AT_INPUT = "log10_grad_input"  # used if a layer's states were not measured
BY_LAG = "log10_ratio"
LOG10_THRESHOLD = -4.0  # log10: below 1/10,000 a gradient counts as vanished
ROWS = 500  # training steps of a heat map that are read


@dataclass(frozen=True)
class Track:
    """The gradient in one state of one layer: heat map ``(S, T)`` of log10 norms."""

    layer: str
    state: str
    steps: NDArray[np.int64]
    grid: np.ma.MaskedArray
    ratios: tuple[NDArray[np.int64], np.ma.MaskedArray] | None = None  # by lag, as measured

    @property
    def is_reverse(self) -> bool:
        """Whether the layer runs from the last time step to the first."""
        return "reverse" in self.layer

    def by_lag(self, row: int = -1) -> NDArray[np.float64]:
        """The gradient left after ``k`` steps back, log10 ``(K,)``, at one training step.

        As measured by the run; otherwise the norm relative to that at the first step of the
        backward pass, which is the same if the loss enters there alone. If that norm is zero or
        not finite, the log10 norm itself is returned.
        """
        if self.ratios is not None:
            steps, grid = self.ratios
            return grid[int(np.abs(steps - self.steps[row]).argmin())].compressed()
        values = self.grid[row].compressed()
        back = values if self.is_reverse else values[::-1]
        return back - back[0] if len(back) and math.isfinite(back[0]) else back

    @property
    def is_share(self) -> bool:
        """Whether `by_lag` returns a share, not a norm."""
        return self.ratios is not None or math.isfinite(self.start())

    def start(self, row: int = -1) -> float:
        """log10 norm at the first step of the backward pass."""
        values = self.grid[row].compressed()
        return float(values[0 if self.is_reverse else -1]) if len(values) else math.nan


@dataclass(frozen=True)
class Chapter:
    """One run, as read for the report."""

    run: Run
    label: str
    title: str
    kind: str
    verdict: str
    lag: int | None
    threshold: float
    scores: Sequence[Mapping[str, Any]]
    layers: Sequence[Mapping[str, Any]]
    remedies: Sequence[Mapping[str, Any]]
    trials: Sequence[Mapping[str, Any]]
    findings: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    not_judged: Sequence[Mapping[str, Any]]
    notes: Mapping[str, Any]
    config: Mapping[str, Any]
    tracks: Sequence[Track]

    @property
    def main(self) -> Track | None:
        """The track of the headline: the one with the least gradient left after the lag needed.

        A layer without a gradient at its last step (often one half of a bidirectional pair) is
        left out.
        """
        hidden = [t for t in self.tracks if t.state == "h"] or list(self.tracks)
        hidden = [t for t in hidden if t.ratios is not None] or hidden
        hidden = [t for t in hidden if t.is_share] or hidden
        return min(hidden, key=self._left, default=None)

    @property
    def horizon(self) -> int | None:
        """Steps back over which the gradient never falls below the threshold."""
        stated = [y["horizon"] for y in self.layers if isinstance(y.get("horizon"), int)]
        if stated:
            return min(stated)
        if self.main is None:
            return None
        ratio = self.main.by_lag()
        if not len(ratio) or np.isnan(ratio).any() or not self.main.is_share:
            return None
        below = np.flatnonzero(ratio < self.threshold)
        return int(below[0]) - 1 if len(below) else len(ratio) - 1

    @property
    def lag_is_estimated(self) -> bool:
        """Whether no lag was given, so that it was estimated from the data."""
        return isinstance(self.notes.get("lag_estimate"), Mapping)

    @property
    def lag_word(self) -> str:
        """Words for a mark at the lag."""
        return "estimated" if self.lag_is_estimated else "needed"

    def quantity(self, name: str) -> Mapping[str, Any] | None:
        """The record's description of a quantity (`steadygrad.flow.Quantity`), if any."""
        described = self.notes.get("quantities")
        if not isinstance(described, Mapping):
            return None
        patterns = (k for k in described if k.endswith("*") and name.startswith(k[:-1]))
        entry = described.get(name if name in described else next(patterns, name))
        return entry if isinstance(entry, Mapping) else None

    @property
    def measured(self) -> int:
        """The longest distance measured, in steps back."""
        return len(self.main.by_lag()) - 1 if self.main is not None else 0

    @property
    def at_lag(self) -> tuple[int, float] | None:
        """A lag and log10 of the gradient left there: the lag needed, or the longest measured."""
        if self.main is None or not self.main.is_share:
            return None
        ratio = self.main.by_lag()
        lag = min(self.lag if self.lag is not None else len(ratio) - 1, len(ratio) - 1)
        return (lag, float(ratio[lag])) if lag > 0 else None

    @property
    def ours(self) -> Mapping[str, Any] | None:
        """The model's deciding score: the first one."""
        return next((s for s in self.scores if s.get("ours")), None)

    def _left(self, track: Track) -> float:
        ratio = track.by_lag()
        if not len(ratio):
            return math.inf
        at = ratio[min(self.lag if self.lag is not None else len(ratio) - 1, len(ratio) - 1)]
        return -math.inf if math.isnan(at) else float(at)


def _verdict(notes: Mapping[str, Any]) -> str:
    """The noted verdict, with the words of earlier versions translated."""
    verdict = str(notes.get("verdict") or "")
    return NOT_JUDGED if verdict == "not measured yet" else verdict


def chapter(run: Run, label: str, *, rows: int = ROWS) -> Chapter:
    """Read what the report needs, with at most ``rows`` rows of each heat map."""
    notes = run.notes
    tracks = _tracks(run, rows)
    kind = str(notes.get("kind", "run"))
    return Chapter(
        run=run,
        label=label,
        title=str(notes.get("title") or run.path.stem),
        kind=kind,
        verdict=_verdict(notes),
        lag=_whole(notes.get("lag")),
        threshold=_threshold(notes.get("thresholds")),
        scores=_mappings(notes.get("scores")),
        layers=_mappings(notes.get("layers")),
        remedies=_mappings(notes.get("remedies")),
        trials=_mappings(notes.get("trials")),
        findings=run.findings(),
        events=run.events(),
        not_judged=_mappings(notes.get("not_judged")),
        notes=notes,
        config=run.config,
        tracks=[t for t in tracks if t.grid.size],
    )


def chapters(runs: Sequence[Run]) -> list[Chapter]:
    """Read several runs as before, the trials, and after.

    Raises:
        ValueError: If there is no run.
    """
    if not runs:
        raise ValueError("a report needs at least one run, got none. Read a record first")
    if len(runs) == 1:
        return [chapter(runs[0], "this run")]
    if len(runs) == 2:
        return [chapter(runs[0], "before"), chapter(runs[1], "after")]
    result = [chapter(run, "") for run in runs]
    names = [", ".join(str(r.get("name", "")) for r in c.remedies) or c.title for c in result]
    names[0] = "before"
    counts = {n: names.count(n) for n in names}
    return [
        replace(each, label=f"{name} ({i + 1})" if counts[name] > 1 else name)
        for i, (each, name) in enumerate(zip(result, names, strict=True))
    ]


def _tracks(run: Run, most: int) -> list[Track]:
    there = run.quantities()
    return [
        Track(
            layer,
            state,
            *run.rows(quantity, layer, state, limit=most),
            run.rows(BY_LAG, layer, limit=most)
            if state == "h" and (BY_LAG, layer, "h") in there
            else None,
        )
        for quantity, layer, state in there
        if quantity in (GRADIENT, AT_INPUT)
    ]


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []


def _threshold(thresholds: Any) -> float:
    """The threshold below which a gradient has vanished, as log10; a share is converted."""
    for name, value in thresholds.items() if isinstance(thresholds, Mapping) else ():
        if "vanish" in str(name) and isinstance(value, int | float) and math.isfinite(value):
            if value < 0:
                return float(value)
            if 0 < value < 1:
                return math.log10(value)
    return LOG10_THRESHOLD
