"""Runs kept in a file, one line each: what stands there is not done again."""

import json
import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from benchmarks.faults.baselines import BASELINES
from benchmarks.faults.network import Network
from benchmarks.faults.oracle import travelled
from benchmarks.faults.recipe import Recipe
from benchmarks.faults.training import Ours, made, train

Job = tuple[Recipe, int]


def kept(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Finished runs by recipe and seed; a last line that was cut off is left out."""
    if not path.exists():
        return {}
    runs = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            run = json.loads(line)
        except json.JSONDecodeError:
            continue
        runs[run["key"], run["seed"]] = run
    return runs


def complete(jobs: Iterable[Job], path: Path, workers: int) -> Iterator[dict[str, Any]]:
    """Do the jobs that are missing in the file, and append each as it ends."""
    done = kept(path)
    missing = [(r, s) for r, s in jobs if (r.key, s) not in done]
    with (
        ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        path.open("a", encoding="utf-8") as file,
    ):
        try:
            for future in as_completed([pool.submit(one, *job) for job in missing]):
                run = future.result()
                file.write(json.dumps(run) + "\n")
                file.flush()
                yield run
        finally:  # what fails, or is interrupted, does not wait for all that is left
            pool.shutdown(cancel_futures=True)


def one(recipe: Recipe, seed: int) -> dict[str, Any]:
    """One training with all monitors, and the oracle's look at the model it began with."""
    torch.manual_seed(seed)
    task = made(recipe)
    curve = travelled(Network(task, recipe), task)
    baselines = [rules() for rules in BASELINES]
    result = train(recipe, seed, [Ours(), *baselines])
    ours, *others = result.pop("said")
    lag = min(task.required_lag or 1, len(curve) - 1)
    return {
        "key": recipe.key,
        "seed": seed,
        "half": recipe.half,
        "task": recipe.task,
        "cell": recipe.cell,
        "pair": recipe.pair,
        "kind": recipe.kind,
        "variant": recipe.variant,
        "budget": recipe.updates,
        "onset": recipe.poisoned_at,
        "place": _place(recipe),
        **result,
        "oracle": {"lag": lag, "log10": _finite(curve[lag]), "curve": [_finite(v) for v in curve]},
        "looks": ours,
        "others": {b.name: said for b, said in zip(baselines, others, strict=True)},
    }


TENSORS = {"input": "input", "weight": "weight_hh_l0", "state": "bias_ih_l0", "target": "gradient"}


def _place(recipe: Recipe) -> dict[str, str | None]:
    """Where the fault was put, as far as it has a place."""
    return {
        "gate": recipe.shifted or None,
        "layer": f".l{recipe.where}" if recipe.layers > 1 and recipe.where >= 0 else None,
        "tensor": TENSORS.get(recipe.poison),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
