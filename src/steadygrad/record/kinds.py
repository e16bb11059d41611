"""Types of the parts of a record, against which everything that is read back is checked.

A part may hold more fields than are named here; those named must have their type if present.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from steadygrad.plain import Misfit, fitted, shown, type_hints
from steadygrad.record.errors import RecordError

Number = float | None
Word = str | None
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class FindingBody:
    """A finding of a diagnosis."""

    fault: str
    text: str
    layer: Word = None
    gate: Word = None
    lag: int | None = None
    step: int | None = None
    evidence: Facts | None = None
    remedies: tuple[str, ...] | None = None
    confidence: Number = None
    advice: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Resolved:
    """The data of an event ``resolved``."""

    fault: Word = None
    layer: Word = None
    gate: Word = None


@dataclass(frozen=True)
class RolledBack:
    """The data of an event ``rollback``."""

    number: int
    findings: tuple[Facts, ...] = ()


@dataclass(frozen=True)
class ScoreBody:
    """An entry of the note ``scores``."""

    name: Word = None
    value: Number = None
    unit: Word = None
    better: Word = None
    ours: bool | None = None


@dataclass(frozen=True)
class LayerBody:
    """An entry of the note ``layers``."""

    name: Word = None
    cell: Word = None
    hidden: int | None = None
    horizon: int | None = None
    max_lag: int | None = None
    slope: Number = None
    time_steps: int | None = None
    gates: Facts | None = None


@dataclass(frozen=True)
class RemedyBody:
    """An entry of the note ``remedies``."""

    name: Word = None
    options: Facts | None = None
    claim: Word = None
    changed: Word = None


@dataclass(frozen=True)
class TrialBody:
    """An entry of the note ``trials``."""

    remedy: Word = None
    options: Facts | None = None
    score: Number = None
    score_unit: Word = None
    log10_ratio_before: Number = None
    log10_ratio_after: Number = None
    kept: bool | None = None
    seconds: Number = None
    verdict: Word = None
    changed: Word = None


@dataclass(frozen=True)
class GapBody:
    """An entry of the note ``not_judged``."""

    what: Word = None
    why: Word = None
    remedy: Word = None
    text: Word = None


@dataclass(frozen=True)
class RollbackBody:
    """An entry of the note ``rollbacks``."""

    number: int
    cause: str
    diverged_at: int
    back_to: int
    remedy: str
    why: str
    undo: str


@dataclass(frozen=True)
class ChoiceBody:
    """The remedy chosen among those tried before a training."""

    kept: Word
    forks: tuple[Facts, ...]
    why: str


@dataclass(frozen=True)
class RepairBody:
    """The note ``repair``."""

    plan: tuple[str, ...]
    verdict: Word = None
    findings: tuple[Facts, ...] = ()
    choice: Facts | None = None


@dataclass(frozen=True)
class GridTrial:
    """The options of a run in a table of results."""

    task: str
    cell: str
    remedies: tuple[str, ...]
    seed: int = 0


@dataclass(frozen=True)
class GridResult:
    """The result of a run in a table of results."""

    status: str
    figures: Mapping[str, float] | None = None
    updates: int | None = None
    solved_at: int | None = None
    curve: tuple[tuple[int, float], ...] | None = None
    gradient: Mapping[str, Facts | None] | None = None
    parameters: int | None = None
    unit: Word = None
    better: Word = None
    solved_if: Number = None
    without_memory: Number = None
    required_lag: int | None = None
    seconds: Number = None
    cpu_seconds: Number = None
    text: Word = None


@dataclass(frozen=True)
class ReachBody:
    """How far the gradient reached in a run of a grid."""

    horizon: Number = None


LISTS: Mapping[str, type] = {
    "scores": ScoreBody,
    "layers": LayerBody,
    "remedies": RemedyBody,
    "trials": TrialBody,
    "rollbacks": RollbackBody,
    "not_judged": GapBody,
}
"""Notes that are lists, and the type of their entries."""

NOTES: Mapping[str, Any] = {
    "title": Word,
    "kind": Word,
    "verdict": Word,
    "optimizer": Word,
    "lag": int | None,
    "lag_estimate": Facts | None,
    "thresholds": Mapping[str, float] | None,
    "repair": Facts | None,
}
"""Other notes that are read, and their types."""

EVENTS: Mapping[str, type] = {"resolved": Resolved, "rollback": RolledBack}
"""Kinds of events whose data are read, and their types."""


def check_note(key: str, value: object) -> None:
    """Check a note, if it is one of those that are read.

    Raises:
        Misfit: It is of another type.
    """
    if key in LISTS:
        for number, item in enumerate(fitted(tuple[Any, ...] | None, value, key) or ()):
            check(LISTS[key], item, f"{key}[{number}]")
    elif key in NOTES:
        fitted(NOTES[key], value, key)
    if key == "repair" and value is not None:
        check(RepairBody, value, key)
        choice = fitted(Facts, value, key).get("choice")
        if choice is not None:
            check(ChoiceBody, choice, f"{key}.choice")


def check_event(kind: object, data: object) -> None:
    """Check the data of an event.

    Raises:
        Misfit: They are of another type.
    """
    fitted(Facts, data, f"event {shown(kind)}")
    if isinstance(kind, str) and kind in EVENTS:
        check(EVENTS[kind], data, f"event {kind}")
        for finding in fitted(Facts, data, kind).get("findings", ()):
            check(FindingBody, finding, f"event {kind}")


def check_result(trial: object, result: object) -> None:
    """Check a row of a table of results.

    Raises:
        RecordError: It is of another type.
    """
    try:
        check(GridTrial, trial, "trial")
        check(GridResult, result, "result")
        for when, reach in (fitted(Facts, result, "result").get("gradient") or {}).items():
            if reach is not None:
                check(ReachBody, reach, f"result.gradient.{when}")
    except Misfit as error:
        raise damaged("the table of results", error) from None


def check(kind: type, value: object, where: str) -> None:
    """Check that ``value`` has the fields of a dataclass, of their types; it may have more.

    Raises:
        Misfit: A field is missing or of another type.
    """
    found = fitted(Facts, value, where)
    hints = type_hints(kind)
    for field in fields(kind):
        if field.name in found:
            fitted(hints[field.name], found[field.name], f"{where}.{field.name}")
        elif field.default is MISSING:
            raise Misfit(f"{where}: {field.name} is missing")


def damaged(path: object, error: object) -> RecordError:
    """The error to raise for a damaged record."""
    return RecordError(f"{path}: the record is damaged: {error}. Restore it or run again")
