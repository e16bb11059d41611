"""Temporal order and adding as in 1997: one sequence a step, no batch, no momentum.

python -m benchmarks.papers.lstm_1997 [--help]
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator
from torch.nn import functional as F

from benchmarks.papers.harness import Settings, main, progress
from benchmarks.papers.lstm_1997.network import Field, Network, Shape
from steadygrad.spec import read_spec
from steadygrad.tasks import TASKS, Synthetic

Sequence = tuple[NDArray[np.float32], NDArray[np.float32]]
OF_ONE_LENGTH = 20
CHUNK = 128  # lengths drawn before their sequences are shuffled: enough to test on


def attempt(settings: Settings, seed: int) -> dict[str, Any]:
    """Learn until the paper's two conditions hold, and test there."""
    options, task = settings["training"], drawn(settings["task"])
    shape = Shape(task.input_size, task.output_size, **settings["shape"])
    network = Network(shape, **settings["start"], source=np.random.default_rng(seed))
    stream, seen, met = sequences(task, seed), 0, False
    recent = np.full((0, shape.outputs), np.inf)
    while not met and seen < options["cap"]:
        left = next(stream)
        while left and not met:
            errors = network.learn(
                left, options["learning_rate"], options["tolerance"], options["window"]
            )
            left, seen = left[len(errors) :], seen + len(errors)
            recent = np.concatenate([recent, errors])[-options["window"] :]
            met = network.streak.value >= options["window"] and squared(recent) < options["below"]
        progress(f"{settings['task']}, seed {seed}: {seen} sequences, {squared(recent):.4f}")
    tested = list(next(sequences(task, options["test_seed"])))[: options["test"]]
    errors = network.learn(tested, 0.0, options["tolerance"])
    wrong = int((np.abs(errors) >= options["tolerance"]).any(1).sum())
    return {"solved": met, "sequences": seen, "wrong": wrong, "squared_error": squared(errors)}


def drawn(text: str) -> Synthetic:
    """Read a task."""
    task = read_spec(text, TASKS, "task")
    assert isinstance(task, Synthetic)
    return task


def squared(errors: Field) -> float:
    """Squared error of a sequence, on average."""
    return float(np.square(errors).sum(1).mean())


def sequences(task: Synthetic, seed: int) -> Iterator[list[Sequence]]:
    """Sequences of random lengths, and what every output unit should say; without end."""
    source = Generator().manual_seed(seed)
    while True:
        found: list[Sequence] = []
        for _ in range(CHUNK):
            x, target = task.draw(OF_ONE_LENGTH, source)
            if not target.is_floating_point():
                target = F.one_hot(target, task.output_size).float()
            found += zip(x.numpy().transpose(1, 0, 2), target.numpy(), strict=True)
        yield [found[k] for k in torch.randperm(len(found), generator=source)]


if __name__ == "__main__":
    main(__file__, attempt)
