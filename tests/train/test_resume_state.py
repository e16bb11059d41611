"""What decides the future of a training is in its checkpoint: every attribute, every remedy."""

import json
import math
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from steadygrad.cli import main
from steadygrad.diagnosis import watch
from steadygrad.diagnosis.watching.saved import WatchFacts
from steadygrad.errors import InputError
from steadygrad.plain import fit
from steadygrad.record import read
from steadygrad.remedies import REMEDIES
from steadygrad.sealed import sealed
from steadygrad.train import Outcome, TrainConfig, checkpoint, train
from steadygrad.train.checkpoint import Checkpoint
from steadygrad.train.events import Event, Remark, Stepped
from steadygrad.train.gradient import Gradient
from steadygrad.train.loop import Loop
from steadygrad.train.progress import Progress
from steadygrad.train.state import STATE, undeclared


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "wave.csv"
    rows = np.sin(np.arange(260) / 3) + np.sin(np.arange(260) / 4.7)
    path.write_text("y\n" + "\n".join(f"{v:.5f}" for v in rows) + "\n")
    return path


def quick(file: Path, out: Path, **options: Any) -> TrainConfig:
    plain: dict[str, Any] = {
        "window": 8,
        "horizon": 1,
        "hidden": 6,
        "max_steps": 40,
        "validate_every": 8,
        "learning_rate": 1e-2,
        "threads": 1,
        "budget": 0.0,
        "lag": "none",
        "checkpoint_every_seconds": 1e9,
    }
    return TrainConfig(file, out=out, **(plain | options))


def stop_at(step: int) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == step:
            signal.raise_signal(signal.SIGINT)

    return tell


def stopped_and_resumed(config: TrainConfig, step: int) -> Outcome:
    assert train(config, stop_at(step)).status == "interrupted"
    return train(replace(config, resume=True))


def assert_same(one: Path, other: Path) -> None:
    """The same weights, counters, rollbacks and losses, to the last bit."""
    name = "checkpoint.safetensors"
    ends = [load_file(folder / name) for folder in (one, other)]
    ends = [{n: t for n, t in e.items() if not n.startswith("watch/")} for e in ends]
    torch.testing.assert_close(*ends, rtol=0, atol=0, equal_nan=True)
    facts = [checkpoint.read(folder / name).facts for folder in (one, other)]
    for key in ("rescues", "losses"):
        assert facts[0][key] == facts[1][key]
    with read(one / "run.db") as a, read(other / "run.db") as b:
        for scalar in ("loss", "val_loss", "lr"):
            for x, y in zip(a.scalars(scalar), b.scalars(scalar), strict=True):
                np.testing.assert_array_equal(x, y)


def speed_up(monkeypatch: pytest.MonkeyPatch, step: int, factor: float) -> None:
    plain = Progress.learning_rate

    def faster(self: Progress, start: float) -> float:
        return plain(self, start) * (factor if self.step >= step else 1)

    monkeypatch.setattr(Progress, "learning_rate", faster)


@pytest.mark.parametrize(
    ("at", "factor", "stop"), [(20, 1e4, 19), (20, 1e4, 13), (20, math.nan, 18), (9, 300.0, 22)]
)
def test_rollbacks_of_a_resumed_run(
    at: int, factor: float, stop: int, wave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stopped between the good state and the divergence: both what to go back to and the losses
    # that are judged by stand in the checkpoint, or the resumed run does something else.
    speed_up(monkeypatch, at, factor)
    config = quick(wave, tmp_path / "whole", rollbacks=3)
    whole = train(config)
    assert whole.rollbacks
    resumed = stopped_and_resumed(replace(config, out=tmp_path / "parts"), stop)
    assert (resumed.status, resumed.rollbacks) == (whole.status, whole.rollbacks)
    assert_same(tmp_path / "parts", tmp_path / "whole")


class Killed(BaseException):
    pass


@pytest.mark.parametrize("is_written", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_kill_in_a_rollback(
    is_written: bool, wave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between what a rollback removes from the record and the checkpoint that is back there.
    speed_up(monkeypatch, 20, 1e4)
    config = quick(wave, tmp_path / "whole", rollbacks=3, checkpoint_every_seconds=1e-9)
    train(config)
    config, plain = replace(config, out=tmp_path / "parts"), checkpoint.write

    def killed(path: Path, saved: Checkpoint) -> None:
        if path.name != "checkpoint.safetensors" or not saved.facts["rescues"]:
            return plain(path, saved)
        if is_written:
            plain(path, saved)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint, "write", killed)
        train(config)
    step = checkpoint.read(tmp_path / "parts" / "checkpoint.safetensors").facts["progress"]["step"]
    with read(tmp_path / "parts" / "run.db") as run:
        assert run.last_step() >= step  # nothing is missing that the checkpoint holds
    told: list[str] = []
    train(
        replace(config, resume=True),
        lambda event: told.append(event.kind) if isinstance(event, Remark) else None,
    )
    assert "gap" not in told
    assert_same(tmp_path / "parts", tmp_path / "whole")
    with read(tmp_path / "parts" / "run.db") as a, read(tmp_path / "whole" / "run.db") as b:
        kinds = [[(e["kind"], e["step"]) for e in r.events()] for r in (a, b)]
        # When a finding is resolved, a watch judges by the time that it may take.
        kinds = [[k for k in each if k[0] not in ("resumed", "resolved")] for each in kinds]
        assert kinds[0] == kinds[1]
        assert a.notes["rollbacks"] == b.notes["rollbacks"]


SOME = ("auto-clip", "flossing:before=2,bout=2", "rollback", "skip-spike:warmup=3")


def assert_resumes(remedy: str, wave: Path, folder: Path) -> None:
    config = quick(wave, folder / "whole", remedies=(remedy,), max_steps=12, validate_every=4)
    try:
        train(config)
    except InputError as error:
        pytest.skip(f"not for this model: {error}")
    stopped_and_resumed(replace(config, out=folder / "parts"), 7)
    assert_same(folder / "parts", folder / "whole")


@pytest.mark.parametrize("remedy", SOME)
def test_remedies_with_memory(remedy: str, wave: Path, tmp_path: Path) -> None:
    assert_resumes(remedy, wave, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("remedy", sorted(REMEDIES))
def test_every_remedy(remedy: str, wave: Path, tmp_path: Path) -> None:
    assert_resumes(remedy, wave, tmp_path)


def running(wave: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The objects of a training after some steps of it."""
    kept: list[object] = []
    step = Loop._step

    def looked(self: Loop, batch: Any, gradient: Gradient, seconds: float) -> bool:
        done = step(self, batch, gradient, seconds)
        watch, seen = gradient.watch, gradient.watch._seen
        course = self.course
        kept[:] = [self, self.progress, self._losses, gradient, course]
        kept.extend([*course.treatments, *course.applied])
        kept.extend([watch, seen, seen.register, seen.history, watch._clipping])
        kept.extend([watch._calls, watch._turns])
        return done

    monkeypatch.setattr(Loop, "_step", looked)
    train(quick(wave, out, max_steps=3, remedies=("auto-clip", "omega"), rollbacks=1, budget=1.0))
    return kept


def test_every_attribute_is_saved_or_declared_derivable(
    wave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = running(wave, tmp_path, monkeypatch)
    assert {type(each) for each in objects} == set(STATE)
    assert undeclared(objects) == []
    for each in objects:  # and a new one is named
        vars(each)["forgotten"] = 1
        assert f"{type(each).__name__}.forgotten is not declared" in undeclared([each])


def test_what_a_watch_has_seen_is_taken_up(tmp_path: Path) -> None:
    # A step that was not finite stays a finding, also for a watch made after an interruption.
    torch.manual_seed(0)
    model = torch.nn.LSTM(3, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = watch(model, optimizer, lag=29, every=1)
    for step in range(8):
        loss = model(torch.randn(30, 4, 3))[0][-1].pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        if step == 6:
            grad = dict(model.named_parameters())["weight_hh_l0"].grad
            assert grad is not None
            grad.fill_(torch.nan)
        before.loss(loss.item())
        before.clip_(1.0)
        optimizer.step()
        if step == 6:
            model.reset_parameters()
    facts, series = before.state()
    after = watch(model, optimizer, lag=29, every=1, start_step=before.step)
    after.restore(fit(WatchFacts, json.loads(json.dumps(asdict(facts)))), series)
    assert before.verdict == after.verdict == "nonfinite"
    assert after.findings == before.findings and after.norms == before.norms
    again, more = after.state()
    assert again == facts
    torch.testing.assert_close(more, series, rtol=0, atol=0, equal_nan=True)
    before.close()
    after.close()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal here")
def test_a_closed_terminal_saves(wave: Path, tmp_path: Path) -> None:
    def hang_up(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 5:
            signal.raise_signal(signal.SIGHUP)

    outcome = train(quick(wave, tmp_path), hang_up)
    assert (outcome.status, outcome.step) == ("interrupted", 5)


def test_nohup_is_not_stopped(wave: Path, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        outcome = train(
            quick(wave, tmp_path, max_steps=6), lambda event: signal.raise_signal(signal.SIGHUP)
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    assert outcome.status == "finished"


def test_every_flipped_bit_of_a_checkpoint_is_noticed(wave: Path, tmp_path: Path) -> None:
    train(quick(wave, tmp_path, rollbacks=1), stop_at(5))
    path = tmp_path / "checkpoint.safetensors"
    data = bytearray(path.read_bytes())
    bits = np.random.default_rng(0).choice(8 * len(data), 300, replace=False).tolist()
    header = int.from_bytes(data[:8], "little")
    bits += range(8 * min(header, 40))  # every bit of the length and the first names
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"damaged|pickle|no 'steadygrad checkpoint"):
            checkpoint.read(path)
        data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    checkpoint.read(path)


def test_the_same_state_is_the_same_bytes() -> None:
    tensors = {f"model/{name}": torch.full((3,), float(i)) for i, name in enumerate("cab")}
    facts = {"name": 'Zeitreihe \u00e4\u20ac\x7f "sha256"', "n": 1}
    data = {sealed(tensors, facts) for _ in range(12)}
    assert len(data) == 1  # safetensors itself writes its texts in an order that is new every time


def test_a_disk_that_lies_keeps_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.write(path, Checkpoint({"a": torch.zeros(3)}, {"n": 1}))
    before = path.read_bytes()
    monkeypatch.setattr(checkpoint, "_fresh", lambda path: path.read_bytes()[:-1] + b"x")
    with pytest.raises(OSError, match="other data than was written"):
        checkpoint.write(path, Checkpoint({"a": torch.ones(3)}, {"n": 2}))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_of_the_first_format_goes_on(wave: Path, tmp_path: Path) -> None:
    config = quick(wave, tmp_path / "new")
    train(config, stop_at(9))
    saved = checkpoint.read(tmp_path / "new" / "checkpoint.safetensors")
    kept = ("config", "data", "progress", "rescues")  # as 0.1 wrote it, without a checksum
    facts = {"format": checkpoint.FIRST} | {name: saved.facts[name] for name in kept}
    old = {n: t for n, t in saved.tensors.items() if not n.startswith(("watch/", "good/"))}
    path = tmp_path / "new" / "checkpoint.safetensors"
    save_file(old, path, {"steadygrad": json.dumps(facts)})
    assert train(replace(config, resume=True)).status == "finished"
    train(replace(config, out=tmp_path / "whole"))
    assert_same(tmp_path / "new", tmp_path / "whole")


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "no progress": lambda f: f.pop("progress"),
    "a text": lambda f: f.update(progress="x"),
    "negative step": lambda f: f["progress"].update(step=-1),
    "huge step": lambda f: f["progress"].update(step=10**30),
    "nan best": lambda f: f["progress"].update(best=math.nan),
    "status": lambda f: f["progress"].update(status="done"),
    "unknown counter": lambda f: f["progress"].update(more=1),
    "rescues": lambda f: f.update(rescues=[{"number": 1}]),
    "losses": lambda f: f.update(losses=["1"]),
    "config": lambda f: f.update(config=[]),
    "watch": lambda f: f["watch"].update(found=[{"fault": 1}]),
    "watch stride": lambda f: f["watch"].update(stride=0),
    "good": lambda f: f.update(good={"config": 1}),
    "outcome": lambda f: f.update(
        outcome={"status": "x"}, progress=f["progress"] | {"status": "finished", "step": 99}
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_facts_in_a_whole_checkpoint(
    wrong: str, wave: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = quick(wave, tmp_path, rollbacks=1)
    train(config, stop_at(5))
    path = tmp_path / "checkpoint.safetensors"
    saved = checkpoint.read(path)
    facts = dict(saved.facts)
    WRONG[wrong](facts)
    checkpoint.write(path, Checkpoint(saved.tensors, facts))
    with pytest.raises(InputError):
        train(replace(config, resume=True))
    options = [f"--{k.replace('_', '-')}" for k in ("window", "horizon", "hidden")]
    pairs = [x for o, v in zip(options, ("8", "1", "6"), strict=True) for x in (o, v)]
    assert main(["train", str(wave), "--out", str(tmp_path), "--resume", *pairs]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("wrong", ["moment", "memory", "state", "random"])
def test_wrong_tensors_in_a_whole_checkpoint(wrong: str, wave: Path, tmp_path: Path) -> None:
    config = quick(wave, tmp_path, remedies=("auto-clip",))
    train(config, stop_at(5))
    path = tmp_path / "checkpoint.safetensors"
    saved = checkpoint.read(path)
    start = {"moment": "optimizer/", "memory": "remedy/", "state": "state/", "random": "rng/"}
    name = next((n for n in saved.tensors if n.startswith(start[wrong])), "state/0")
    tensors = {**saved.tensors, name: torch.zeros(2, 2)}
    checkpoint.write(path, Checkpoint(tensors, saved.facts))
    with pytest.raises(InputError, match="start again with --overwrite"):
        train(replace(config, resume=True))
