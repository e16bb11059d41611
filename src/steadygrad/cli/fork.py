"""``steadygrad fork RUN``: train on from the last checkpoint of a run, with one more remedy."""

import json as json_format
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from steadygrad.cli.plain_json import plain
from steadygrad.errors import InputError

if TYPE_CHECKING:
    from steadygrad.train import Outcome


def fork(
    run: Path,
    out: Path | None = None,
    remedy: str | None = None,
    steps: int | None = None,
    data: Path | None = None,
    start: Path | None = None,
    trainer: str | None = None,
    json: bool = False,
) -> int:
    """Train on from the last checkpoint of a run for a while, with one more remedy or none.

    The run itself is only read, and may be training meanwhile. Two forks of one checkpoint differ
    by their remedy alone: compare them with steadygrad live, report or compare. This is what the
    button "Try the cure" of the live page starts.

    Args:
        run: Folder of a run of steadygrad train, or its record.
        out: Folder of the fork, cures/REMEDY in that of the run if not given; an earlier fork there
            is replaced.
        remedy: With its options, as clip-norm:max_norm=0.5; the training goes on untreated if not
            given.
        steps: Training steps; a tenth of the run's, at least 100, if not given.
        data: The data of the run, if it is not where it was.
        start: A copy of an earlier checkpoint of the run; several forks of a run that is training
            begin at one place so. Its last one if not given.
        trainer: For a training of your own: module:function or file.py:function. It is called as
            function(remedy, record) with a steadygrad.remedies.Remedy or None, and a
            steadygrad.record.Record for its watch; it starts from its own checkpoint.
        json: Print one JSON document at the end, and nothing else.
    """
    if out is None:
        folder = run if run.is_dir() else run.parent
        out = folder / "cures" / re.sub(r"[^\w.=-]+", "-", remedy or "untreated")[:80]
    if trainer is not None:
        for name, value in (("--steps", steps), ("--data", data), ("--start", start)):
            if value is not None:
                raise InputError(f"{name}: is of a run of steadygrad train, not of --trainer")
        record = _own(trainer, out, remedy)
        print(json_format.dumps({"record": str(record)}) if json else f"record: {record}")
        return 0
    from rich.console import Console

    from steadygrad.cli.display import Lines
    from steadygrad.train.forking import fork as fork_of
    from steadygrad.train.run import ignore

    tell = ignore if json else Lines(Console()).tell
    outcome = fork_of(run, out, remedy, steps=steps, data=data, start=start, tell=tell)
    if json:
        print(json_format.dumps(plain(asdict(outcome)), indent=2, allow_nan=False))
    else:
        print(_ending(outcome))
    return 1 if outcome.status == "diverged" else 0


def _ending(outcome: "Outcome") -> str:
    return f"{outcome.status} at step {outcome.step}: {outcome.verdict}; record: {outcome.record}"


def _own(trainer: str, out: Path, remedy: str | None) -> Path:
    """Call the reader's own function with a remedy and a new record."""
    from steadygrad import _user_code
    from steadygrad.record import Record
    from steadygrad.record.places import RUN
    from steadygrad.remedies import parse

    where, name, rest = _user_code.split(trainer)
    if rest:
        raise InputError(f"--trainer {trainer}: expected module:function or file.py:function")
    function = _user_code.named(where, name)
    if not callable(function):
        raise InputError(f"--trainer {trainer}: {name!r} is no function")
    try:
        made = None if remedy is None else parse(remedy)
    except ValueError as error:
        raise InputError(str(error)) from None
    out.mkdir(parents=True, exist_ok=True)
    record = Record.create(out / RUN, config={"trainer": trainer}, overwrite=True)
    with record:
        record.note("title", remedy or "untreated")
        function(made, record)
    return record.path
