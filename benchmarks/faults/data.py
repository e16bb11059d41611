"""What a recipe does to the batches of a task: padding, poison, noise, a spike."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.faults.recipe import Recipe
from steadygrad.tasks import Benchmark
from steadygrad.tasks.recall import Recall

BATCH = 32


@dataclass
class Example:
    """One training batch.

    Attributes:
        inputs: ``(T, B, I)``.
        targets: As the task's loss reads them.
    """

    inputs: Tensor
    targets: Tensor


def batches(task: Benchmark, recipe: Recipe, seed: int) -> Iterator[Example]:
    """Training batches without end, with what the recipe does to them."""
    update, epoch = 0, 0
    while True:
        for batch in task.batches("train", BATCH, (seed, epoch)):
            update += 1
            generator = torch.Generator().manual_seed(seed * 100_003 + update)
            example = Example(batch.inputs.clone(), batch.targets.clone())
            _disturb(example, recipe, update, generator)
            yield _padded(example, task, recipe, generator) if recipe.padding else example
        epoch += 1


def _disturb(example: Example, recipe: Recipe, update: int, generator: torch.Generator) -> None:
    if recipe.noise:
        size = example.targets.shape[0] if example.targets.dim() < 3 else BATCH
        wrong = torch.rand(size, generator=generator) < recipe.noise
        other = torch.randperm(size, generator=generator)
        example.targets[wrong] = example.targets[other][wrong]
    if recipe.spike and update == recipe.spike:
        if example.targets.is_floating_point():
            example.targets *= 100
        else:
            example.inputs *= 100
    if recipe.poison and update == recipe.poisoned_at:  # one bad batch
        if recipe.poison == "input":
            example.inputs[example.inputs.shape[0] // 2, 0, 0] = float("nan")
        if recipe.poison == "target" and example.targets.is_floating_point():
            example.targets[0] = float("inf")


def _padded(
    example: Example, task: Benchmark, recipe: Recipe, generator: torch.Generator
) -> Example:
    """Sequences of different lengths, padded; targets there are class 0 if they count, else -1."""
    steps, size = example.inputs.shape[:2]
    extra = round(steps * recipe.padding / (1 - recipe.padding))
    silence = task.length - 1 if isinstance(task, Recall) else steps
    cut = torch.randint(0, max(silence // 4, 1), (size,), generator=generator)
    t, lengths = torch.arange(steps)[:, None], steps - cut
    if isinstance(task, Recall):  # what is asked for at the end stays: the silence is shortened
        taken = (t + cut * (t >= task.shown)).clamp(max=steps - 1)
    else:
        taken = t.expand(steps, size)
    beyond = torch.arange(steps + extra)[:, None] >= lengths
    inputs = example.inputs.new_zeros(steps + extra, *example.inputs.shape[1:])
    targets = example.targets.new_zeros(steps + extra, size)
    inputs[:steps] = example.inputs[taken, torch.arange(size)]
    targets[:steps] = example.targets.gather(0, taken)
    inputs[beyond] = 0
    targets[beyond] = 0 if recipe.pads_count else -1
    return Example(inputs, targets)
