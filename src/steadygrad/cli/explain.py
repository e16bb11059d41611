"""``steadygrad explain``: a fault (what it is, how it is measured, what helps), or a run."""

import json as json_format
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from steadygrad.cli.plain_json import plain
from steadygrad.errors import InputError

if TYPE_CHECKING:
    from steadygrad.diagnosis.explain import Explanation
    from steadygrad.diagnosis.question import Answer


def explain(
    about: Annotated[str | None, tyro.conf.Positional] = None,
    symptom: str | None = None,
    cell: str | None = None,
    layers: int | None = None,
    hidden: int | None = None,
    lr: float | None = None,
    optimizer: Literal["adam", "sgd"] = "adam",
    lag: int | None = None,
    json: bool = False,
) -> int:
    """Explain a fault, a quantity, a run or a symptom.

    For a fault: what it is, how it is measured, which numbers decide, and what helps. For a run:
    how it ended, findings, trials, and for each rollback what diverged when, the restored step,
    the remedy, and whether it held.

    Args:
        about: Name of the fault or the quantity, or the record of a run (run.db) or its folder; if
            not given, all faults are listed, the worst first.
        symptom: A symptom in words, like "loss NaN at epoch 3": says what to measure, and why.
        cell: Cell of the network; lstm if not given.
        layers: Its layers; 1 if not given.
        hidden: Its units per layer; 128 if not given.
        lr: Its learning rate.
        optimizer: Its optimiser.
        lag: Steps back that the task needs.
        json: Print one JSON document and nothing else.
    """
    from steadygrad.cli.explain_run import explain_run
    from steadygrad.diagnosis.explain import explain as explain_fault

    told = {"symptom": symptom, "cell": cell, "layers": layers, "hidden": hidden}
    given = {n: v for n, v in (told | {"lr": lr, "lag": lag}).items() if v is not None}
    if given:
        if about is not None:
            raise InputError(f"explain: name {about!r} or describe a training, not both")
        return _answer(given | {"optimizer": optimizer}, json)
    if about is None:
        _list(json)
        return 0
    try:
        found = explain_fault(about)
    except ValueError as error:
        if _explain_quantity(about, json):
            return 0
        if Path(about).exists():
            return explain_run(Path(about), json)
        raise InputError(f"{error}; nor is there a quantity or a run {about}") from None
    if json:
        print(json_format.dumps(plain(asdict(found)), indent=2, allow_nan=False))
    else:
        print("\n".join(_lines(found)))
    return 0


def _answer(given: dict[str, Any], json: bool) -> int:
    """Print what to measure in a training that is described by options."""
    from steadygrad.diagnosis.question import Question, ask

    answer = ask(Question(**given))
    if json:
        print(json_format.dumps(plain(asdict(answer)), indent=2, allow_nan=False))
    else:
        print("\n".join(_answer_lines(answer)))
    return 0


def _answer_lines(answer: "Answer") -> list[str]:
    lines = ["Before any measurement:"]
    for estimate in answer.estimates:
        lines += _wrapped(estimate.text[0].upper() + estimate.text[1:] + ".", "  ")
    if not answer.suspects:
        lines += ["", "None of these numbers is beyond a threshold, so a measurement is needed."]
    for number, suspect in enumerate(answer.suspects, 1):
        fault = suspect.fault
        lines += ["", *_wrapped(f"{number}. {fault.fault}: {fault.what}")]
        lines += _wrapped(f"Why: {suspect.why}.", "   ")
        lines += _wrapped(f"Measure: {suspect.look_at}. {fault.measured}", "   ")
        decides = ", ".join(f"{name} {value:g}" for name, value in fault.thresholds.items())
        lines += _wrapped(f"Decides: {decides}.", "   ") if decides else []
        helps = [*fault.remedies, *fault.advice]
        lines += _wrapped(f"Helps: {', '.join(helps)}.", "   ") if helps else []
    return [*lines, "", "To find out which:", *(f"  {line}" for line in answer.measure.split("\n"))]


def _explain_quantity(about: str, json: bool) -> bool:
    """Print what a quantity is in one line; False if there is none of that name."""
    from steadygrad.flow import QUANTITIES

    found = QUANTITIES.get(about.replace("-", "_"))
    if found is None:
        return False
    if json:
        document = {"quantity": found.name, **found.to_record()}
        print(json_format.dumps(document, indent=2, allow_nan=False))
    else:
        print(f"{found.name} ({found.unit}): {found.meaning}")
    return True


def _list(json: bool) -> None:
    from steadygrad.diagnosis import FAULTS

    if json:
        print(json_format.dumps({name: f.meaning for name, f in FAULTS.items()}, indent=2))
        return
    width = max(map(len, FAULTS))
    for name, fault in FAULTS.items():
        first, *rest = textwrap.wrap(fault.meaning, 96 - width)
        print(f"{name:<{width}}  {first}", *(" " * (width + 2) + r for r in rest), sep="\n")


def _lines(found: "Explanation") -> list[str]:
    lines = [f"{found.fault}: {found.what}", "", *_wrapped("Measured: " + found.measured)]
    lines += [f"Threshold {name}: {value:g}" for name, value in found.thresholds.items()]
    lines += _table("Remedies to try, the most promising first:", found.remedies)
    lines += _table("Also meant for it:", found.others)
    if found.advice:
        lines += ["", "Besides:", *(f"  {text}" for text in found.advice)]
    return lines


def _table(title: str, claims: Mapping[str, str]) -> list[str]:
    if not claims:
        return []
    lines = ["", title]
    for name, claim in claims.items():
        lines += [f"  {name}", *_wrapped(claim, "      ")]
    return lines


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 96, initial_indent=indent, subsequent_indent=indent)
