"""The harness of published results: what is kept, what is done again, and the committed tables."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from benchmarks.papers.harness import command, config, rows
from benchmarks.papers.harness.command import Options
from benchmarks.papers.harness.ledger import Ledger
from rich.console import Console  # noqa: TID251

from docs import leaderboard, papers
from steadygrad.bench.paper_table import MARK, Paper, as_csv, as_text, cells, find, sheet, to_json
from steadygrad.cli.app import run
from steadygrad.cli.bench_papers import _print
from steadygrad.errors import InputError
from tests.helpers.forked import python

PAPERS = Path(__file__).parents[2] / "benchmarks" / "papers"
FOLDERS = sorted(path.parent.name for path in PAPERS.glob("*/config.toml"))
CONFIG = """
[paper]
number = 3
title = "Someone, Something, 1999"
setting = "T = {steps}"
method = "{method}"
seeds = 3
budget = "{updates} updates"
scaled = true
[training]
updates = 1000
[[runs]]
steps = 10
method = "a"
[[runs.rows]]
quantity = "loss"
published = 0.5
why = "shorter"
[[runs.rows]]
quantity = "solved"
statistic = "count"
unit = "solved of {seeds}"
[[runs]]
steps = 20
method = "b"
[[runs.rows]]
quantity = "loss"
statistic = "mean"
among = "solved"
better = "higher"
[full.each]
steps = 99
[full.training]
updates = 5000
"""
ALL = Options(False, False, False, False, None, "", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "config.toml").write_text(CONFIG)
    return tmp_path / "some"


class Trainer:
    """Counts what it is asked for; loss is the seed, and seed 0 solves nothing."""

    def __init__(self, fail_at: int = 99) -> None:
        self.asked: list[tuple[int, int]] = []
        self.fail_at = fail_at

    def __call__(self, settings: dict[str, Any], seed: int) -> dict[str, Any]:
        if len(self.asked) == self.fail_at:
            raise KeyboardInterrupt
        self.asked.append((settings["steps"], seed))
        assert "rows" not in settings
        return {"loss": float(seed), "solved": seed > 0, "seconds": 60.0}


def measure(folder: Path, trainer: Trainer, options: Options = ALL, full: bool = False) -> Ledger:
    read = config.read(folder, full)
    ledger = Ledger(read)
    command.measure(read, ledger, trainer, options)
    return ledger


def test_an_interrupted_measurement_goes_on_and_repeats_nothing(folder: Path) -> None:
    first, second = Trainer(fail_at=4), Trainer()
    with pytest.raises(KeyboardInterrupt):
        measure(folder, first)
    measure(folder, second)
    assert first.asked + second.asked == [(s, k) for s in (10, 20) for k in range(3)]


def test_a_changed_setting_does_anew_what_it_touches_alone(folder: Path) -> None:
    measure(folder, Trainer())
    path, again = folder / "config.toml", Trainer()
    path.write_text(CONFIG.replace("steps = 20", "steps = 21").replace("published = 0.5", ""))
    ledger = measure(folder, again)
    assert again.asked == [(21, k) for k in range(3)]
    assert ledger.strangers(config.read(folder).runs) == 3
    path.write_text(CONFIG.replace("updates = 1000", "updates = 2000"))
    everything = Trainer()
    measure(folder, everything)
    assert len(everything.asked) == 6


def test_rows_say_what_was_found(folder: Path) -> None:
    ledger = measure(folder, Trainer())
    loss, solved, mean = rows.result(config.read(folder), ledger).rows
    assert (loss.ours, loss.low, loss.high, loss.published) == (1.0, 0.0, 2.0, 0.5)
    assert (solved.ours, solved.unit) == (2, "solved of 3")
    assert (mean.ours, mean.low) == (1.5, 1.0)  # seeds 1 and 2 alone
    assert (loss.setting, loss.method, loss.budget) == ("T = 10", "a", "1,000 updates")
    assert loss.command == "python -m benchmarks.papers.some" and loss.seconds == 60


def test_what_is_no_number_counts_as_the_worst(folder: Path) -> None:
    read = config.read(folder)
    ledger = Ledger(read)
    for seed, value in enumerate((0.1, math.nan, math.nan)):
        for entry in read.runs:
            ledger.add(entry, seed, {"loss": value, "solved": True, "seconds": 1.0})
    found = rows.result(read, Ledger(read))  # read back
    assert found.rows[0].ours == math.inf and found.rows[2].ours == -math.inf
    assert json.loads(to_json([found]))["papers"][0]["rows"][0]["ours"] == "inf"


def test_the_full_configuration_has_files_of_its_own(folder: Path) -> None:
    trainer = Trainer()
    ledger = measure(folder, trainer, full=True)
    assert [s for s, _ in trainer.asked] == [99] * 6
    assert not (folder / "runs.jsonl").exists() and (folder / "full.result.json").exists()
    row = rows.result(config.read(folder, full=True), ledger).rows[0]
    assert not row.scaled and row.why == "" and row.command.endswith("--full")
    assert row.budget == "5,000 updates"


def test_nothing_fuller_than_full(folder: Path) -> None:
    (folder / "config.toml").write_text(CONFIG.partition("[full.each]")[0])
    with pytest.raises(InputError, match="what was published"):
        config.read(folder, full=True)


def test_only_and_seeds_choose(folder: Path) -> None:
    trainer = Trainer()
    measure(folder, trainer, Options(False, False, False, False, 1, "method b", 1))
    assert trainer.asked == [(20, 0)]
    with pytest.raises(InputError, match="there are: steps 10, method a"):
        measure(folder, trainer, Options(False, False, False, False, None, "x", 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'quantity = "loss"',
            'quantity = "los"',
            "asks for 'los'; attempt returned: seconds, loss",
        ),
        ('among = "solved"', 'among = "sold"', "asks for 'sold'"),
        ('statistic = "mean"', 'statistic = "mode"', "'mode': expected one of median, mean, count"),
        ("number = 3", "", "has no number"),
    ],
)
def test_a_wrong_configuration_is_named(old: str, new: str, message: str, folder: Path) -> None:
    (folder / "config.toml").write_text(CONFIG.replace(old, new))
    with pytest.raises(InputError, match=message):
        measure(folder, Trainer())


def test_a_scaled_row_is_marked_in_the_text(folder: Path) -> None:
    found = [rows.result(config.read(folder), measure(folder, Trainer()))]
    assert f"0.5 {MARK}" in cells(found[0].rows[0])
    assert MARK in as_text(found).splitlines()[-1]
    assert find(folder.parent) == found
    assert len(as_csv(found).splitlines()) == 4


def test_a_wide_table_sets_the_figures_of_a_method_side_by_side(folder: Path) -> None:
    every = CONFIG.partition("[full.each]")[0].partition("[[runs]]")[0]
    every = every.replace("scaled = true", 'scaled = true\nlayout = "wide"')
    one = '[[rows]]\nquantity = "loss"\n[[rows]]\nquantity = "solved"\nstatistic = "mean"\n'
    runs = '[[runs]]\nsteps = 10\nmethod = "a"\n[[runs]]\nsteps = 20\nmethod = "b"\n'
    path = folder / "config.toml"
    path.write_text(every + one + runs)
    found = rows.result(config.read(folder), measure(folder, Trainer()))
    told = sheet(found)
    expected = ("setting", "method", "loss", "lowest", "highest", "solved", "seeds", "minutes")
    assert told.head == expected and told.scaled == (True, True)
    assert told.lines[0] == (f"T = 10 {MARK}", "a", "1", "0", "2", "0.667", "3", "1.0")
    assert len(as_csv([found]).splitlines()) == 5  # all rows, with their own spreads
    text = as_text([found, Paper("x", "Long", "", found.rows)])  # each with its own columns
    assert "solved, mean" not in text and text.count("setting") == 2
    path.write_text(every + one.replace('"loss"', '"loss"\npublished = 1') + runs)
    with pytest.raises(InputError, match="no room for published"):
        rows.result(config.read(folder), Ledger(config.read(folder)))
    path.write_text((every + one + runs).replace('"wide"', '"tall"'))
    with pytest.raises(InputError, match="layout 'tall': expected"):
        rows.result(config.read(folder), Ledger(config.read(folder)))


@pytest.mark.parametrize("name", FOLDERS)
def test_committed_rows_are_those_of_the_committed_runs(name: str) -> None:
    for full in (False, True):
        prefix = "full." if full else ""
        if not full or (PAPERS / name / f"{prefix}runs.jsonl").exists():
            read = config.read(PAPERS / name, full)
            now = to_json([rows.result(read, Ledger(read))]) + "\n"
            path = PAPERS / name / f"{prefix}result.json"
            again = f"stale: run python -m benchmarks.papers.{name} --table"
            assert path.read_text(encoding="utf-8") == now, again
            assert Ledger(read).strangers(read.runs) == 0


@pytest.mark.parametrize("name", FOLDERS)
def test_every_row_says_where_it_comes_from(name: str) -> None:
    read = config.read(PAPERS / name)
    for row in rows.result(read, Ledger(read)).rows:
        assert row.setting and row.budget and row.seeds
        assert row.source if row.published is not None else True
    if any(row.scaled for row in rows.result(read, Ledger(read)).rows):
        assert config.read(PAPERS / name, full=True).runs


def test_the_command_trains_nothing_with_table() -> None:
    command = ("-m", "benchmarks.papers.pascanu", "--table", "--json")
    done = python(*command, cwd=PAPERS.parents[1])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["papers"][0]["rows"][0]["published"] == 21000


def test_the_page_is_what_the_committed_rows_say() -> None:
    written = papers.PAGE.read_text(encoding="utf-8")
    assert written == papers.page(), "docs/papers.md is stale: run python -m docs.papers"


def test_the_leaderboard_is_what_the_committed_rows_say() -> None:
    text = leaderboard.page()
    written = leaderboard.PAGE.read_text(encoding="utf-8")
    assert written == text, "docs/leaderboard.md is stale: run python -m docs.leaderboard"
    told = json.loads(leaderboard.FILE.read_text(encoding="utf-8"))
    for system, (folder, setting, _, scale) in leaderboard.SETS.items():
        (paper,) = (p for p in find(PAPERS) if p.name == folder)
        for row in paper.rows:  # what the table prints as published is in the authors' files
            if row.setting == setting and row.published is not None:
                scores = told[system][row.method.partition(",")[0]]
                assert row.published == pytest.approx(scale * scores["published"], rel=5e-3)


def test_bench_papers_prints_every_row(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = ["bench", "papers", "--folder", str(PAPERS)]
    assert run([*given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["papers"]
    numbers = [row["number"] for paper in told for row in paper["rows"]]
    assert {paper["name"] for paper in told} == set(FOLDERS)
    firsts = [min(row["number"] for row in paper["rows"]) for paper in told]
    assert firsts == sorted(firsts) and min(numbers) == 1
    assert run([*given, "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    for paper in told:
        assert paper["title"] in text and f"python -m benchmarks.papers.{paper['name']}" in text
    csv = (tmp_path / "out" / "papers.csv").read_text(encoding="utf-8")
    tex = (tmp_path / "out" / "papers.tex").read_text(encoding="utf-8")
    html = (tmp_path / "out" / "papers.html").read_text(encoding="utf-8")
    assert len(csv.splitlines()) == len(numbers) + 1
    lines = sum(len(sheet(paper).lines) for paper in find(PAPERS))
    assert tex.count(r"\\") == lines + tex.count(r"\toprule")
    assert tex.count(r"\dag{}") == text.count(f" {MARK}")
    assert html.count("<tr>") == lines + len(told)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no folder in it holds a result.json"), ("{}", "papers.some --table")],
)
def test_a_wrong_folder_is_refused(
    content: str | None,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / "some").mkdir()
        (tmp_path / "some" / "result.json").write_text(content)
    assert run(["bench", "papers", "--folder", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_a_terminal_is_given_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [rows.result(config.read(folder), measure(folder, Trainer()))]
    _print(Console(force_terminal=True, width=150), found)
    text = capsys.readouterr().out
    assert "Someone, Something, 1999" in text and MARK in text and "shorter" in text
