"""From runs to figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.faults_wild.runs import HEALTHY, NOT_JUDGED, Run


@dataclass(frozen=True)
class Scores:
    """What the watch said of labelled trainings; each figure as hits and of how many.

    Attributes:
        right_first: Faults whose verdict is one of the right names.
        alarmed: Faults of which any name was told.
        precision: Alarms that were raised on faults.
        false_alarms: Healthy and odd trainings with an alarm.
        judged: Healthy and odd ones that could be judged, and were found healthy.
        comforted: Faults that were called healthy.
        unmeasured: Trainings that could not be measured, and were called healthy.
    """

    right_first: tuple[int, int]
    alarmed: tuple[int, int]
    precision: tuple[int, int]
    false_alarms: tuple[int, int]
    judged: tuple[int, int]
    comforted: tuple[int, int]
    unmeasured: tuple[int, int]


def score(runs: Sequence[Run]) -> Scores:
    """Score the runs of one part."""
    faults = [r for r in runs if r.kind == "fault"]
    sound = [r for r in runs if r.kind != "fault"]
    able = [r for r in sound if r.may_be_healthy]
    unable = [r for r in runs if not r.may_be_healthy]
    alarmed = sum(r.is_alarmed for r in faults)
    false = sum(r.is_alarmed for r in sound)
    return Scores(
        (sum(r.verdict in r.right for r in faults), len(faults)),
        (alarmed, len(faults)),
        (alarmed, alarmed + false),
        (false, len(sound)),
        (sum(r.verdict == HEALTHY for r in able), len(able)),
        (sum(r.verdict == HEALTHY for r in faults), len(faults)),
        (sum(r.verdict == HEALTHY for r in unable), len(unable)),
    )


ROWS = {
    "right_first": "faults: right name first",
    "alarmed": "faults: any alarm",
    "precision": "alarms that were raised on faults",
    "false_alarms": "healthy and odd: false alarms",
    "judged": "healthy and odd, measurable: called healthy",
    "comforted": "faults called healthy",
    "unmeasured": "not measurable, called healthy",
}


def table(runs: Sequence[Run]) -> Iterator[str]:
    """Both parts beside each other, then every answer that was wrong or none."""
    parts = [p for p in ("development", "held-back") if any(r.part == p for r in runs)]
    yield f"{'':44}" + "".join(f"{p:>22}" for p in parts)
    scores = [score([r for r in runs if r.part == p]) for p in parts]
    for name, text in ROWS.items():
        cells = [_cell(*getattr(s, name)) for s in scores]
        yield f"{text:44}" + "".join(f"{c:>22}" for c in cells)
    yield "\nconfidence of the finding named first, both parts"
    yield from reliability(runs)
    for part in parts:
        yield f"\n{part}: answers that were wrong, or none"
        yield from (_line(r) for r in runs if r.part == part and not is_right(r))


BINS = (0.0, 0.5, 0.7, 0.9, 0.99, 1.01)
"""Borders of the bins of confidence."""


def reliability(runs: Sequence[Run]) -> Iterator[str]:
    """Of the findings named first, by what they say of themselves: how many, and how many right."""
    told = [r for r in runs if r.is_alarmed and r.confidences and r.confidences[0] is not None]
    yield f"{'confidence':16}{'mean':>8}{'right':>16}"
    for low, high in pairwise(BINS):
        held = [r for r in told if low <= (r.confidences[0] or 0.0) < high]
        if held:
            mean = sum(r.confidences[0] or 0.0 for r in held) / len(held)
            right = sum(r.kind == "fault" and r.verdict in r.right for r in held)
            yield f"{f'{low:g} to {min(high, 1):g}':16}{mean:8.2f}{_cell(right, len(held)):>16}"


def is_right(run: Run) -> bool:
    """Whether the verdict is one that the label allows and that says something."""
    if run.kind == "fault":
        return run.verdict in run.right
    return run.verdict == (HEALTHY if run.may_be_healthy else NOT_JUDGED)


def _cell(hits: int, of: int) -> str:
    return f"{hits}/{of} ({hits / max(of, 1):.0%})"


def _line(run: Run) -> str:
    wanted = " or ".join(run.right) or (HEALTHY if run.may_be_healthy else NOT_JUDGED)
    why = f" ({'; '.join(run.unjudged)})" if run.unjudged and not run.is_alarmed else ""
    first, last = run.losses
    return (
        f"  {run.kind:8} {run.name}: {run.verdict}{why}; right: {wanted}; "
        f"loss {first:.3g} -> {last:.3g}"
    )
