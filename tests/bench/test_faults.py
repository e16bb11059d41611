"""The fault benchmark's own parts: labels, scores, rules of other tools, and the float64 oracle."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.faults import verdicts
from benchmarks.faults.baselines import BASELINES, DeepDiagnosis, LossOnly, SageMaker
from benchmarks.faults.labels import label
from benchmarks.faults.network import Network
from benchmarks.faults.oracle import travelled
from benchmarks.faults.recipe import Recipe
from benchmarks.faults.repairs import asking, healthy_updates
from benchmarks.faults.runs import complete, kept, one
from benchmarks.faults.score import interval, placed, score, upper_bound
from benchmarks.faults.settings import HALVES, settings, twin_of
from benchmarks.faults.table import table
from benchmarks.faults.training import made, train
from benchmarks.faults.verdicts import MONITORS, OURS, Verdict

PLAIN = Recipe("calibration", "temporal-order:length=12", "elman", updates=20)


def test_the_halves_share_neither_task_nor_cell_and_no_pair_is_met_twice() -> None:
    tasks, cells = (
        {half: {pair[side].partition(":")[0] for pair in pairs} for half, pairs in HALVES.items()}
        for side in (0, 1)
    )
    assert not tasks["calibration"] & tasks["held-out"]
    assert not cells["calibration"] & cells["held-out"]
    pairs = [pair for part in HALVES.values() for pair in part]
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize("half", HALVES)
def test_every_setting_is_its_own_and_every_fault_has_a_twin(half: Any) -> None:
    every = list(settings(half))
    assert len({recipe.key for recipe in every}) == len(every)
    names = {(recipe.pair, recipe.kind, recipe.variant) for recipe in every}
    for recipe in every:
        if recipe.kind != "healthy":
            assert (recipe.pair, "healthy", twin_of(recipe.kind, recipe.variant)) in names
    healthy = [recipe for recipe in every if recipe.kind == "healthy"]
    assert sum(recipe.variant != "plain" for recipe in healthy) > len(healthy) / 2


def test_the_oracle_is_a_closed_form_for_a_linear_recurrence() -> None:
    recipe = replace(PLAIN, cell="elman:nonlinearity=identity", gain=0.5)
    curve = travelled(Network(made(recipe), recipe), made(recipe))
    for lag, value in enumerate(curve):
        assert value == pytest.approx(lag * math.log10(0.5), abs=1e-3)


def run(kind: str, variant: str, seed: int, reached: int, left: float = 0.0, **more: Any) -> dict:
    return {
        "pair": "p",
        "half": "held-out",
        "kind": kind,
        "variant": variant,
        "seed": seed,
        "reached": reached,
        "oracle": {"log10": left},
        "key": kind + variant,
        "onset": 0,
        "budget": 100,
        "looks": [],
        "others": {},
        "place": {"gate": None, "layer": None, "tensor": None},
    } | more


def test_labels_need_outcome_twin_and_oracle() -> None:
    twin = [run("healthy", "plain", s, 50) for s in range(5)]
    dies = [run("vanishing", "a", s, 0, -9.0) for s in range(5)]
    recovers = [run("vanishing", "b", s, 50 if s < 2 else 0, -9.0) for s in range(5)]
    unseen = [run("vanishing", "c", s, 0, -2.0) for s in range(5)]
    fails = [run("healthy", "hard", s, 0) for s in range(5)]
    orphan = [run("padding", "d", s, 0) for s in range(5)]
    labels = label([*twin, *dies, *recovers, *unseen, *fails, *orphan])
    assert {r["variant"] for r in labels.faulty} == {"a"} and len(labels.faulty) == 5
    assert {r["variant"] for r in labels.healthy} == {"plain"}
    assert labels.dropped == {
        "faults that the training overcomes": 1,
        "faults that the float64 oracle does not see": 1,
        "healthy settings that fail": 1,
        "faults whose twin fails": 1,
    }
    assert len(asking(labels.faulty)) == 1
    assert healthy_updates(twin, dies[0]) == 50
    # One lucky seed of a fault is no faulty run, and one unlucky seed of a twin no healthy one.
    lucky = label(
        [*twin[:4], run("healthy", "plain", 4, 0), *dies[:4], run("vanishing", "a", 4, 9)]
    )
    assert len(lucky.faulty) == 4 and len(lucky.healthy) == 4


def verdict(kind: str, alarm: tuple[int, str] | None, placed: bool | None = None) -> Verdict:
    alarms = dict.fromkeys(MONITORS) | {OURS: alarm}
    return Verdict("held-out", "p", kind, "v", 0, kind != "healthy", 1, 100, alarms, placed)


def test_scores_are_counted_right(tmp_path: Path) -> None:
    rows = [
        verdict("vanishing", (11, "vanishing"), True),
        verdict("vanishing", (21, "exploding")),
        verdict("exploding", None),
        verdict("exploding", (1, "exploding"), False),
        verdict("healthy", (31, "vanishing")),
        verdict("healthy", None),
        verdict("healthy", None),
        verdict("healthy", None),
    ]
    s = score(rows)
    assert (s.recall, s.precision, s.false_alarms) == (0.75, 0.75, 0.25)
    # vanishing: 1 right of 2 named and 2 there; exploding: the same
    assert s.by_class == {"exploding": (0.5, 2), "vanishing": (0.5, 2)} and s.macro_f1 == 0.5
    assert s.delay == 0.1
    assert placed(rows) == (0.5, 2)
    path = tmp_path / "v.csv"
    verdicts.write(rows, path)
    assert verdicts.read(path) == rows
    line = {"half": "held-out", "kind": "vanishing", "runs": 5, "good": True, "first": False}
    line |= {"random": {"a": True, "b": False}, "clip": False, "cost": 1.5}
    healed = {"half": "held-out", "kind": "healthy", "runs": 2, "kept": "gated"}
    lines = [
        line,
        healed | {"before": 5, "after": 4},
        healed | {"kept": None, "before": 5, "after": 5},
    ]
    text = table(rows, lines, {"held-out": {"faults whose twin fails": 2}})
    assert "4 faulty runs in 2 settings" in text and "2 faults whose twin fails" in text
    assert "ours 100%, first remedy 0%, random remedy 50%, clip at norm 1 0%" in text
    assert "4 accused, 2 changed; targets lost 10.00 points" in text


def test_bounds_are_those_of_the_tables() -> None:
    assert upper_bound(0, 300) == pytest.approx(1 - 0.05 ** (1 / 300))  # the rule of three
    assert upper_bound(3, 3) == 1
    low, high = interval([0.0, 1.0] * 50)
    assert 0.38 < low < 0.5 < high < 0.62


def test_rules_of_other_tools_speak_at_their_thresholds() -> None:
    model = Network(made(PLAIN), PLAIN)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)

    def step(rules: Any, gradient: float, loss: float = 1.0, update: int = 1) -> Any:
        rules.begin(model, optimizer, PLAIN)
        with torch.no_grad():
            for p in model.parameters():
                p.fill_(1.0)
                p.view(-1)[0] += 1.0  # a variance
                p.grad = torch.full_like(p, gradient)
        rules.loss(torch.tensor(loss))
        rules.before_step(update)
        optimizer.step()
        rules.after_step(update)
        said = rules.end()
        return said[1] if said else None

    assert step(SageMaker(), 1e-8) == "vanishing" and step(SageMaker(), 0.1) is None
    assert step(SageMaker(), 20.0) == "lr-high"
    assert step(DeepDiagnosis(), 0.2) == "lr-high" and step(DeepDiagnosis(), 1e-6) == "lr-low"
    assert step(DeepDiagnosis(), 0.01) is None
    assert all(step(rules(), 0.01, math.nan) == "nonfinite" for rules in BASELINES)
    late = LossOnly()
    assert step(late, 0.01, 1.0, 11) is not None  # beyond 30 % of the budget, and no fall
    assert step(LossOnly(), 0.01, 1.0, 1) is None


def test_a_training_is_decided_by_its_recipe_and_seed() -> None:
    first, again = train(PLAIN, 3), train(PLAIN, 3)
    other = train(replace(PLAIN, rate=0.1), 3)
    assert first["figure"] == again["figure"] != other["figure"] or first["curve"] == again["curve"]


def test_runs_are_kept_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    jobs = [(PLAIN, 0), (replace(PLAIN, rate=0.1), 0)]
    assert len(list(complete(jobs[:1], path, 1))) == 1
    assert [r["seed"] for r in complete([*jobs, (PLAIN, 1)], path, 1)] == [0, 1]
    with path.open("a") as file:
        file.write('{"key": "cut o')
    assert len(kept(path)) == 3
    assert list(complete(jobs, path, 1)) == []


def test_a_poisoned_run_is_seen_by_all() -> None:
    said = one(replace(PLAIN, kind="nonfinite", poison="input", poisoned_at=5), 0)
    update, found = said["looks"][-1][:2]
    assert update == 5 and found[0][0] == "nonfinite" and found[0][4]["tensor"] == "input"
    # They look at every tenth update, and the weights stay broken.
    assert {name: alarm[1] for name, alarm in said["others"].items() if alarm} == dict.fromkeys(
        said["others"], "nonfinite"
    )
