"""Does what is prescribed help? By the task's target, under fresh seeds, against chance.

For each faulty setting the first run that failed under an alarm asks for a repair, as a user's
would: `steadygrad.repair` with the findings of that alarm and the task's target. What it keeps is
then judged by five seeds that nothing has seen. The same five seeds judge the first remedy of the
plan, one remedy drawn at random from all that suit the model, and a clip at norm 1 for all.
"""

import random
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from statistics import median
from typing import Any

import torch

import steadygrad as sg
from benchmarks.faults.labels import Run
from benchmarks.faults.network import Network
from benchmarks.faults.recipe import Recipe
from benchmarks.faults.settings import twin_of
from benchmarks.faults.training import made, train
from steadygrad.diagnosis import Finding, Repair
from steadygrad.remedies import REMEDIES, Course, Remedy, parse

FRESH = range(1000, 1005)
ENOUGH = 4
DRAWN = 1
SOLVED, FAILED = 1.0, 0.0


def asking(faulty: Iterable[Run]) -> list[Run]:
    """One run of each faulty setting: the first with an alarm, or else the first."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in faulty:
        groups[run["key"]].append(run)
    return [
        next((r for r in group if any(look[1] for look in r["looks"])), group[0])
        for group in groups.values()
    ]


def repaired(recipe: Recipe, run: Run, healthy_updates: float) -> dict[str, Any]:
    """Repair one setting, and judge what was kept and its rivals."""
    update, _ = _alarm(run)
    repair, spent = _repair(recipe, run)
    kept = None if repair.choice is None else repair.choice.kept
    first = repair.plan[0] if repair.plan else None
    rivals = _drawn(recipe, run)
    is_kept_good = holds(recipe, kept)
    return {
        "key": run["key"],
        "pair": run["pair"],
        "kind": run["kind"],
        "variant": run["variant"],
        "alarm": update,
        "plan": list(repair.plan),
        "kept": kept,
        "good": is_kept_good,
        "first": is_kept_good if first == kept else holds(recipe, first),
        "cost": (max(0, update - max(run["onset"], 1)) + spent) / healthy_updates,
        "random": {name: holds(recipe, name) for name in rivals},
        "clip": holds(recipe, "clip-norm"),
    }


def harmed(recipe: Recipe, run: Run) -> dict[str, Any]:
    """What an automatic repair does to a healthy setting with a false alarm.

    Without an alarm nothing is asked for, and a training stays what it is to the last bit.
    """
    repair, _ = _repair(recipe, run)
    kept = None if repair.choice is None else repair.choice.kept
    return {
        "key": run["key"],
        "pair": run["pair"],
        "kind": run["kind"],
        "variant": run["variant"],
        "kept": kept,
        "before": reached(recipe, None),
        "after": reached(recipe, kept),
    }


def _repair(recipe: Recipe, run: Run) -> tuple[Repair, int]:
    """Repair a setting as a user would; also the updates that it took."""
    _, findings = _alarm(run)
    spent = [0]

    def trainer(model: torch.nn.Module, course: Course) -> float:
        assert isinstance(model, Network)
        data_seed = int(torch.randint(2**31, ()))
        result = train(recipe, data_seed, treat=lambda _: course, model=model)
        spent[0] += result["updates"]
        return SOLVED if result["reached"] else FAILED

    torch.manual_seed(run["seed"])
    repair = sg.repair(
        lambda: Network(made(recipe), recipe),
        trainer,
        lambda model: torch.zeros(()),
        findings=findings,
        target=SOLVED,
        seed=100,
    )
    return repair, spent[0]


def holds(recipe: Recipe, name: str | None) -> bool:
    """Whether a remedy reaches the target under four of the five fresh seeds."""
    if name is None:
        return False
    return reached(recipe, name, len(FRESH) - ENOUGH) >= ENOUGH


def reached(recipe: Recipe, name: str | None, most_failures: int = len(FRESH)) -> int:
    """Under how many fresh seeds a remedy, or nothing, reaches the target; ends early."""
    good = 0
    for count, seed in enumerate(FRESH):
        good += _reaches(recipe, seed, None if name is None else parse(name))
        if count + 1 - good > most_failures:
            break
    return good


def healthy_updates(runs: Iterable[Run], run: Run) -> float:
    """What the healthy twin's training takes, in the median."""
    twin = twin_of(run["kind"], run["variant"])
    taken = [
        r["reached"]
        for r in runs
        if (r["pair"], r["kind"], r["variant"]) == (run["pair"], "healthy", twin) and r["reached"]
    ]
    return float(median(taken))


def _reaches(recipe: Recipe, seed: int, remedy: Remedy | None) -> bool:
    try:
        return bool(train(recipe, seed, treat=partial(_course, remedy))["reached"])
    except RuntimeError:  # a remedy that breaks a training down has not mended it
        return False


def _course(remedy: Remedy | None, model: torch.nn.Module) -> Course:
    return Course(() if remedy is None else (remedy,), model)


def _alarm(run: Run) -> tuple[int, list[Finding]]:
    for look in run["looks"]:
        if look[1]:
            update, found = look[0], look[1]
            return update, [
                Finding(f[0], f[1], f[0], gate=f[2], remedies=tuple(f[5])) for f in found
            ]
    return run["budget"], []


def _drawn(recipe: Recipe, run: Run) -> list[str]:
    torch.manual_seed(0)
    model = Network(made(recipe), recipe)
    task = made(recipe)
    suiting = [
        name
        for name, remedy in REMEDIES.items()
        if remedy().applicable(model) and not (remedy.reads_ahead and task.every_step)
    ]
    return random.Random(run["key"]).sample(suiting, DRAWN)
