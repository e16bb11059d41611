"""Repair: only what is better beyond noise is kept, and what is healthy is left alone."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

import steadygrad as sg
from steadygrad.cli import main
from steadygrad.diagnosis import Finding
from steadygrad.diagnosis.forks import Fork, Scored, choose, first_to_reach
from steadygrad.diagnosis.repair import USUAL, plan_of, usual
from steadygrad.record import Record, read
from steadygrad.remedies import Course


def table(gains: dict[str, float], noise: float = 0.0) -> Callable[[str | None, int], float]:
    """Scores of 10 plus the candidate's gain, plus noise of the seed and of the pair."""

    def score(name: str | None, seed: int) -> float:
        drawn = random.Random(f"{name} {seed}").gauss(0, noise)
        return 10 + 5 * random.Random(seed).random() + gains.get(name or "", 0.0) + drawn

    return score


def test_a_clear_winner_is_kept() -> None:
    choice = choose(["a", "b", "c"], table({"b": 1.0, "c": 0.5}))
    assert choice.kept == "b" and choice.gain == pytest.approx(1) and choice.least is not None
    assert choice.least == pytest.approx(1)  # the seeds' own spread is taken out by pairs
    assert [f.candidate for f in choice.forks[:4]] == ["nothing", "a", "b", "c"]
    assert len(choice.forks) == 4 + 4 * 3 and {f.seed for f in choice.forks[4:]} == {1, 2, 3, 4}
    lower = choose(["a"], lambda name, seed: -table({"a": 1.0})(name, seed), better="lower")
    assert lower.kept == "a" and lower.gain == pytest.approx(1)


def test_what_is_no_better_than_noise_is_not_kept() -> None:
    """Without any effect at most 1 in 20 may be kept, and two finalists make it 1 in 10."""
    names = ["a", "b", "c", "d"]
    kept = 0
    for run in range(300):
        score = table({}, noise=1.0)
        kept += choose(names, score, first_seed=1000 * run).kept is not None
    assert kept / 300 < 0.12
    found = sum(
        choose(names, table({"b": 3.0}, 1.0), first_seed=1000 * run).kept == "b"
        for run in range(100)
    )
    assert found > 85


def test_a_spread_of_the_untreated_alone_hides_no_remedy() -> None:
    """Trainings that go wrong end anywhere; each of those with the remedy ends better."""
    ends = {0: 0.5, 1: 0.23, 2: 0.43, 3: 0.95}
    found = choose(["a"], lambda n, s: 0.01 if n else ends[s], better="lower", seeds=3)
    assert found.kept == "a" and found.least is not None and found.least < 0
    assert "under each of 3" in found.why
    near = choose(["a"], lambda n, s: 0.3 if n else ends[s], better="lower", seeds=3)
    assert near.kept is None and near.why.endswith("within noise")


def test_divergence_counts_as_it_should() -> None:
    def score(name: str | None, seed: int) -> float:
        return {"a": 1.0, "b": math.nan, None: math.nan}[name]

    choice = choose(["b", "a"], score)
    assert choice.kept == "a" and choice.gain == math.inf
    assert "every time" in choice.why
    dead = choose(["b"], score)
    assert dead.kept is None and "every training failed" in dead.why
    fragile = choose(["a"], lambda n, s: math.nan if n and s == 3 else float(n is not None))
    assert fragile.kept is None and "failed under at least one of 4" in fragile.why
    assert "beat the untreated run in the first" in choose(["a"], table({"a": -1.0})).why


def test_choose_refuses_and_tells() -> None:
    told: list[Fork] = []
    choice = choose(["a"], table({"a": 1.0}), seeds=3, finalists=1, first_seed=7, tell=told.append)
    assert tuple(told) == choice.forks and choice.seconds == sum(f.seconds for f in told)
    assert {f.seed for f in told} == {7, 8, 9, 10}
    with pytest.raises(ValueError, match="at least 3 seeds"):
        choose(["a"], table({}), seeds=2)
    with pytest.raises(ValueError, match="named twice"):
        choose(["a", "a"], table({}))


STEPS = 25


class Recall(nn.Module):
    """Says at the end what the first input was."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.rnn: Any = sg.RNN(1, 16)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, gain)
        self.head = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


def test_what_else_was_measured_is_kept_with_the_score() -> None:
    def score(name: str | None, seed: int) -> Scored:
        return Scored(2.0 if name else 1.0, -9.0, -1.0, "healthy", "rnn: something")

    found = choose(["clip-norm:max_norm=2,scope=layer"], score)
    assert found.kept == "clip-norm:max_norm=2,scope=layer"
    control, tried = (f.to_record(found.kept, "points") for f in found.forks[:2])
    assert control["remedy"] == "nothing" and not control["kept"] and control["options"] == {}
    assert tried["remedy"] == "clip-norm" and tried["kept"]
    assert tried["options"] == {"max_norm": "2", "scope": "layer"}
    assert tried["log10_ratio_before"] == -9 and tried["changed"] == "rnn: something"
    assert tried["stage"] == "first" and tried["score"] == 2 and tried["score_unit"] == "points"
    plain = Fork("nothing", 0, 1.0, 0.1, "first").to_record(None)
    assert "verdict" not in plain


def test_a_direction_that_is_none_is_refused() -> None:
    better: Any = "up"
    with pytest.raises(ValueError, match="better must be 'lower' or 'higher', got 'up'"):
        choose(["a"], lambda name, seed: 0.0, better=better)
    with pytest.raises(ValueError, match="better must be"):
        first_to_reach(["a"], lambda name, seed: 0.0, 1.0, better=better)
    with pytest.raises(ValueError, match="better must be"):
        sg.repair(lambda: Recall(0.5), lambda m, c: 0.0, loss, better=better, dry_run=True)


def draw(generator: torch.Generator, batch: int = 64) -> tuple[Tensor, Tensor]:
    x = torch.randn(STEPS, batch, 1, generator=generator)
    x[1:] *= 0.1
    return x, (x[0] > 0).float()


def trainer(model: nn.Module, course: Course) -> float:
    """Accuracy on fresh sequences after 150 steps."""
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    course.begin(optimizer)
    generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    for _ in range(150):
        x, y = draw(generator)
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(model(x), y)
        (value + course.penalty(value)).backward()
        course.gradients()
        optimizer.step()
    x, y = draw(generator, 500)
    with torch.no_grad():
        return float(((model(x) > 0).float() == y).float().mean())


def loss(model: nn.Module) -> Tensor:
    x, y = draw(torch.Generator().manual_seed(5))
    return F.binary_cross_entropy_with_logits(model(x), y)


@pytest.mark.slow
def test_a_dying_network_is_repaired_and_a_new_one_treated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with Record.create(tmp_path / "run.db", config={}) as record:
        found = sg.repair(
            lambda: Recall(0.5), trainer, loss, lag=STEPS - 1, seeds=3, most=2, record=record
        )
    assert torch.equal(torch.get_rng_state(), before)
    assert found.verdict == "vanishing" and len(found.plan) == 2
    assert found.remedy is not None and found.choice is not None and found.choice.gain is not None
    assert found.choice.gain > 0.1
    model = Recall(0.5)
    course = found.apply(model)
    assert course.remedies == [found.remedy]
    assert sg.diagnose(model, lambda: loss(model), lag=STEPS - 1).verdict == "healthy"
    with read(tmp_path / "run.db") as run:
        assert run.notes["repair"]["choice"]["kept"] == found.choice.kept
    assert f"kept: {found.choice.kept}" in str(found)


def test_a_healthy_network_is_left_alone() -> None:
    calls = []

    def counted(model: nn.Module, course: Course) -> float:
        calls.append(course.remedies)
        return trainer(model, course)

    found = sg.repair(lambda: Recall(1.0), counted, loss, lag=STEPS - 1)
    assert found.verdict == "healthy" and found.choice is None and found.remedy is None
    assert calls == [[]]  # one training, to see whether it stays healthy
    model = Recall(1.0)
    weights = [p.clone() for p in model.parameters()]
    assert found.apply(model).remedies == []
    torch.testing.assert_close(list(model.parameters()), weights, rtol=0, atol=0)


def test_findings_are_treated_by_turns_and_causes_first() -> None:
    def found(fault: str, *remedies: str) -> Finding:
        return Finding(fault, "rnn", "", remedies=remedies)

    rate = found("lr-high", "learning-rate:factor=0.1", "learning-rate:factor=0.03")
    broken = found("nonfinite", "nonfinite", "rollback", "clip-norm")
    twice = found("vanishing", "forget-bias", "orthogonal-init")
    plan = plan_of([broken, rate], 4)
    assert plan == (rate.remedies[0], "nonfinite", rate.remedies[1], "rollback")
    assert plan_of([twice, broken], 3) == ("nonfinite", "forget-bias", "rollback")
    assert plan_of([twice, twice], 9) == twice.remedies


def test_what_has_no_name_gets_what_usually_helps() -> None:
    assert usual((), 2) == USUAL[:2]
    assert usual(["learning-rate:factor=0.02"], 9) == ("orthogonal-init", "clip-norm")
    assert usual((), 9, lambda remedy: remedy.name == "clip-norm") == ("clip-norm",)


def test_a_dry_run_trains_nothing() -> None:
    def never(model: nn.Module, course: Course) -> float:
        raise AssertionError("trained")

    found = sg.repair(lambda: Recall(0.5), never, loss, lag=STEPS - 1, dry_run=True)
    assert found.plan and found.choice is None and "plan: " in str(found)
    with pytest.raises(ValueError, match="no remedy 'nonsense'"):
        sg.repair(lambda: Recall(0.5), never, loss, lag=9, remedies=["nonsense"], dry_run=True)


@pytest.fixture
def wave(tmp_path: Path) -> Path:
    path = tmp_path / "wave.csv"
    rows = "\n".join(f"{math.sin(t / 3):.4f}" for t in range(400))
    path.write_text(f"y\n{rows}\n")
    return path


OPTIONS = ["--hidden", "8", "--threads", "1", "--validate-every", "20", "--max-steps", "40"]


@pytest.mark.slow
def test_train_with_repair(wave: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = wave.parent / "out"
    # Stuck at its start: the bias of the forget gate is far below zero.
    faulty = ["--remedies", "forget-bias:value=-8", "--lag", "20", "--window", "30"]
    command = ["train", str(wave), *OPTIONS, *faulty, "--out", str(out), "--repair"]
    assert main([*command, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["verdict"] in ("vanishing", "not judged") and plan["choice"] is None
    assert not out.exists()
    assert "forget-bias" not in plan["plan"]  # it is applied already
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    kept = (document["repair"]["choice"] or {}).get("kept")
    with read(out / "run.db") as run:
        assert run.config["remedies"] == ["forget-bias:value=-8", *([kept] if kept else [])]
        assert run.notes["repair"]["plan"] == plan["plan"]
    assert main([*command, "--resume", "--json"]) in (0, 2)
    capsys.readouterr()


def test_train_with_repair_leaves_a_healthy_run_alone(
    wave: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = []
    for name, more in (("plain", []), ("repaired", ["--repair"])):
        out = wave.parent / name
        assert main(["train", str(wave), *OPTIONS, "--out", str(out), *more]) == 0
        ends.append({n: v.tolist() for n, v in load_file(out / "model.safetensors").items()})
    told = capsys.readouterr().out
    assert "verdict: not judged" in told and ends[0] == ends[1]


def test_with_a_target_the_first_that_reaches_it_reliably_is_kept() -> None:
    scores = {"a": 0.2, "b": 0.9, "c": 1.0}
    seen: list[tuple[str | None, int]] = []

    def score(name: str | None, seed: int) -> float:
        seen.append((name, seed))
        return scores[str(name)]

    choice = first_to_reach(["a", "b", "c"], score, 0.8, first_seed=7)
    assert choice.kept == "b" and seen == [("a", 7), ("b", 7), ("b", 8), ("b", 9)]
    assert "0.9" in choice.why and "0.8" in choice.why and "3 fresh seeds" in choice.why
    assert first_to_reach(["a"], score, 0.8).kept is None
    assert first_to_reach(["c", "a"], score, 0.3, better="lower").kept == "a"
    scores["a"] = float("nan")
    assert first_to_reach(["a"], score, -1.0).kept is None
    with pytest.raises(ValueError, match="at least 3 seeds"):
        first_to_reach(["b"], score, 0.8, seeds=1)


@pytest.mark.parametrize(
    ("misses", "tried", "is_kept"),
    [({8}, 5, True), ({7}, 1, False), ({8, 10}, 4, False), ({9, 11}, 5, False), (set(), 3, True)],
)
def test_one_miss_of_five_seeds_is_borne(misses: set[int], tried: int, is_kept: bool) -> None:
    choice = first_to_reach(["a"], lambda _, seed: float(seed not in misses), 1.0, first_seed=7)
    assert (choice.kept == "a") is is_kept and len(choice.forks) == tried


@pytest.mark.parametrize("better", ["lower", "higher"])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_no_score_that_is_not_finite_is_kept(better: Any, value: float) -> None:
    for control in (math.nan, 1.0, -math.inf, math.inf):
        choice = choose(["a"], lambda name, _, c=control: value if name else c, better=better)
        assert choice.kept is None
    assert first_to_reach(["a"], lambda *_: value, 0.0, better=better).kept is None


def test_what_leaves_the_network_no_better_is_no_remedy() -> None:
    """It beats a training that falls apart, and has learned nothing itself."""

    def score(name: str | None, seed: int) -> Scored:
        return {
            None: Scored(math.nan, has_learned=False),
            "dead": Scored(0.7, has_learned=False),
            "alive": Scored(0.9, has_learned=True),
            "once": Scored(0.1, has_learned=seed != 2),
        }[name]

    assert choose(["dead"], score, better="lower").kept is None
    assert choose(["once"], score, better="lower").kept is None
    assert choose(["dead", "once", "alive"], score, better="lower").kept == "alive"
    assert choose(["dead", "alive"], score, better="lower").kept == "alive"
    # A training that gets worse says nothing by its number, yet a worse one must not be kept.
    worse = {None: Scored(1.0, has_learned=False), "a": Scored(2.0, has_learned=True)}
    assert choose(["a"], lambda name, _: worse[name], better="lower").kept is None


def test_findings_of_a_watch_are_repaired_without_another_look() -> None:
    rate = Finding("lr-high", "optimizer", "too high", remedies=("learning-rate:factor=0.01",))
    torch.manual_seed(0)
    x, y = torch.randn(12, 16, 2), torch.randn(16, 4)

    def trainer(model: Any, course: Any) -> float:
        optimizer = torch.optim.SGD(model.parameters(), 30.0)
        course.begin(optimizer)
        for _ in range(20):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x)[0][-1], y)
            (loss + course.penalty(loss)).backward()
            course.gradients()
            optimizer.step()
        return nn.functional.mse_loss(model(x)[0][-1], y).item()

    found = sg.repair(
        lambda: nn.LSTM(2, 4),
        trainer,
        lambda model: nn.functional.mse_loss(model(x)[0][-1], y),
        findings=[rate],
        target=1.3,
        better="lower",
    )
    assert found.choice is not None and found.choice.kept == "learning-rate:factor=0.01"
    assert len(found.choice.forks) == 3 and found.verdict == "lr-high"
