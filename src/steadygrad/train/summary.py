"""Summarise a run from its record: how it ended, findings, repairs and rollbacks.

A rollback held if the training did not diverge after it, and its validation loss is finite at the
end (or so far).
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
class RollbackResult:
    """One rollback and its result.

    Attributes:
        number: Counted from one.
        cause: ``"nonfinite"`` or ``"blown-up"``.
        diverged_at: Training step of the divergence.
        why: The divergence in one sentence.
        findings: The watch's findings by then, in sentences.
        back_to: Training step of the restored state.
        remedy: The change since.
        claim: Its effect.
        held: Whether the training did not diverge after it.
        until: The step at which it diverged again, or the last one recorded.
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
class RunSummary:
    """The summary of a run.

    Attributes:
        title: Cell and data, if noted.
        status: How it ended.
        steps: The last training step recorded.
        verdict: The noted verdict, or ``"not judged"``.
        findings: Findings at the end, worst first, in sentences.
        resolved: Findings that disappeared again.
        patches: The lines to paste for the findings at the end, worst first, each once.
        repair: The noted trials before the training (``--repair``), or None.
        max_rollbacks: Number of rollbacks allowed.
        rollbacks: The rollbacks.
        validation: Validation losses; None if none were recorded.
    """

    title: str
    status: Status
    steps: int
    verdict: str
    findings: tuple[str, ...]
    resolved: tuple[str, ...]
    repair: Mapping[str, Any] | None
    max_rollbacks: int
    rollbacks: tuple[RollbackResult, ...]
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
        start: The loss before the first step, or the first one recorded.
        end: The last one recorded.
        best: The lowest finite one; NaN if there is none.
        best_step: Training step of ``best``.
        lost_since: Training step since which no loss was finite; None if the last one is finite.
    """

    start: float
    end: float
    best: float
    best_step: int
    lost_since: int | None

    @property
    def text(self) -> str:
        """The losses in one sentence."""
        best = f"the lowest was {self.best:.4g}, at step {self.best_step:,}"
        if math.isnan(self.best):
            best = "none was ever finite"
        if self.lost_since is not None:
            return f"Not finite from step {self.lost_since:,} to the end; {best}."
        text = f"From {self.start:.4g} at the start to {self.end:.4g} at the end; {best}."
        return text + ("" if self.end < self.start else " It ended no better than it began.")


def summarise(run: Run) -> RunSummary:
    """Summarise a run, finished or not.

    Args:
        run: An open record.
    """
    run.check_kinds()
    notes, events, checked = run.notes, run.events(), check(run)
    ends = [e for e in events if e["kind"] in (*ENDS, "resumed", "rollback")]
    last = ends[-1]["kind"] if ends else ""
    status: Status = last if last in ENDS else "not ended"
    validation = _validation(run)
    return RunSummary(
        str(notes.get("title", "")),
        status,
        checked.steps,
        checked.verdict,
        tuple(map(_sentence, checked.findings + checked.others)),
        tuple(map(_sentence, checked.resolved)),
        notes.get("repair"),
        _allowed(run),
        _rollback_results(notes.get("rollbacks") or [], events, status, checked.steps, validation),
        validation,
        _patches(run, checked.findings + checked.others),
    )


def _patches(run: Run, findings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The lines to paste; command-line options if the training is this library's own."""
    chosen = run.config.get("remedies")
    if isinstance(chosen, list):
        firsts = [f["remedies"][0] for f in findings if f.get("remedies")]
        return tuple(f"--remedies {' '.join(map(str, (*chosen, r)))}" for r in firsts)
    patches = [f.get("patch") for f in findings]
    return tuple(dict.fromkeys(p for p in patches if isinstance(p, str) and p))


def _validation(run: Run) -> Validation | None:
    try:
        steps, losses = run.scalars("val_loss")
    except RecordError:  # for example the record of a watch
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


def _rollback_results(
    rescues: Sequence[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    status: Status,
    steps: int,
    validation: Validation | None,
) -> tuple[RollbackResult, ...]:
    findings_by_number = {
        e["data"]["number"]: tuple(map(_sentence, e["data"].get("findings", ())))
        for e in events
        if e["kind"] == "rollback"
    }
    end = [e["step"] for e in events if e["kind"] in ("nonfinite", "blown-up")]
    results: list[RollbackResult] = []
    for place, rescue in enumerate(rescues):
        if place + 1 < len(rescues):
            held, until = "no", int(rescues[place + 1]["diverged_at"])
        elif status == "diverged":
            held, until = "no", int(end[-1]) if end else steps
        elif validation is not None and validation.lost_since is not None:
            held, until = "no", validation.lost_since
        else:
            held, until = "yes" if status == "finished" else "so far", steps
        results.append(
            RollbackResult(
                rescue["number"],
                rescue["cause"],
                rescue["diverged_at"],
                rescue["why"],
                findings_by_number.get(rescue["number"], ()),
                rescue["back_to"],
                rescue["remedy"],
                _claim(rescue["remedy"]),
                held,
                until,
                rescue["undo"],
            )
        )
    return tuple(results)


def _claim(remedy: str) -> str:
    if remedy == RATE:
        return f"Every step is 1/{2**HALVINGS} as long"
    return REMEDIES[remedy].claim if remedy in REMEDIES else ""
