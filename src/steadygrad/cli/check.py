"""``steadygrad check RUN``: check a run for faults, for pipelines."""

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steadygrad.cli.plain_json import plain
from steadygrad.errors import InputError


def check(run: Path, fail_on: str | None = None, ever: bool = False, json: bool = False) -> int:
    """Look for faults in the record of a run: exit code 0 none, 1 found, 2 wrong use.

    The exit code is also 1 if something that the task needs was not judged, unless the faults to
    look for are named.

    Args:
        run: The record of a run (run.db), or its folder; the run may still be going.
        fail_on: Faults to look for, separated by commas: exploding,nonfinite. All if not given;
            `steadygrad explain` lists them.
        ever: Count also findings that disappeared before the end.
        json: Print one JSON document and nothing else.
    """
    from steadygrad.diagnosis.check import check as check_run
    from steadygrad.faults import NOT_JUDGED
    from steadygrad.record import read
    from steadygrad.record.places import record_of

    path = record_of(run)
    wanted = None if fail_on is None else [n.strip() for n in fail_on.split(",") if n.strip()]
    if wanted == []:
        raise InputError(
            "--fail-on: no fault named; give some with commas between, or leave it out"
        )
    with read(path) as record:
        try:
            checked = check_run(record, wanted, ever=ever)
        except ValueError as error:
            raise InputError(f"--fail-on: {error}") from None
    is_open = wanted is None and checked.verdict == NOT_JUDGED
    code = int(checked.failed or is_open)
    if json:
        document = {"run": str(path), "fail_on": wanted or "all", **asdict(checked)}
        print(json_format.dumps(plain(document), indent=2, allow_nan=False))
        return code
    told = "failed" if checked.failed else "not judged" if code else "passed"
    print(f"{told}: {path}, {checked.steps} steps, verdict {checked.verdict}")
    for finding in checked.findings:
        print(f"  {_line(finding)}")
    for finding in checked.others:
        print(f"  (not counted) {_line(finding)}")
    for gap in checked.not_judged:
        print(f"  (not judged) {gap['text']}")
    return code


def _line(finding: dict[str, Any]) -> str:
    step = finding.get("step")
    since = "" if step is None else f", since step {step}"
    sure = finding.get("confidence")
    how = "" if sure is None else f" (confidence {sure:.2f}{since})"
    return f"{finding['fault']}: {finding['text']}{how}"
