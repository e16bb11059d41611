"""``steadygrad diagnose TARGET``: diagnose a model."""

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from steadygrad.cli.plain_json import plain
from steadygrad.errors import InputError

if TYPE_CHECKING:
    from steadygrad.diagnosis.lag import Lag


def diagnose(
    target: str,
    lag: int | Literal["auto", "none"] = "auto",
    data: Path | None = None,
    rows: int | None = None,
    out: Path | None = None,
    json: bool = False,
) -> int:
    """Measure the gradient at every time step of a model, name what is wrong, and what may help.

    Exit code 0: everything that the task needs was measured, and nothing is wrong; 1: a fault was
    found, or something could not be judged, and the reason is printed.

    Args:
        target: module:function or file.py:function, which returns (model, loss_fn), with loss_fn()
            the loss of one batch; or the folder of a run of steadygrad train.
        lag: Time steps that the gradient has to travel; only with it can vanishing be a fault. If
            not given, that of the run, which may be estimated from its data; none: no lag.
        data: The data of a run, if it is not where it was.
        rows: Most sequences of the batch to measure; all if not given.
        out: Write a report here, one HTML file, or a PDF if the name ends so.
        json: Print one JSON document and nothing else.
    """
    if isinstance(lag, int) and lag < 1:
        raise InputError(f"--lag {lag}: expected at least 1")
    if rows is not None and rows < 1:
        raise InputError(f"--rows {rows}: expected at least 1")
    from steadygrad.cli.report import check_page, write_report
    from steadygrad.cli.target import read_target
    from steadygrad.diagnosis import diagnose as diagnose_model
    from steadygrad.record.ownership import refuse_foreign

    if out is not None:
        check_page(out)
        refuse_foreign([out, out.with_suffix(".db")])
        _refuse_run(out.with_suffix(".db"))
    found = read_target(target, data)
    try:
        diagnosis = diagnose_model(
            found.model, found.loss_fn, _chosen(lag, found.lag), rows=rows, losses=found.losses
        )
    except ValueError as error:
        raise InputError(f"{target}: {error}") from None
    if json:
        print(json_format.dumps(plain(diagnosis.to_json()), indent=2, allow_nan=False))
    else:
        print(diagnosis)
    if out is not None:
        record = diagnosis.record(out.with_suffix(".db"))
        page = write_report([record], out)
        if not json:
            print(f"report: {page}")
    return int(diagnosis.verdict != "healthy")


def _refuse_run(path: Path) -> None:
    """Refuse to replace the record of a training by that of a diagnosis."""
    from steadygrad.record import read

    if not path.exists():
        return
    with read(path) as run:
        if run.notes.get("kind") != "diagnose":
            raise InputError(f"{path}: is the record of a run; give another --out")


def _chosen(lag: int | Literal["auto", "none"], known: "Lag") -> "Lag":
    if lag == "auto":
        return known
    return None if lag == "none" else lag
