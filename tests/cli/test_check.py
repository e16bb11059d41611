"""The commands that look and judge: diagnose, check, explain. Output, JSON and exit codes."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steadygrad.cli import main
from steadygrad.diagnosis import FAULTS, Finding, check
from steadygrad.record import Record, read
from steadygrad.remedies import REMEDIES, ranked

QUICK = ("--hidden", "8", "--max-steps", "20", "--validate-every", "10", "--threads", "1")

SOURCE = """
import torch

torch.manual_seed(0)

def dying():
    model = torch.nn.LSTM(3, 8)
    x = torch.randn(60, 4, 3)
    return model, lambda: model(x)[0][-1].square().mean()

def nothing():
    return 3

def no_loss():
    return torch.nn.LSTM(3, 8), 5

def no_layer():
    return torch.nn.Linear(2, 2), lambda: 0
"""


def run(*arguments: str | Path, code: int = 0) -> None:
    assert main([str(a) for a in arguments]) == code


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    data = folder / "wave.csv"
    data.write_text("y\n" + "\n".join(f"{v:.4f}" for v in np.sin(np.arange(200) / 3)) + "\n")
    remedy = ("--remedies", "forget_bias", "--json")
    run("train", data, *QUICK, "--out", folder / "out", "--budget", "1", *remedy)
    return folder / "out"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # another test's, of this name
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A record with a finding that stands, one that is gone, and one that came back."""
    path = tmp_path / "run.db"

    def found(fault: str, layer: str = "rnn") -> dict[str, Any]:
        return Finding(fault, layer, f"{fault} in {layer}.", confidence=0.9).to_record()

    gone = {"layer": "rnn", "gate": None}
    with Record.create(path, config={}) as record:
        for step in range(1, 41):
            record.scalars(step, {"loss": 1.0, "grad_norm": 1.0, "grad_norm_clipped": 1.0})
            if step == 3:
                record.finding(step, found("vanishing"))
                record.finding(step, found("exploding"))
                record.finding(step, found("saturated"))
            if step == 9:
                for fault in ("exploding", "saturated"):
                    record.event(step, "resolved", "gone", fault=fault, **gone)
            if step == 20:
                record.finding(step, found("saturated"))
        record.note("verdict", "vanishing")
    return path


def test_check_says_it_by_its_exit_code(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("check", broken, code=1)
    told = capsys.readouterr().out
    assert told.startswith("failed: ") and "40 steps, verdict vanishing" in told
    assert "vanishing: vanishing in rnn. (confidence 0.90)" in told and "exploding" not in told
    run("check", broken, "--fail-on", "exploding,nonfinite", code=0)
    told = capsys.readouterr().out
    assert told.startswith("passed: ") and "(not counted) vanishing" in told
    run("check", broken, "--fail-on", "exploding", "--ever", code=1)
    run("check", broken.parent, "--fail-on", "saturated", code=1)  # it came back


def test_check_as_json(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("check", broken, "--fail-on", "vanishing, dead", "--json", code=1)
    document = json.loads(capsys.readouterr().out)
    assert document["failed"] and document["fail_on"] == ["vanishing", "dead"]
    assert [f["fault"] for f in document["findings"]] == ["vanishing"]
    assert [f["fault"] for f in document["others"]] == ["saturated"]
    assert [f["fault"] for f in document["resolved"]] == ["exploding", "saturated"]
    assert document["steps"] == 40 and document["verdict"] == "vanishing"


def test_check_judges_the_losses_that_a_watch_does_not_see(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with Record.create(path, config={}) as record:
        for step in range(1, 41):
            record.scalars(step, {"loss": 2.0, "update_ratio": 1e-8})
    with read(path) as record:
        checked = check(record)
        assert checked.failed and [f["fault"] for f in checked.findings] == ["lr-low"]
        assert not check(record, ["nonfinite"]).failed


def test_check_refuses_wrong_use(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, text in [
        ((broken, "--fail-on", "explodin"), "no fault 'explodin'; there are: nonfinite"),
        ((broken, "--fail-on", ","), "no fault named"),
        ((tmp_path / "none.db",), "no such file"),
    ]:
        run("check", *arguments, code=2)
        assert text in capsys.readouterr().err


def test_a_finished_run_is_checked_and_looked_at_again(
    finished: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run("check", finished, "--fail-on", "nonfinite,exploding")
    assert "passed" in capsys.readouterr().out
    page = tmp_path / "look.html"
    run("diagnose", finished, "--lag", "2", "--out", page)
    told = capsys.readouterr().out
    assert "verdict: healthy" in told and "recurrent" in told and page.read_text().startswith("<!")
    run("diagnose", finished, "--lag", "100000", "--json", code=1)
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] in ("truncated", "vanishing") and document["lag"] == 100000


def test_a_run_whose_data_has_moved(
    finished: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = finished.parent / "wave.csv"
    moved = data.rename(tmp_path / "moved.csv")
    try:
        run("diagnose", finished, code=2)
        assert "give the path of the run's data with --data" in capsys.readouterr().err
        run("diagnose", finished, "--data", moved, code=1)  # no lag was given: not judged
    finally:
        moved.rename(data)


@pytest.mark.parametrize("name", ["mine:dying", "mine.py:dying"])
def test_diagnose_a_model_of_the_readers_own(
    source: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("diagnose", name, "--lag", "59", code=1)
    assert "verdict: vanishing" in capsys.readouterr().out
    run("diagnose", name, "--rows", "1", "--json", code=1)
    document = json.loads(capsys.readouterr().out)
    assert "no lag was given" in document["not_judged"][0]["why"]
    assert (
        document["verdict"] == "not judged" and "over 1 seq" in document["layers"][0]["exactness"]
    )


def test_diagnose_refuses_wrong_use(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in [
        (("nowhere",), "no such file or folder"),
        (("nowhere:f",), "nowhere: no such module"),
        (("nowhere.py:f",), "no such file"),
        (("mine.py:nobody",), "mine.py defines no 'nobody'; there are: dying"),
        (("mine.py:nothing",), "returns (model, loss_fn)"),
        (("mine.py:no_loss",), "cannot be called: 5"),
        (("mine.py:no_layer",), "must return a scalar loss"),
        ((str(source.parent),), "holds no run.db"),
        (("mine.py:dying", "--lag", "0"), "--lag 0: expected at least 1"),
        (("mine.py:dying", "--rows", "0"), "--rows 0: expected at least 1"),
    ]:
        run("diagnose", *arguments, code=2)
        assert text in capsys.readouterr().err


@pytest.mark.parametrize("fault", FAULTS)
def test_explain_is_taken_from_the_code(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("explain", fault)
    told = capsys.readouterr().out
    flat = " ".join(told.split())
    assert FAULTS[fault].meaning in flat and "Measured:" in told
    for name in ranked(fault):
        assert REMEDIES[name].claim in flat
    run("explain", fault, "--json")
    document = json.loads(capsys.readouterr().out)
    assert list(document["remedies"]) == list(ranked(fault))
    named = {n for n, r in REMEDIES.items() if fault in r.helps}
    assert named <= set(document["remedies"]) | set(document["others"])


def test_explain_lists_and_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    run("explain")
    told = capsys.readouterr().out
    assert all(name in told for name in ("vanishing", "lr-low"))
    run("explain", "--json")
    assert list(json.loads(capsys.readouterr().out)) == list(FAULTS)
    run("explain", "vanish", code=2)
    assert "there are: nonfinite" in capsys.readouterr().err
