"""``steadygrad explain RUN``: summarise a run, its repairs and their success."""

import json as json_format
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steadygrad.cli.plain_json import plain
from steadygrad.record import read
from steadygrad.record.places import record_of
from steadygrad.train.summary import RollbackResult, RunSummary, summarise


def explain_run(path: Path, json: bool) -> int:
    """Print the summary of a run."""
    record = record_of(path)
    with read(record) as run:
        summary = summarise(run)
    if json:
        document = {"run": str(record), **asdict(summary)}
        print(json_format.dumps(plain(document), indent=2, allow_nan=False))
    else:
        print("\n".join(_lines(record, summary)))
    return 0


def _lines(record: Path, summary: RunSummary) -> list[str]:
    title = f"{summary.title}, " if summary.title else ""
    lines = [
        f"{record}: {title}{summary.status}, {summary.steps:,} steps, verdict {summary.verdict}"
    ]
    lines += _listed("Found:", summary.findings) + _listed("Found, and resolved:", summary.resolved)
    if summary.patches:
        lines += ["", "To paste:", *(f"  {line}" for line in summary.patches[0].split("\n"))]
    if summary.validation is not None:
        lines += ["", "Validation loss:", *_wrapped(summary.validation.text)]
    if summary.repair is not None:
        lines += _repair(summary.repair, summary)
    return [*lines, "", *_rollbacks(summary)]


def _listed(title: str, sentences: Sequence[str]) -> list[str]:
    return ["", title, *(line for s in sentences for line in _wrapped(s))] if sentences else []


def _repair(repair: Mapping[str, Any], summary: RunSummary) -> list[str]:
    """The trials in short runs before the long one, and whether the repair held."""
    choice = repair.get("choice")
    if choice is None:
        return ["", "Repair before the training: nothing was tried, because no fault was found."]
    kept = choice["kept"] or "nothing"
    tried = len(choice["forks"])
    text = f"{tried} short trainings; kept: {kept} ({choice['why']})"
    lines = ["", f"Repair before the training ({', '.join(repair['plan'])}):", *_wrapped(text)]
    if choice["kept"] and summary.has_failed:
        lines += _wrapped("It did not hold: the long training failed with it.")
    return lines


def _rollbacks(summary: RunSummary) -> list[str]:
    if not summary.rollbacks:
        if summary.status == "diverged" and not summary.max_rollbacks:
            return ["Rollbacks: none were allowed; --rollbacks 3 (or --repair) allows them."]
        return ["Rollbacks: none."]
    lines = [f"Rollbacks: {len(summary.rollbacks)} of {summary.max_rollbacks} allowed."]
    for back in summary.rollbacks:
        lines += _rollback(back)
    return lines


def _rollback(back: RollbackResult) -> list[str]:
    what = {"nonfinite": "non-finite numbers", "blown-up": "the loss blew up"}
    claim = f" ({back.claim[:1].lower()}{back.claim[1:]})" if back.claim else ""
    held = {
        "yes": f"It held to the end, step {back.until:,}.",
        "so far": f"It has held so far, to step {back.until:,}.",
        "no": f"It did not hold: diverged again at step {back.until:,}.",
    }
    cause = what.get(back.cause, back.cause)
    return [
        f"  {back.number}. Step {back.diverged_at:,}, {cause}: {back.why}.",
        *(line for s in back.findings for line in _wrapped(f"Found then: {s}", "     ")),
        *_wrapped(f"Back to step {back.back_to:,}, continued with {back.remedy}{claim}.", "     "),
        f"     {held[back.held]}",
        f"     To undo it: --resume with {back.undo} as checkpoint.safetensors.",
    ]


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, 96, initial_indent=indent, subsequent_indent=indent + "  ")
