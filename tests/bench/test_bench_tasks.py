"""What a task asks is said before it runs, and equals the closed forms of the papers."""

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from steadygrad.cli import main
from steadygrad.cli.bench_tasks import line, told
from steadygrad.errors import InputError
from steadygrad.tasks import TASKS, Synthetic
from tests.helpers import grid_work

# Arjovsky, Shah and Bengio 2016, section 5.1: 10 ln 8 / (T + 20) for copying, 1/6 for adding.
COPY = {100: 0.17329, 200: 0.09452, 300: 0.06498, 500: 0.03999, 750: 0.02701, 1000: 0.02039}
CLOSED: Sequence[tuple[str, str, float]] = (
    *((f"copy:length={T}", "nats per step", nats) for T, nats in COPY.items()),
    *(
        (f"copy:length={T},form={form}", "nats per step", nats)
        for form in ("tcn", "geotorch", "henaff")
        for T, nats in COPY.items()
    ),
    ("copy:length=30,symbols=5,recall=4", "nats per step", 4 * math.log(5) / 38),
    ("adding", "squared error", 1 / 6),
    ("adding:length=1000", "squared error", 1 / 6),
    ("adding:form=martens", "squared error", 1 / 24),
    # One number in ten is none, and one in 9/10 of a 48th: the variance of what is left.
    ("adding:form=hochreiter", "squared error", (2 - 1 / 10 - 9 / 10 / 48) / 48),
    ("multiplication", "squared error", 7 / 144),
    ("temporal-order", "nats", math.log(4)),
    ("temporal-order:symbols=3", "nats", math.log(8)),
    ("memorisation", "nats per step", 5 * math.log(2) / 60),
    ("memorisation:pattern=10,values=5", "nats per step", 10 * math.log(5) / 70),
    ("parity", "nats", math.log(2)),
    ("delayed-xor", "nats", math.log(2)),
)

needs_data = pytest.mark.skipif(
    not os.environ.get("STEADYGRAD_DATA"), reason="STEADYGRAD_DATA is not set: no real data here"
)


@pytest.mark.parametrize("spec, unit, value", CLOSED)
def test_baselines_are_the_closed_forms(spec: str, unit: str, value: float) -> None:
    facts = told(spec)
    assert facts["without_memory"][unit] == pytest.approx(value, abs=5e-6)
    printed = re.search(rf"{re.escape(unit)} ([\d.]+)", line(facts).split(";")[0])
    assert printed is not None and float(printed[1]) == pytest.approx(value, rel=2e-4)
    assert facts["solved_if"]["value"] != value and facts["required_lag"] > 0


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["bench", "tasks", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_task_is_listed_and_its_forms_apart(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import steadygrad.tasks.datasets as datasets

    def nothing(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(datasets.urllib.request, "urlopen", nothing)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("STEADYGRAD_DATA", str(tmp_path))
    document = listed(capsys)
    found = {facts["task"]: facts for facts in document["tasks"]}
    assert set(TASKS) <= found.keys() | document["missing"].keys()
    assert {"adding", "adding:form=martens", "adding:form=hochreiter"} <= found.keys()
    assert {f"copy{form}" for form in ("", ":form=tcn", ":form=geotorch", ":form=henaff")} <= set(
        found
    )
    assert all(f["without_memory"] and f["solved_if"] for f in found.values())
    drawn = [n for n, kind in TASKS.items() if issubclass(kind, Synthetic)]
    assert drawn and all(found[name]["lag_from"] == "construction" for name in drawn)
    # What was read before stays in memory; what was not is named with what to do.
    assert all("data set" in why for why in document["missing"].values())


@needs_data
def test_the_lag_says_where_it_is_from() -> None:
    stated, asked, estimated = (
        told("series-classes"), told("system-id"), told("system-id", estimate=True)
    )  # fmt: skip
    assert (stated["required_lag"], stated["lag_from"]) == (99, "construction")  # of 100 steps
    assert (asked["required_lag"], asked["lag_from"]) == (None, None)
    assert estimated["required_lag"] > 5 and estimated["lag_from"] == "estimate"
    assert line(asked).endswith("required lag not known")
    assert line(estimated).endswith(f"about {estimated['required_lag']} steps*")
    # A line of text answers at no fixed place: the probe abstains.
    assert told("ocr-lines", estimate=True)["lag_from"] is None


def test_forms_are_rows_of_their_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid_work.without_processes(monkeypatch)
    forms = "adding:form=le,adding:form=martens,adding:form=hochreiter"
    quick = ("--updates", "1", "--hidden", "2", "--seeds", "1", "--workers", "1", "--cells", "gru")
    out = ("--out", str(tmp_path / "out"), "--json")
    assert main(["bench", forms, "--lengths", "20", *quick, *out]) == 0
    document = json.loads(capsys.readouterr().out)
    names = [
        "adding:length=20", "adding:length=20,form=martens", "adding:length=20,form=hochreiter"
    ]  # fmt: skip
    assert [row["task"] for row in document["rows"]] == names
    assert [facts["task"] for facts in document["tasks"]] == names
    assert [row["unit"] for row in document["rows"]] == ["squared error", "% wrong", "% wrong"]


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(InputError, match="no task 'nonsense'"):
        told("nonsense")
