"""A training run ends with the best weights, honest scores, and a record that tells all of it."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from steadygrad.record import read
from steadygrad.tasks import Batch, Task, read_forecast
from steadygrad.train import Outcome, TrainConfig, checkpoint, train
from steadygrad.train.checkpoint import Checkpoint
from steadygrad.train.data import guess_kind
from steadygrad.train.events import (
    Event,
    Read,
    Saved,
    Started,
    Stepped,
    Understood,
    Validated,
)
from steadygrad.train.gradient import Gradient
from steadygrad.train.model import SequenceModel
from steadygrad.train.progress import Progress

ROWS = 400


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two waves of unrelated periods: no single season repeats, a small network learns it."""
    t = np.arange(ROWS)
    y = np.sin(t / 3) + np.sin(t / 4.7)
    path = tmp_path_factory.mktemp("data") / "wave.csv"
    path.write_text("y\n" + "\n".join(f"{v:.5f}" for v in y) + "\n")
    return path


def quick(file: Path, out: Path) -> TrainConfig:
    return TrainConfig(
        file,
        window=16,
        horizon=4,
        hidden=16,
        max_steps=250,
        validate_every=25,
        learning_rate=1e-2,
        threads=1,
        out=out,
    )


@pytest.fixture(scope="module")
def ran(wave: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, list[Event]]:
    events: list[Event] = []
    outcome = train(quick(wave, tmp_path_factory.mktemp("run")), events.append)
    return outcome, events


def weights_of(outcome: Outcome) -> dict[str, torch.Tensor]:
    assert outcome.weights is not None
    return load_file(outcome.weights)


def test_it_learns_and_beats_every_naive_answer(ran: tuple[Outcome, list[Event]]) -> None:
    outcome, _ = ran
    assert outcome.status == "finished" and outcome.beats_naive
    ours = [s for s in outcome.scores if s.ours and s.unit == "RMSE"]
    naive = [s.value for s in outcome.scores if not (s.ours or s.learnt) and s.unit == "RMSE"]
    assert len(ours) == 1 and len(naive) >= 2
    assert ours[0].value < 0.5 * min(naive)


def test_the_score_is_that_of_the_best_weights(
    ran: tuple[Outcome, list[Event]], wave: Path
) -> None:
    outcome, events = ran
    task = read_forecast(wave, window=16, horizon=4)
    model = SequenceModel(task, "lstm", 16)
    model.load_state_dict(weights_of(outcome))
    validated = [e for e in events if isinstance(e, Validated)]
    assert mean_loss(task, model, "val") == pytest.approx(min(e.loss for e in validated), rel=1e-5)
    # Scored by hand, in the unit of the file, one window after the other.
    y, squares = task.y.numpy(), []
    for number, origin in enumerate(task.origins("test")):
        window = task.batches("test", 1)[number].inputs
        with torch.no_grad():
            change = model(window)[0][0].numpy() * task.scale
        squares.append((y[origin] + change - y[origin + 1 : origin + 5]) ** 2)
    ours = next(s for s in outcome.scores if s.ours and s.unit == "RMSE")
    assert ours.value == pytest.approx(math.sqrt(np.mean(squares)), rel=1e-4)


def mean_loss(task: Task, model: SequenceModel, split: str) -> float:
    assert split in ("train", "val", "test")
    batches: list[Batch] = list(task.batches(split, 1))
    with torch.no_grad():
        losses = [task.loss(model(b.inputs)[0], b.targets).item() for b in batches]
    return float(np.mean(losses))


def test_the_record_tells_the_run(ran: tuple[Outcome, list[Event]]) -> None:
    outcome, events = ran
    run = read(outcome.record)
    stepped = [e for e in events if isinstance(e, Stepped)]
    steps, losses = run.scalars("loss")
    np.testing.assert_array_equal(steps, [e.step for e in stepped])
    np.testing.assert_array_equal(losses, [e.loss for e in stepped])
    np.testing.assert_array_equal(steps, np.arange(1, outcome.step + 1))
    norm, clipped = run.scalars("grad_norm")[1], run.scalars("grad_norm_clipped")[1]
    assert clipped.max() <= 1 + 1e-5
    np.testing.assert_allclose(clipped, np.minimum(norm, 1), rtol=1e-4)
    np.testing.assert_array_equal(run.steps("val_loss"), np.arange(0, 251, 25))
    notes = run.notes
    assert notes["kind"] == "train" and notes["verdict"] == outcome.verdict
    assert [s["value"] for s in notes["scores"]] == [s.value for s in outcome.scores]
    assert notes["data"]["rows"] == ROWS and notes["model"]["hidden"] == 16
    assert notes["layers"][0]["time_steps"] == 16
    assert ("log10_grad", "recurrent", "h") in run.quantities()
    assert run.config["hidden"] == 16 and run.config["file"].endswith("wave.csv")
    run.close()


def test_events_come_in_order(ran: tuple[Outcome, list[Event]]) -> None:
    events = [e for e in ran[1] if not isinstance(e, Read)]
    assert isinstance(events[0], Understood) and isinstance(events[1], Started)
    assert events[1].max_steps == 250
    assert isinstance(events[-1], Saved)
    seconds = [e.seconds for e in events if isinstance(e, Stepped)]
    assert seconds == sorted(seconds)


def test_a_run_repeats_bit_for_bit_and_the_seed_matters(
    ran: tuple[Outcome, list[Event]], wave: Path, tmp_path: Path
) -> None:
    torch.manual_seed(99)  # what was drawn before must not matter
    before = torch.get_rng_state()
    again = train(quick(wave, tmp_path / "a"))
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
    torch.testing.assert_close(weights_of(again), weights_of(ran[0]), rtol=0, atol=0)
    other = train(replace(quick(wave, tmp_path / "b"), seed=1))
    assert not torch.equal(
        weights_of(other)["recurrent.weight_hh_l0"], weights_of(again)["recurrent.weight_hh_l0"]
    )


CHANGES: dict[str, object] = {
    "cell": "gru",
    "layers": 2,
    "dropout": 0.2,
    "remedies": ("orthogonal_init",),
    "clip": 0.01,
    "epochs": 1,
    "max_steps": 20,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "window": 12,
    "horizon": 3,
    "hidden": 8,
    "seed": 5,
    "validate_every": 7,
}


def forty_steps(wave: Path, out: Path) -> TrainConfig:
    return replace(quick(wave, out), max_steps=40)


@pytest.fixture(scope="module")
def kept(wave: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    return describe(train(forty_steps(wave, tmp_path_factory.mktemp("base"))))


@pytest.mark.parametrize("name", CHANGES)
def test_every_option_changes_the_run(
    name: str, kept: tuple[object, ...], wave: Path, tmp_path: Path
) -> None:
    changed = replace(forty_steps(wave, tmp_path), **{name: CHANGES[name]})  # pyright: ignore[reportArgumentType]
    assert describe(train(changed)) != kept


def describe(outcome: Outcome) -> tuple[object, ...]:
    run = read(outcome.record)
    series = [run.scalars(name)[1].tolist() for name in ("loss", "val_loss")]
    run.close()
    return outcome.step, *series


def test_no_option_is_left_out_of_the_tests() -> None:
    elsewhere = {
        "file", "reading", "kind", "patience", "target", "symbol", "lag", "budget", "device",
        "threads", "out", "checkpoint_every_seconds", "resume", "overwrite", "rollbacks",
        "input_lags", "output_lags", "free_run",
    }  # fmt: skip
    assert {f.name for f in fields(TrainConfig)} == set(CHANGES) | elsewhere


def test_every_option_is_explained() -> None:
    told = TrainConfig.__doc__ or ""
    assert all(f"        {f.name}: " in told for f in fields(TrainConfig))


def test_with_a_lag_that_is_not_reached_nothing_is_healthy(wave: Path, tmp_path: Path) -> None:
    config = replace(quick(wave, tmp_path), window=64, cell="rnn", learning_rate=1e-4, max_steps=3)
    assert train(config).verdict == "healthy"
    # While the loss falls a vanishing gradient is no verdict yet, and no health either.
    assert train(replace(config, lag=63, overwrite=True)).verdict == "not judged"


def test_any_cell_of_the_house_trains(wave: Path, tmp_path: Path) -> None:
    config = replace(quick(wave, tmp_path), max_steps=3, cell="elman:nonlinearity=relu")
    outcome = train(config)
    assert outcome.status == "finished"
    assert "recurrent.weight_hh_l0" in weights_of(outcome)


def test_patience_ends_a_run_and_rates_are_halved(wave: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    config = replace(
        quick(wave, tmp_path), learning_rate=0.5, patience=4, max_steps=2000, validate_every=5
    )
    outcome = train(config, events.append)
    assert outcome.step < 2000 and "no better validation since step" in outcome.text
    losses = [e.loss for e in events if isinstance(e, Validated)]
    assert len(losses) - 1 - int(np.argmin(losses)) == 4
    assert [e.learning_rate for e in events if isinstance(e, Validated)][-1] < 0.5


def test_progress_counts_from_the_last_improvement() -> None:
    progress = Progress()
    judged = [progress.judge(loss) for loss in (3.0, 2.0, 2.0, 2.5, math.nan, 1.0, 1.5)]
    assert judged == [True, True, False, False, False, True, False]
    assert progress.stale == 1 and progress.halvings == 1
    assert progress.learning_rate(1.0) == 0.5


@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_a_loss_that_is_lost_ends_the_run_with_the_best_weights(
    wave: Path, tmp_path: Path, clip: float
) -> None:
    config = replace(
        quick(wave, tmp_path),
        cell="elman:nonlinearity=relu",
        learning_rate=100,
        clip=clip,
        window=64,
    )
    outcome = train(config)
    assert outcome.status == "diverged" and outcome.verdict == "nonfinite"
    assert all(t.isfinite().all() for t in weights_of(outcome).values())
    assert len(outcome.scores) >= 4 and all(math.isfinite(s.value) for s in outcome.scores)
    run = read(outcome.record)
    assert [e["kind"] for e in run.events()].count("diverged") == 1
    assert run.notes["verdict"] == "nonfinite"
    assert any(f["fault"] == "nonfinite" for f in run.findings())
    run.close()


def test_a_remedy_is_recorded_with_its_claim(wave: Path, tmp_path: Path) -> None:
    config = replace(
        quick(wave, tmp_path),
        remedies=("orthogonal_init", "clip_value:max_value=0.001"),
        max_steps=2,
    )
    outcome = train(config)
    run = read(outcome.record)
    assert [r["name"] for r in run.notes["remedies"]] == ["orthogonal-init", "clip-value"]
    assert all(r["claim"] for r in run.notes["remedies"])
    assert run.scalars("grad_norm_clipped")[1].max() < run.scalars("grad_norm")[1].min()
    run.close()


@pytest.mark.parametrize(
    ("remedy", "status"),
    [
        ("", "diverged"),
        ("nonfinite:action=raise", "diverged"),
        ("nonfinite:action=skip", "finished"),
        ("nonfinite:action=zero", "finished"),
        ("skip-spike", "finished"),
    ],
)
def test_one_broken_gradient_ends_the_run_unless_a_remedy_sees_to_it(
    wave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remedy: str, status: str
) -> None:
    clip, calls = Gradient.clip, itertools.count(1)

    def poisoned(gradient: Gradient) -> float:
        if next(calls) == 3:
            grad = gradient.parameters[0].grad
            assert grad is not None
            grad[0] = math.nan
        return clip(gradient)

    monkeypatch.setattr(Gradient, "clip", poisoned)
    chosen = (remedy,) if remedy else ()
    outcome = train(replace(quick(wave, tmp_path), remedies=chosen, max_steps=6))
    assert outcome.status == status
    assert outcome.step == (2 if status == "diverged" else 6)
    run = read(outcome.record)
    if status == "finished":
        steps, broken = run.scalars(f"{remedy.partition(':')[0]} nonfinite")
        assert dict(zip(steps.tolist(), broken.tolist(), strict=True))[3] == 1
        assert broken.sum() == 1
        assert run.scalars("grad_norm_clipped")[1].max() <= 1.0 + 1e-6
    else:
        assert "gradient was not finite at step 3" in outcome.text
    run.close()


def test_a_penalty_is_descended_but_not_reported(wave: Path, tmp_path: Path) -> None:
    runs = []
    for name, given in (("plain", ()), ("treated", ("omega:alpha=1000",))):
        config = replace(quick(wave, tmp_path), out=tmp_path / name, remedies=given, max_steps=2)
        outcome = train(config)
        run = read(outcome.record)
        runs.append((run.scalars("loss")[1], weights_of(outcome)))
        run.close()
    (loss, weights), (other_loss, other) = runs
    assert other_loss[0] == loss[0]
    moved = {name for name, value in weights.items() if not torch.equal(value, other[name])}
    assert any("weight_hh" in name for name in moved)


def test_a_checkpoint_comes_back_whole_whatever_its_first_byte(tmp_path: Path) -> None:
    # The length of the header comes first, and 0x80, where a pickle begins, is one of the lengths.
    first_bytes = set()
    for size in range(0, 2048, 8):
        path = tmp_path / "checkpoint.safetensors"
        tensors = {"model/a": torch.arange(3.0), "rng/cpu": torch.get_rng_state()}
        checkpoint.write(path, Checkpoint(tensors, {"padding": "x" * size, "best": math.inf}))
        first_bytes.add(path.read_bytes()[0])
        saved = checkpoint.read(path)
        torch.testing.assert_close(dict(saved.tensors), tensors, rtol=0, atol=0)
        assert saved.facts["best"] == math.inf
    assert 0x80 in first_bytes


def test_kinds_are_told_by_name_and_content(tmp_path: Path) -> None:
    cases = {
        "a.csv": ("no, numbers\nat, all\n", "forecast"),
        "b.txt": ("a;b\n1;2\n3;4\n5;6\n", "forecast"),
        "c.txt": ("Hello, world.\nOne, two.\nThree, four.\n", "text"),
        "d": ("just words\n", "text"),
    }
    for name, (content, kind) in cases.items():
        (tmp_path / name).write_text(content)
        assert guess_kind(tmp_path / name) == kind, name


def test_outside_the_main_thread(wave: Path, tmp_path: Path) -> None:
    # No signal handler may be set there; everything else is as ever.
    here = train(replace(quick(wave, tmp_path / "here"), max_steps=5))
    with ThreadPoolExecutor(1) as pool:
        config = replace(quick(wave, tmp_path / "there"), max_steps=5)
        there = pool.submit(train, config).result()
    torch.testing.assert_close(weights_of(there), weights_of(here), rtol=0, atol=0)


def test_the_library_prints_nothing(
    wave: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(replace(quick(wave, tmp_path), max_steps=2))
    assert capfd.readouterr() == ("", "")
