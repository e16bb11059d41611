"""A grid does every run once, whatever happens, and its numbers do not depend on where it ran."""

import json
import math
import multiprocessing
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from steadygrad.bench import Grid, Local, Result, Trial, run_grid, run_trial
from steadygrad.bench.executors import Work, base, local
from steadygrad.errors import InputError
from steadygrad.record import Record, RecordError, Results
from steadygrad.report.bootstrap import difference
from steadygrad.report.grid_curves import curve_plot
from steadygrad.report.grid_page import grid_html
from steadygrad.report.grid_picture import grid_svg
from steadygrad.report.grid_table import as_csv, as_latex, rows
from steadygrad.tasks import TASKS, Parity
from tests.helpers import forked, grid_work

SMALL = Trial("adding:length=20", "gru", hidden=4, updates=4, validate_every=2, batch_size=5)


def grid(**changes: Any) -> Grid:
    return Grid(("adding",), ("gru", "elman"), lengths=(20, 21), seeds=2, base=SMALL, **changes)


def executed(tmp_path: Path, seeds: int, work: Work, workers: int = 2) -> dict[int, Result]:
    with Results(tmp_path / "results.db") as results:
        finished = run_grid(
            Grid(("parity",), seeds=seeds, base=SMALL), results, Local(workers), work=work
        )
        assert len(list(results.rows())) == seeds
    return {trial.seed: result for trial, result in finished}


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that begin with torch imported, and with the variables of the first of them."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: forked.context())


# ---- one run ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_run() -> Result:
    return run_trial(SMALL)


def test_a_run_repeats_itself_bit_for_bit_and_leaves_torch_as_it_was() -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first, again = run_trial(SMALL), run_trial(SMALL)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    for result in (first, again):
        for clock in ("cpu_seconds", "seconds", "microseconds_per_step"):
            assert 0 < result.pop(clock)
    assert first == again
    assert first["status"] == "unsolved" and first["updates"] == 4
    assert [step for step, _ in first["curve"]] == [2, 4]
    assert first["gradient"]["start"]["horizon"] >= 1


@pytest.mark.parametrize(
    "change",
    [
        {"task": "adding:length=22"}, {"cell": "lstm"}, {"remedies": ("orthogonal-init",)},
        {"seed": 1}, {"hidden": 5}, {"layers": 2}, {"batch_size": 6}, {"updates": 6},
        {"learning_rate": 1e-2}, {"clip": 1e-3}, {"validate_every": 1},
        {"remedies": ("clip-value:max_value=1e-6",)}, {"remedies": ("recurrent-decay",)},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_changes_key_and_result(change: dict[str, Any], small_run: Result) -> None:
    other = replace(SMALL, **change)
    assert other.key != SMALL.key
    first, second = small_run, run_trial(other)
    assert "text" not in second
    assert (first["figures"], first["curve"]) != (second["figures"], second["curve"])


def test_a_solved_run_ends_and_says_when() -> None:
    easy = Trial("parity:length=1", "gru", updates=2000, learning_rate=0.05, hidden=8)
    result = run_trial(easy)
    assert result["status"] == "solved" and result["solved_at"] < 2000
    assert result["figures"]["% wrong"] <= 1


def test_a_diverged_run_is_a_result() -> None:
    hot = replace(SMALL, cell="elman:nonlinearity=relu", learning_rate=1e30, clip=0.0, updates=8)
    result = run_trial(hot)
    assert result["status"] == "diverged" and result["gradient"]["end"] is None
    assert all(map(math.isfinite, result["figures"].values()))  # of the weights it began with


def test_an_error_in_a_run_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of luck\nand memory")

    monkeypatch.setattr("steadygrad.bench.trial.SequenceModel", broken)
    result = run_trial(SMALL)
    assert result["status"] == "failed"
    assert result["text"].startswith("RuntimeError: out of luck and memory (")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"task": "nonsense"}, "no task 'nonsense'"),
        ({"cell": "lstn"}, "no such cell"),
        ({"remedies": ("nonsense",)}, "remedy nonsense: no remedy"),
        ({"remedies": ("irnn",)}, "remedy irnn"),  # a GRU is no plain recurrence
        ({"updates": 0}, "updates 0: expected at least 1"),
        ({"learning_rate": math.nan}, "out of range"),
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused_before_anything_is(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    changed = replace(SMALL, **change)
    names = {"tasks": (changed.task,), "cells": (changed.cell,), "remedies": (changed.remedies,)}
    with (
        Results(tmp_path / "results.db") as results,
        pytest.raises(InputError, match=message) as caught,
    ):
        run_grid(Grid(**names, base=changed), results, Local(1))
    assert "\n" not in str(caught.value) and not list(Results(tmp_path / "results.db").rows())


# ---- the grid ---------------------------------------------------------------------------------


def test_every_combination_is_there_once() -> None:
    trials = grid(remedies=((), ("orthogonal-init",))).trials()
    assert len({t.key for t in trials}) == len(trials) == 2 * 2 * 2 * 2
    assert {t.task for t in trials} == {"adding:length=20", "adding:length=21"}
    assert [t.seed for t in trials] == sorted(t.seed for t in trials)


def test_the_default_length_is_the_same_run_as_none_given() -> None:
    plain = Grid(("adding",), base=SMALL).trials()
    assert [t.key for t in plain] == [
        t.key for t in Grid(("adding:form=le",), lengths=(100,), base=SMALL).trials()
    ]


def test_a_task_without_length_refuses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class NoLength(Parity):  # type: ignore[misc]
        length: ClassVar[int] = 5  # type: ignore[misc]

    monkeypatch.setitem(TASKS, "no-length", NoLength)
    with pytest.raises(InputError, match="no length"):
        Grid(("no-length",), lengths=(5,), base=SMALL).trials()


@pytest.mark.usefixtures("forked_workers")
def test_processes_give_the_numbers_of_this_process(tmp_path: Path) -> None:
    with Results(tmp_path / "results.db") as results:
        finished = run_grid(grid(), results, Local(2))
    for trial, result in finished[:3]:
        here = run_trial(trial)
        assert (here["figures"], here["gradient"]) == (result["figures"], result["gradient"])
        assert [list(p) for p in here["curve"]] == result["curve"]


class Here:
    """An executor without processes."""

    def run(self, work: Work, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Result]]:
        return ((trial, work(trial)) for trial in trials)


def test_finished_runs_are_never_repeated(tmp_path: Path) -> None:
    seen: list[str] = []
    with Results(tmp_path / "results.db") as results:
        run_grid(Grid(("parity",), seeds=3, base=SMALL), results, Here(), work=grid_work.trivial)
        run_grid(
            Grid(("parity",), seeds=5, base=SMALL),
            results,
            Here(),
            lambda p: seen.append(f"{p.done}/{p.total} {p.trial.seed if p.trial else p.found}"),
            work=grid_work.trivial,
        )
    assert seen == ["3/5 3", "4/5 3", "5/5 4"]


@pytest.mark.usefixtures("forked_workers")
def test_a_run_that_kills_its_worker_is_blamed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (base, local):  # each attempt starts a process
        monkeypatch.setattr(module, "ATTEMPTS", 2)
    results = executed(tmp_path, 4, grid_work.deadly)
    assert results.pop(3)["text"].startswith("the worker died 2 times in this run")
    assert {seed: r["figures"]["x"] for seed, r in results.items()} == {s: s for s in range(3)}


@pytest.mark.slow
def test_a_worker_that_dies_once_is_forgiven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEADYGRAD_TEST_MARK", str(tmp_path / "mark"))
    results = executed(tmp_path, 6, grid_work.deadly_once)
    assert [results[s]["figures"]["x"] for s in range(6)] == list(range(6))


def test_failed_runs_are_done_again_on_request(tmp_path: Path) -> None:
    small = Grid(("parity",), seeds=2, base=SMALL)
    with Results(tmp_path / "results.db") as results:
        for trial in small.trials():
            results.add(trial.key, asdict(trial), {"status": "failed", "text": "dead"})
        kept = run_grid(small, results, Here(), work=grid_work.trivial)
        done = run_grid(small, results, Here(), again=True, work=grid_work.trivial)
    assert [r["status"] for _, r in kept] == ["failed"] * 2
    assert [r["status"] for _, r in done] == ["unsolved"] * 2


@pytest.mark.slow
def test_an_abandoned_grid_leaves_no_worker(tmp_path: Path) -> None:
    trials = [replace(SMALL, seed=s) for s in range(50)]
    running = Local(2).run(grid_work.slow, trials)
    next(running)
    running.close()  # type: ignore[attr-defined]
    for _ in range(100):
        if not multiprocessing.active_children():
            break
        time.sleep(0.05)
    assert not multiprocessing.active_children()


SCRIPT = """
import sys
from steadygrad.record import Results
from steadygrad.bench import Grid, Local, Trial, run_grid
from tests.helpers import grid_work
if __name__ == "__main__":
    base = Trial("parity", "gru", hidden=4)
    with Results(sys.argv[1]) as results:
        run_grid(Grid(("parity",), seeds=30, base=base), results, Local(2),
                 lambda p: print(p.done, flush=True), work=grid_work.slow)
"""


def test_a_killed_grid_goes_on_without_a_run_lost_or_doubled(tmp_path: Path) -> None:
    script, path = tmp_path / "script.py", tmp_path / "results.db"
    script.write_text(SCRIPT)
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, str(script), str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 5:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with Results(path) as results:
        before = len(results.keys())
    assert 5 <= before < 30
    done: list[int] = []
    with Results(path) as results:
        parity = Grid(("parity",), seeds=30, base=Trial("parity", "gru", hidden=4))
        run_grid(parity, results, Here(), lambda p: done.append(p.done), work=grid_work.trivial)
        assert sorted(t["seed"] for t, _ in results.rows()) == list(range(30))
    assert done == list(range(before, 31))  # what was there is not done again


@pytest.mark.slow
def test_ten_thousand_trivial_runs(tmp_path: Path) -> None:
    began = time.perf_counter()
    results = executed(tmp_path, 10_000, grid_work.trivial)
    seconds = time.perf_counter() - began
    assert [results[s]["figures"]["x"] for s in range(10_000)] == list(range(10_000))
    print(f"{1e3 * seconds / 10_000:.2f} ms a run")


# ---- the table of results ---------------------------------------------------------------------


def test_a_key_is_written_once_and_numbers_that_are_none_survive(tmp_path: Path) -> None:
    with Results(tmp_path / "a" / "r.db") as results:
        assert results.add("k", asdict(SMALL), {"x": math.inf, "y": math.nan, "z": None})
        assert not results.add("k", asdict(SMALL), {"x": 1.0})
        with Results(tmp_path / "a" / "r.db") as other:  # a second grid on the same file
            assert other.keys() == {"k"} and not other.add("k", {}, {})
            assert other.add("m", {}, {})
        ((_, first), _) = results.rows()
    assert first["x"] == math.inf and math.isnan(first["y"]) and first["z"] is None


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    Record.create(tmp_path / "run.db", config={}).close()
    before = (tmp_path / "run.db").read_bytes()
    with pytest.raises(RecordError, match="not a table of results"):
        Results(tmp_path / "run.db")
    assert (tmp_path / "run.db").read_bytes() == before
    (tmp_path / "text.db").write_text("hello " * 1000)
    with pytest.raises(RecordError, match=r"text\.db"):
        Results(tmp_path / "text.db")
    with pytest.raises(RecordError, match="folder"):
        Results(tmp_path)


def test_a_results_file_is_no_record(tmp_path: Path) -> None:
    Results(tmp_path / "r.db").close()
    assert sqlite3.connect(tmp_path / "r.db").execute("SELECT count(*) FROM result").fetchone()
    with pytest.raises(RecordError, match="not a Steadygrad record"):
        Record.open(tmp_path / "r.db")


# ---- table and page ---------------------------------------------------------------------------


def result(value: float, status: str = "unsolved", at: int | None = None) -> Result:
    return {
        "status": status, "figures": {"error": value}, "unit": "error", "better": "lower",
        "solved_at": at, "curve": [(10, 1.0), (20, value)], "seconds": 2.0,
        "without_memory": 0.5, "solved_if": 0.01,
        "gradient": {"start": {"horizon": 7}, "end": {"horizon": 9}},
    }  # fmt: skip


def table() -> list[tuple[dict[str, Any], Result]]:
    found = []
    for seed, value in enumerate((0.3, 0.1, 0.2)):
        found.append((asdict(replace(SMALL, seed=seed)), result(value, "solved", 10 * seed + 10)))
    other = replace(SMALL, cell="elman", remedies=("irnn", "clip-norm:max_norm=0.5"))
    found.append((asdict(other), result(0.4)))
    failed = {"status": "failed", "figures": {}, "text": "dead", "seconds": None}
    found.append((asdict(replace(other, seed=1)), failed))
    return found


def test_rows_are_medians_over_seeds_and_failures_count_as_worst() -> None:
    gru, elman = rows(table())
    assert (gru.label, gru.median, gru.spread, gru.solved) == ("gru", 0.2, (0.1, 0.3), 3)
    assert gru.updates == 20 and gru.horizons == (7, 9) and gru.failed == 0
    assert elman.label == "elman + irnn + clip-norm:max_norm=0.5"
    assert elman.median == math.inf and elman.spread == (0.4, 0.4) and elman.failed == 1
    assert elman.updates is None


def test_formats_hold_every_row() -> None:
    found = rows(table())
    lines = as_csv(found).splitlines()
    assert len(lines) == 3 and lines[1].split(",")[3:6] == ["0.2", "0.1", "0.3"]
    latex = as_latex(found)
    assert r"clip-norm:max\_norm=0.5" in latex and latex.count(r"\\") == 3
    page = grid_html(found, "a <title>")
    assert "a &lt;title&gt;" in page and page.count("<h2>adding:length=20<") == 1
    assert "gru solved it in most seeds" in page and "without memory" in page


def test_the_picture_holds_every_seed() -> None:
    drawn = ElementTree.fromstring(str(grid_svg(rows(table()))))
    name = "{http://www.w3.org/2000/svg}"
    dots = [c.get("class") for c in drawn.iter(f"{name}circle")]
    assert dots == ["dot main"] * 3 + ["dot before"]  # the failed run has no score
    texts = [t.text for t in drawn.iter(f"{name}text")]
    assert "elman + irnn + clip-norm:max_norm=0.5 (1 failed)" in texts
    assert "without memory" in texts and "solved" in texts
    at = [float(c.get("cx") or "nan") for c in drawn.iter(f"{name}circle")]
    assert at[1] < at[2] < at[0] < at[3] < 950  # 0.1, 0.2, 0.3 and 0.4


def test_a_curve_stays_where_its_run_ended() -> None:
    found = table()[:3]
    for (_, told), at in zip(found, (10, 20, 30), strict=True):
        told["curve"] = [(step, 0.1 * step) for step in range(10, at + 1, 10)]
    (line,) = curve_plot(rows(found)).lines
    x, y = line.x, line.y
    assert x.tolist() == [10, 20, 30]
    np.testing.assert_allclose(10**y, [1.0, 2.0, 2.0])


def test_the_bootstrap_tells_a_difference_from_luck() -> None:
    generator = np.random.default_rng(0)
    false_alarms = 0
    for _ in range(40):
        first, second = generator.normal(size=(2, 12))
        false_alarms += difference(first.tolist(), second.tolist()).is_beyond_chance
    assert false_alarms <= 6
    apart = difference([0.1, 0.2, 0.3, 0.2, 0.15], [1.1, 1.2, 0.9, 1.0, 1.3])
    assert apart.is_beyond_chance and apart.value == pytest.approx(0.2 - 1.1)
    assert apart.low <= apart.value <= apart.high
    assert difference([math.nan] * 3, [math.nan] * 3).is_beyond_chance is False
    assert difference([0.1] * 3, [math.nan] * 3).high == -math.inf
    assert not difference([0.1] * 2, [0.9] * 2).is_beyond_chance  # too few to tell
    with pytest.raises(ValueError, match="at least one value"):
        difference([], [1.0])


def test_the_bootstrap_covers_the_true_difference_of_medians() -> None:
    generator = np.random.default_rng(1)
    covered = statistics.mean(
        (d := difference(generator.normal(1, 1, 25).tolist(), generator.normal(0, 1, 25).tolist()))
        .low <= 1 <= d.high
        for _ in range(100)
    )  # fmt: skip
    assert covered >= 0.85


# ---- the command ------------------------------------------------------------------------------


def steadygrad(*arguments: str) -> int:
    from steadygrad.cli import main

    return main(list(arguments))


QUICK = (
    "--updates",
    "2",
    "--hidden",
    "4",
    "--seeds",
    "1",
    "--workers",
    "1",
    "--validate-every",
    "1",
)


@pytest.mark.usefixtures("forked_workers")
def test_the_command_writes_table_and_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    command = ("bench", "parity:length=5", "--cells", "gru,elman:nonlinearity=relu", *QUICK)
    assert steadygrad(*command, "--out", out, "--compare", "gru,elman:nonlinearity=relu") == 0
    told = capsys.readouterr().out
    assert (
        "parity:length=5: without memory % wrong 50, nats 0.69315; solved at % wrong < 1;" in told
    )
    assert "2/2" in told and "may be chance" in told.replace("\n", " ")
    assert steadygrad(*command, "--out", out, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [r["label"] for r in document["rows"]] == ["gru", "elman:nonlinearity=relu"]
    (task,) = document["tasks"]
    assert (
        task["without_memory"]["nats"] == pytest.approx(math.log(2)) and task["required_lag"] == 4
    )
    assert task["solved_if"] == {"figure": "% wrong", "value": 1.0, "better": "lower"}
    assert (tmp_path / "out" / "grid.svg").read_text().startswith("<svg")
    assert (tmp_path / "out" / "table.csv").read_text().count("\n") == 3
    assert "<svg" in (tmp_path / "out" / "grid.html").read_text()


def test_a_file_holds_the_options_and_the_command_line_decides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grid_work.without_processes(monkeypatch)
    file = tmp_path / "grid.toml"
    file.write_text(
        'tasks = ["parity:length=4", "parity:length=6"]\ncells = ["gru", "lstm"]\nseeds = 1\n'
        "updates = 9\nhidden = 3\nworkers = 1\n"
    )
    out = ("--out", str(tmp_path / "out"), "--json")
    assert steadygrad("bench", str(file), "--updates", "1", *out) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["rows"]) == 4
    with Results(tmp_path / "out" / "results.db") as results:
        trials = [t for t, _ in results.rows()]
    assert {t["hidden"] for t in trials} == {3} and {t["updates"] for t in trials} == {1}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("nonsense",), "no task 'nonsense'"),
        (("adding", "--cells", "lstn"), "no such cell"),
        (("adding", "--lengths", "a"), "--lengths a: expected whole numbers"),
        (("adding", "--lengths", "3"), "length 3: expected at least 20"),
        (("adding", "--remedies", "none,nope"), "remedy nope"),
        (("adding", "--seeds", "0"), "at least one task, one cell and one seed"),
        (("adding", "--workers", "0"), "--workers 0"),
        (("missing.toml",), "missing.toml: cannot be read"),
    ],
    ids=str,
)
def test_wrong_use_is_one_line_and_writes_nothing(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert steadygrad("bench", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text, message",
    [
        ("tasks = 3", "expected tasks ="),
        ('tasks = ["parity"]\nlerning_rate = 1.0', "no option 'lerning_rate'"),
        ('tasks = ["parity"]\nseeds = "many"', "seeds: expected a whole number, got 'many'"),
        ("tasks = [", "cannot be read as TOML"),
    ],
)
def test_a_bad_file_is_refused(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "g.toml").write_text(text)
    assert steadygrad("bench", str(tmp_path / "g.toml"), "--out", str(tmp_path / "o")) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
