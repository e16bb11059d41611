"""What became of a run, told from its record: how it ended, what was found, tried and gone back on.

A rollback has held if the training did not diverge after it: until its end, or so far.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steadygrad.diagnosis.check import check
from steadygrad.plain import shown
from steadygrad.record import RecordError, Run
from steadygrad.remedies import REMEDIES
from steadygrad.train.rescue import HALVINGS, RATE

Held = Literal["yes", "so far", "no"]
Status = Literal["finished", "diverged", "interrupted", "not ended"]
ENDS: tuple[Status, ...] = ("finished", "diverged", "interrupted")


@dataclass(frozen=True)
class Return:
    """One rollback, and what came of it.

    Attributes:
        number: Counted from one.
        cause: ``"nonfinite"`` or ``"blown-up"``.
        diverged_at: Training step at which it was seen.
        why: What was seen, in one sentence.
        findings: What the watch had found by then, in sentences.
        back_to: Training step of the good state that was gone back to.
        remedy: What has been different since.
        claim: What that does.
        held: Whether the training stayed whole after it.
        until: The step at which it diverged again, or the last one that was seen.
        undo: File of the state before the remedy.
    """

    number: int
    cause: str
    diverged_at: int
    why: str
    findings: tuple[str, ...]
    back_to: int
    remedy: str
    claim: str
    held: Held
    until: int
    undo: str


@dataclass(frozen=True)
class Story:
    """A run from beginning to end.

    Attributes:
        title: Cell and data, as far as they are noted.
        status: How it ended.
        steps: The last training step recorded.
        verdict: As noted, ``"not measured"`` if it is not.
        findings: Standing at the end, worst first, in sentences.
        resolved: Found, and gone again.
        repair: What was tried before the training (``--repair``), as noted; None if nothing.
        may_return: How many rollbacks were allowed.
        rollbacks: Those that there were.
    """

    title: str
    status: Status
    steps: int
    verdict: str
    findings: tuple[str, ...]
    resolved: tuple[str, ...]
    repair: Mapping[str, Any] | None
    may_return: int
    rollbacks: tuple[Return, ...]


def story(run: Run) -> Story:
    """Tell a run, finished or not.

    Args:
        run: An open record.
    """
    run.check_kinds()
    notes, events, checked = run.notes, run.events(), check(run)
    ends = [e for e in events if e["kind"] in (*ENDS, "resumed", "rollback")]
    last = ends[-1]["kind"] if ends else ""
    status: Status = last if last in ENDS else "not ended"
    return Story(
        str(notes.get("title", "")),
        status,
        checked.steps,
        checked.verdict,
        tuple(map(_sentence, checked.findings + checked.others)),
        tuple(map(_sentence, checked.resolved)),
        notes.get("repair"),
        _allowed(run),
        _returns(notes.get("rollbacks") or [], events, status, checked.steps),
    )


def _allowed(run: Run) -> int:
    allowed = run.config.get("rollbacks", 0)
    if type(allowed) is not int:
        raise RecordError(f"{run.path}: the record is damaged: rollbacks is {shown(allowed)}")
    return allowed


def _sentence(finding: Mapping[str, Any]) -> str:
    return f"{finding['fault']}: {finding['text']}"


def _returns(
    rescues: Sequence[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    status: Status,
    steps: int,
) -> tuple[Return, ...]:
    found = {
        e["data"]["number"]: tuple(map(_sentence, e["data"].get("findings", ())))
        for e in events
        if e["kind"] == "rollback"
    }
    end = [e["step"] for e in events if e["kind"] in ("nonfinite", "blown-up")]
    told: list[Return] = []
    for place, rescue in enumerate(rescues):
        if place + 1 < len(rescues):
            held, until = "no", int(rescues[place + 1]["diverged_at"])
        elif status == "diverged":
            held, until = "no", int(end[-1]) if end else steps
        else:
            held, until = "yes" if status == "finished" else "so far", steps
        told.append(
            Return(
                rescue["number"],
                rescue["cause"],
                rescue["diverged_at"],
                rescue["why"],
                found.get(rescue["number"], ()),
                rescue["back_to"],
                rescue["remedy"],
                _claim(rescue["remedy"]),
                held,
                until,
                rescue["undo"],
            )
        )
    return tuple(told)


def _claim(remedy: str) -> str:
    if remedy == RATE:
        return f"Every step is 1/{2**HALVINGS} as long"
    return REMEDIES[remedy].claim if remedy in REMEDIES else ""
