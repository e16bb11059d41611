"""What became of a run, told from its record: how it ended, what was found, tried and gone back on.

A rollback has held if the training did not diverge after it, and ended with a finite validation
loss: until its end, or so far.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

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
        verdict: As noted, ``"not judged"`` if it is not.
        findings: Standing at the end, worst first, in sentences.
        resolved: Found, and gone again.
        patches: For the standing findings, worst first, the lines to paste, each once.
        repair: What was tried before the training (``--repair``), as noted; None if nothing.
        may_return: How many rollbacks were allowed.
        rollbacks: Those that there were.
        validation: The losses on the validation data; None if there is no such record.
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
    validation: "Validation | None" = None
    patches: tuple[str, ...] = ()

    @property
    def has_failed(self) -> bool:
        """Whether the run diverged, or ended without a finite validation loss."""
        lost = self.validation is not None and not math.isfinite(self.validation.end)
        return self.status == "diverged" or (self.status == "finished" and lost)


@dataclass(frozen=True)
class Validation:
    """The validation loss over a run.

    Attributes:
        start: Of the network before its first step, or where the record begins.
        end: The last one recorded.
        best: The lowest finite one; NaN if there is none.
        best_step: Training step of that.
        lost_since: Training step since which no loss was finite; None if the last one is.
    """

    start: float
    end: float
    best: float
    best_step: int
    lost_since: int | None

    @property
    def text(self) -> str:
        """In one sentence."""
        best = f"the lowest was {self.best:.4g}, at step {self.best_step:,}"
        if math.isnan(self.best):
            best = "none was ever finite"
        if self.lost_since is not None:
            return f"Not finite from step {self.lost_since:,} to the end; {best}."
        text = f"From {self.start:.4g} at the start to {self.end:.4g} at the end; {best}."
        return text + ("" if self.end < self.start else " It ended no better than it began.")


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
    validation = _validation(run)
    return Story(
        str(notes.get("title", "")),
        status,
        checked.steps,
        checked.verdict,
        tuple(map(_sentence, checked.findings + checked.others)),
        tuple(map(_sentence, checked.resolved)),
        notes.get("repair"),
        _allowed(run),
        _returns(notes.get("rollbacks") or [], events, status, checked.steps, validation),
        validation,
        _patches(run, checked.findings + checked.others),
    )


def _patches(run: Run, findings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What to paste: into the command, if the training is this library's own."""
    chosen = run.config.get("remedies")
    if isinstance(chosen, list):
        firsts = [f["remedies"][0] for f in findings if f.get("remedies")]
        return tuple(f"--remedies {' '.join(map(str, (*chosen, r)))}" for r in firsts)
    told = [f.get("patch") for f in findings]
    return tuple(dict.fromkeys(p for p in told if isinstance(p, str) and p))


def _validation(run: Run) -> Validation | None:
    try:
        steps, losses = run.scalars("val_loss")
    except RecordError:  # such as that of a watch
        return None
    finite = np.flatnonzero(np.isfinite(losses))
    best = int(finite[losses[finite].argmin()]) if len(finite) else -1
    last = int(finite[-1]) if len(finite) else -1
    is_lost = last < len(losses) - 1
    return Validation(
        float(losses[0]),
        float(losses[-1]),
        float(losses[best]) if len(finite) else math.nan,
        int(steps[best]) if len(finite) else 0,
        int(steps[last + 1]) if is_lost else None,
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
    validation: Validation | None,
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
        elif validation is not None and validation.lost_since is not None:
            held, until = "no", validation.lost_since
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
