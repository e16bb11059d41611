"""What one record has to tell, taken out of it once, with whatever is missing left empty."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steadygrad.faults import NOT_JUDGED
from steadygrad.record import Run

GRADIENT = "log10_grad"
AT_INPUT = "log10_grad_input"  # of the layer, where its inside was not measured
BY_LAG = "log10_ratio"
LOG10_THRESHOLD = -4.0  # below one ten-thousandth, a gradient counts as gone
ROWS = 500  # as many training steps of a heat map as are read


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
        """Whether the layer runs from the last time step to the first, as half of a pair does."""
        return "reverse" in self.layer

    def by_lag(self, row: int = -1) -> NDArray[np.float64]:
        """What is left after ``k`` steps back, as log10 ``(K,)``, of one training step.

        As the run has measured it; else the norm compared with that at the step where the way
        back begins, which is the same if the loss enters there alone. Where that is zero or not
        finite, nothing can be compared, and the log10 norm itself is returned.
        """
        if self.ratios is not None:
            steps, grid = self.ratios
            return grid[int(np.abs(steps - self.steps[row]).argmin())].compressed()
        values = self.grid[row].compressed()
        back = values if self.is_reverse else values[::-1]
        return back - back[0] if len(back) and math.isfinite(back[0]) else back

    @property
    def is_share(self) -> bool:
        """Whether `by_lag` is a share of something, and not a size."""
        return self.ratios is not None or math.isfinite(self.start())

    def start(self, row: int = -1) -> float:
        """log10 norm at the step where the way back begins."""
        values = self.grid[row].compressed()
        return float(values[0 if self.is_reverse else -1]) if len(values) else math.nan


@dataclass(frozen=True)
class Chapter:
    """One run as the report tells it."""

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
        """The track that the headline speaks of: where least is left after the lag needed.

        A layer at whose end no gradient enters (one half of a pair of directions, often) has no
        way back to speak of.
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
        """Whether nobody has said the lag, and it comes from the data."""
        return isinstance(self.notes.get("lag_estimate"), Mapping)

    @property
    def lag_word(self) -> str:
        """For a mark at the lag."""
        return "estimated" if self.lag_is_estimated else "needed"

    def quantity(self, name: str) -> Mapping[str, Any] | None:
        """How the record describes a quantity (`steadygrad.flow.Quantity`), if it does."""
        described = self.notes.get("quantities")
        if not isinstance(described, Mapping):
            return None
        starred = (k for k in described if k.endswith("*") and name.startswith(k[:-1]))
        found = described.get(name if name in described else next(starred, name))
        return found if isinstance(found, Mapping) else None

    @property
    def measured(self) -> int:
        """The longest way back that was measured, in steps."""
        return len(self.main.by_lag()) - 1 if self.main is not None else 0

    @property
    def at_lag(self) -> tuple[int, float] | None:
        """Lag, and log10 of what is left there: at the lag needed, or the longest measured."""
        if self.main is None or not self.main.is_share:
            return None
        ratio = self.main.by_lag()
        lag = min(self.lag if self.lag is not None else len(ratio) - 1, len(ratio) - 1)
        return (lag, float(ratio[lag])) if lag > 0 else None

    @property
    def ours(self) -> Mapping[str, Any] | None:
        """The model's own score that decides: the first one."""
        return next((s for s in self.scores if s.get("ours")), None)

    def _left(self, track: Track) -> float:
        ratio = track.by_lag()
        if not len(ratio):
            return math.inf
        at = ratio[min(self.lag if self.lag is not None else len(ratio) - 1, len(ratio) - 1)]
        return -math.inf if math.isnan(at) else float(at)


def _verdict(notes: Mapping[str, Any]) -> str:
    """As noted; what an earlier version wrote for what it had not measured is the same."""
    noted = str(notes.get("verdict") or "")
    return NOT_JUDGED if noted == "not measured yet" else noted


def chapter(run: Run, label: str, *, rows: int = ROWS) -> Chapter:
    """Take out of ``run`` what the report needs, at most so many rows of each heat map."""
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
    """Take several runs as before, what was tried, and after.

    Raises:
        ValueError: If there is no run.
    """
    if not runs:
        raise ValueError("a report needs at least one run, got none. Read a record first")
    if len(runs) == 1:
        return [chapter(runs[0], "this run")]
    if len(runs) == 2:
        return [chapter(runs[0], "before"), chapter(runs[1], "after")]
    told = [chapter(run, "") for run in runs]
    names = [", ".join(str(r.get("name", "")) for r in c.remedies) or c.title for c in told]
    names[0] = "before"
    seen = {n: names.count(n) for n in names}
    return [
        replace(each, label=f"{name} ({i + 1})" if seen[name] > 1 else name)
        for i, (each, name) in enumerate(zip(told, names, strict=True))
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
    """The limit below which a gradient has vanished, as log10; a share is converted."""
    for name, value in thresholds.items() if isinstance(thresholds, Mapping) else ():
        if "vanish" in str(name) and isinstance(value, int | float) and math.isfinite(value):
            if value < 0:
                return float(value)
            if 0 < value < 1:
                return math.log10(value)
    return LOG10_THRESHOLD
