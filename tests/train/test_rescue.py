"""A training that diverges rolls back to its last good state and continues with a remedy."""

import dataclasses
import json
import math
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from steadygrad.cli import main
from steadygrad.record import read
from steadygrad.report import write
from steadygrad.tasks.forecast import _Windows
from steadygrad.train import Outcome, TrainConfig, checkpoint, train
from steadygrad.train.events import Event, Remark, Stepped
from steadygrad.train.progress import Progress
from steadygrad.train.rescue import Losses, Rescue, remedy_for


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "wave.csv"
    rows = np.sin(np.arange(300) / 3) + np.sin(np.arange(300) / 4.7)
    path.write_text("y\n" + "\n".join(f"{v:.5f}" for v in rows) + "\n")
    return path


def quick(file: Path, out: Path, **options: Any) -> TrainConfig:
    plain: dict[str, Any] = {
        "window": 12,
        "horizon": 2,
        "hidden": 12,
        "max_steps": 120,
        "validate_every": 20,
        "learning_rate": 1e-2,
        "threads": 1,
        "budget": 0.0,
        "rollbacks": 3,
    }
    return TrainConfig(file, out=out, **(plain | options))


def rmse(outcome: Outcome) -> float:
    return next(s.value for s in outcome.scores if s.ours and s.unit == "RMSE")


def poison(monkeypatch: pytest.MonkeyPatch, batches: set[int]) -> None:
    """Of every epoch some batches of the training part hold a NaN."""
    whole = _Windows.__getitem__

    def poisoned(self: _Windows, index: int) -> Any:
        batch = whole(self, index)
        if index in batches and batch.inputs.shape[1] == 64 and len(self) <= 4:
            batch.inputs[3, 1] = torch.nan
        return batch

    monkeypatch.setattr(_Windows, "__getitem__", poisoned)


def speed_up(monkeypatch: pytest.MonkeyPatch, step: int, factor: float) -> None:
    """From a step on the learning rate is so many times what it should be."""
    plain = Progress.learning_rate

    def faster(self: Progress, start: float) -> float:
        return plain(self, start) * (factor if self.step >= step else 1)

    monkeypatch.setattr(Progress, "learning_rate", faster)


@pytest.fixture(scope="module")
def healthy(wave: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    outcome = train(quick(wave, tmp_path_factory.mktemp("healthy")))
    assert outcome.status == "finished" and not outcome.rollbacks
    return outcome


def test_a_poisoned_batch(
    wave: Path, healthy: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {2})
    ended = train(quick(wave, tmp_path / "plain", rollbacks=0))
    assert ended.status == "diverged" and ended.step == 2 and not ended.rollbacks
    told: list[Event] = []
    outcome = train(quick(wave, tmp_path / "rescued"), told.append)
    assert outcome.status == "finished" and outcome.verdict == "not judged"
    (rollback,) = outcome.rollbacks  # once: the same batch of later epochs is left out, too
    assert rollback["diverged_at"] == 3 and rollback["back_to"] == 0
    assert rollback["remedy"] == "nonfinite" and rollback["cause"] == "nonfinite"
    assert rmse(outcome) < 1.3 * rmse(healthy)
    said = [e.text for e in told if isinstance(e, Remark) and e.kind == "rollback"]
    assert said == [
        "the loss was not finite at step 3; back to step 0, continued with nonfinite"
        " (rollback 1; before-rollback-1.safetensors undoes it)"
    ]
    with read(outcome.record) as run:
        (event,) = [e for e in run.events() if e["kind"] == "rollback"]
        assert event["text"] == said[0] and event["step"] == 0
        (finding,) = event["data"]["findings"]
        assert finding["fault"] == "nonfinite" and finding["evidence"]["tensor"] == "input"
        assert run.notes["rollbacks"] == [dict(rollback)]
        steps, losses = run.scalars("loss")
        np.testing.assert_array_equal(steps, np.arange(1, 121))
        assert math.isnan(losses[2])
        page = write([run], tmp_path / "report.html").read_text()
    assert said[0] in page


def test_a_learning_rate_that_jumps(
    wave: Path, healthy: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed_up(monkeypatch, 50, 100.0)
    options = {"cell": "elman:nonlinearity=relu", "clip": 0.0}
    plain = train(quick(wave, tmp_path / "plain", rollbacks=0, **options))
    outcome = train(quick(wave, tmp_path / "rescued", **options))
    assert outcome.status == "finished" and outcome.rollbacks
    for rollback in outcome.rollbacks:
        assert 50 < rollback["diverged_at"] and rollback["back_to"] == 40
    assert any(r["remedy"] == "learning-rate/8" for r in outcome.rollbacks)
    with read(outcome.record) as run, read(plain.record) as ended:
        first, last = run.scalars("val_loss")[1][[0, -1]]
        assert last < 1e-3 * ended.scalars("val_loss")[1][-1] and last < 1.5 * first
        assert rmse(outcome) <= rmse(plain)
        assert run.scalars("lr")[1][-1] < ended.scalars("lr")[1][-1]


def test_the_number_of_returns_is_limited(
    wave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed_up(monkeypatch, 30, math.nan)
    outcome = train(quick(wave, tmp_path, rollbacks=2))
    assert outcome.status == "diverged" and len(outcome.rollbacks) == 2
    assert [r["remedy"] for r in outcome.rollbacks] == ["nonfinite", "learning-rate/8"]
    assert [r["number"] for r in outcome.rollbacks] == [1, 2]
    assert outcome.scores  # of the best weights


def test_a_healthy_run_is_left_alone(wave: Path, healthy: Outcome, tmp_path: Path) -> None:
    """Bit for bit, watched over for a rescue or not."""
    plain = train(quick(wave, tmp_path, rollbacks=0))
    assert plain.weights is not None and healthy.weights is not None
    assert_same_weights(plain.weights, healthy.weights)


@pytest.mark.slow
def test_a_rescued_run_is_resumed_and_undone(
    wave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {2})
    whole = train(quick(wave, tmp_path / "whole"))

    def stop(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 50:
            signal.raise_signal(signal.SIGINT)

    out = tmp_path / "parts"
    assert train(quick(wave, out), stop).status == "interrupted"
    outcome = train(quick(wave, out, resume=True))
    assert outcome.rollbacks == whole.rollbacks
    assert outcome.weights is not None and whole.weights is not None
    assert_same_weights(outcome.weights, whole.weights)
    # Undone, it is the run as it was before the remedy, and ends as that would have.
    shutil.copy(out / outcome.rollbacks[0]["undo"], out / "checkpoint.safetensors")
    assert not checkpoint.read(out / "checkpoint.safetensors").facts["rescues"]
    assert train(quick(wave, out, resume=True, rollbacks=0)).status == "diverged"


def test_what_was_tried_is_not_tried_again() -> None:
    first = Rescue(1, "nonfinite", 5, 0, remedy_for("nonfinite", []), "", "")
    assert first.remedy == "nonfinite"
    assert remedy_for("nonfinite", [first]) == "learning-rate/8"
    again = dataclasses.replace(first, remedy="learning-rate/8")
    assert remedy_for("blown-up", [first, again]) == "learning-rate/8"


def test_a_spike_is_no_divergence() -> None:
    losses = Losses()
    for value in (0.5, 0.4, 9e9, 0.5, 8e9, 0.3, 0.4, 0.5, 0.4, 0.5):
        losses.see(value)
    assert not losses.blown(1.0)
    for _ in range(6):
        losses.see(6.0)
    assert losses.blown(1.0) and not losses.blown(2.0)
    losses.clear()
    assert not losses.blown(1.0)


def explained(out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, Any]]:
    """What ``steadygrad explain RUN`` says, in words and as JSON."""
    assert main(["explain", str(out)]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert main(["explain", str(out / "run.db"), "--json"]) == 0
    return words, json.loads(capsys.readouterr().out)


def test_explain_tells_that_a_rollback_held(
    wave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(monkeypatch, {2})

    def stop(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 50:
            signal.raise_signal(signal.SIGINT)

    assert train(quick(wave, tmp_path), stop).status == "interrupted"
    words, document = explained(tmp_path, capsys)
    assert "has held so far, to step 50" in words and document["status"] == "interrupted"
    train(quick(wave, tmp_path, resume=True))
    words, document = explained(tmp_path, capsys)
    (told,) = document["rollbacks"]
    assert (told["diverged_at"], told["back_to"], told["remedy"]) == (3, 0, "nonfinite")
    assert (told["held"], told["until"]) == ("yes", 120) and document["status"] == "finished"
    assert any("nonfinite" in text for text in told["findings"])
    for text in (
        "Rollbacks: 1 of 3 allowed.",
        "Step 3, non-finite numbers: the loss was not finite at step 3.",
        "Found then: nonfinite",
        "Back to step 0, continued with nonfinite (",
        "It held to the end, step 120.",
        "before-rollback-1.safetensors",
    ):
        assert text in words


def test_explain_tells_that_a_rollback_did_not_hold(
    wave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    speed_up(monkeypatch, 30, math.nan)
    train(quick(wave, tmp_path / "two", rollbacks=2))
    words, document = explained(tmp_path / "two", capsys)
    first, second = document["rollbacks"]
    assert (first["held"], second["held"], document["status"]) == ("no", "no", "diverged")
    assert first["until"] == second["diverged_at"] and second["until"] >= 31
    assert "continued with learning-rate/8 (every step is 1/8 as long)" in words
    assert words.count("It did not hold: diverged again at step") == 2
    train(quick(wave, tmp_path / "none", rollbacks=0))
    words, document = explained(tmp_path / "none", capsys)
    assert "none were allowed" in words and document["rollbacks"] == []


def test_explain_of_a_run_that_never_went_back(
    healthy: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    words, document = explained(healthy.record.parent, capsys)
    assert "finished, 120 steps, verdict healthy" in words and "Rollbacks: none." in words
    assert document["findings"] == [] and document["repair"] is None


def assert_same_weights(one: Path, other: Path) -> None:
    """Bit for bit; the options that the files tell beside may differ."""
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
