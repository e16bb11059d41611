"""``steadygrad bench tasks``: each task's score without memory, threshold and lag."""

import json as json_format
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rich.console import Console
from rich.table import Table

from steadygrad.cli.plain_json import plain
from steadygrad.errors import InputError
from steadygrad.spec import read_spec, write_spec
from steadygrad.tasks import TASKS, Benchmark, Synthetic, estimate_lag


def told(text: str, estimate: bool = False) -> dict[str, Any]:
    """Facts of a task that are needed to judge a score.

    Args:
        text: The task and its options.
        estimate: Whether to estimate the lag from the data (takes seconds) if it is not known.

    Raises:
        InputError: No such task, a bad option, or missing data.
    """
    try:
        task = read_spec(text, TASKS, "task")
    except ValueError as error:
        raise InputError(str(error)) from None
    return {
        "task": text,
        "without_memory": dict(task.no_memory),
        "solved_if": _solved(task),
        **_lag_of(task, estimate),
        "time_steps": task.time_steps,
        "naive": [{"name": s.name, "value": s.value, "unit": s.unit} for s in task.naive("test")],
    }


def _lag_of(task: Benchmark, estimate: bool) -> dict[str, Any]:
    """The lag and its origin: ``construction``, ``estimate``, or None if unknown."""
    known, origin = task.required_lag, "construction"
    if known is None and estimate:
        known, origin = estimate_lag(task).lag, "estimate"
    return {"required_lag": known, "lag_from": None if known is None else origin}


def _solved(task: Benchmark) -> dict[str, Any] | None:
    if task.solved_if is None:
        return None
    unit, value = task.solved_if
    return {"figure": unit, "value": value, "better": task.better[unit]}


def line(facts: dict[str, Any]) -> str:
    """The facts as one line."""
    return (
        f"{facts['task']}: without memory {_figures(facts)}; solved at {_bound(facts)};"
        f" required lag {_lag(facts)}"
    )


def _figures(facts: dict[str, Any]) -> str:
    return ", ".join(f"{unit} {value:.5g}" for unit, value in facts["without_memory"].items())


def _bound(facts: dict[str, Any]) -> str:
    solved = facts["solved_if"]
    if solved is None:
        return "no known score"
    sign = "<" if solved["better"] == "lower" else ">"
    return f"{solved['figure']} {sign} {solved['value']:.5g}"


def _lag(facts: dict[str, Any]) -> str:
    if facts["required_lag"] is None:
        return "not known"
    if facts["lag_from"] == "estimate":
        return f"about {facts['required_lag']} steps*" if facts["required_lag"] else "none found*"
    return f"{facts['required_lag']} steps"


def bench_tasks(json: bool) -> int:
    """Print every task, and every form of the synthetic ones."""
    found: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    console = Console(quiet=json)
    with console.status("reading the tasks") as status:
        for text in _variants():
            status.update(f"{text}: data, scores and lag")
            try:
                found.append(told(text, estimate=True))
            except InputError as error:
                missing[text] = str(error)
    if json:
        print(json_format.dumps(plain({"tasks": found, "missing": missing}), indent=2))
        return 0
    _print(console, found)
    for text, why in missing.items():
        console.print(f"{text}: {why}", highlight=False, soft_wrap=True, markup=False)
    return 0


def _variants() -> Iterator[str]:
    for name, kind in TASKS.items():
        yield name
        if not issubclass(kind, Synthetic):  # forms of recorded tasks are other data sets
            continue
        hints = get_type_hints(kind)
        for option in fields(kind):  # pyright: ignore[reportArgumentType]  # all are dataclasses
            if get_origin(hints[option.name]) is Literal:
                others = (v for v in get_args(hints[option.name]) if v != option.default)
                yield from (write_spec(name, kind(**{option.name: value})) for value in others)


def _print(console: Console, found: Sequence[dict[str, Any]]) -> None:
    table = Table("task", "without memory", "solved at", "required lag", box=None)
    table.columns[0].no_wrap = True  # a truncated name would be ambiguous
    for facts in found:
        table.add_row(facts["task"], _figures(facts), _bound(facts), _lag(facts))
    console.print(table)
    console.print(
        "* estimated from the data by a linear probe; without a star: known by construction",
        highlight=False,
    )
