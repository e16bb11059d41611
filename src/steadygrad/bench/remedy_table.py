"""The table of remedies on two fixed problems: measured claims, and effects on the training."""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from steadygrad import nn as sg
from steadygrad.flow import gradient_through_time
from steadygrad.init import orthogonal_
from steadygrad.remedies import REMEDIES, Course, Remedy

STEPS, BATCH, HIDDEN, UPDATES = 30, 16, 32, 100
RATE, MOMENTUM = 0.05, 0.9
GAIN, SCALE = 2.5, 12.0  # gains of the exploding RNN's orthogonal matrix, and of the LSTM's weights
Problem = Literal["vanishing", "exploding"]
PROBLEMS: tuple[Problem, ...] = ("vanishing", "exploding")
Cell = Literal["RNN", "LSTM"]


@final
class Reader(nn.Module):
    """A recurrent layer and a linear read-out of its last output."""

    def __init__(self, kind: Cell, problem: Problem) -> None:
        super().__init__()
        self.rnn: nn.Module = (sg.RNN if kind == "RNN" else sg.LSTM)(2, HIDDEN)
        self.head = nn.Linear(HIDDEN, 2)
        weight = self.rnn.get_parameter("weight_hh_l0")
        if problem == "exploding" and kind == "RNN":
            orthogonal_(weight, 1, GAIN)
        elif problem == "exploding":
            weight.data.mul_(SCALE)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


def batch(source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a batch: predict the sign of the first input after the last, with noise in between."""
    x = 0.1 * torch.randn(STEPS, BATCH, 2, generator=source)
    target = torch.randint(2, (BATCH,), generator=source)
    x[0, :, 0] = 2.0 * target - 1
    return x, target


@dataclass(frozen=True)
class Outcome:
    """The result of one treatment on one problem, over all seeds.

    Attributes:
        log10_ratio: log10 of the gradient at the first step over that at the last, after the
            treatment and before training; median.
        log10_ratio_trained: The same after training.
        loss: Mean of the last 20 losses, median over seeds; infinite where it was not finite.
        worst: The largest of the seeds.
        milliseconds: Processor time of one update, median.
    """

    log10_ratio: float
    log10_ratio_trained: float
    loss: float
    worst: float
    milliseconds: float


@dataclass(frozen=True)
class TableRow:
    """One remedy; None is the untreated control.

    Attributes:
        remedy: In the notation of the command line, or ``nothing``.
        cell: The layer; an LSTM for remedies that need a keeping gate.
        claim: The remedy's claim.
        measured: Its measurement, in words.
        outcomes: Outcomes by problem.
    """

    remedy: str
    cell: Cell
    claim: str
    measured: str
    outcomes: dict[str, Outcome]


def remedy_table(seeds: int, tell: Callable[[str, int, int], None]) -> Iterator[TableRow]:
    """Yield the controls, then every built-in remedy.

    Args:
        seeds: Seeds of weights and data, the same for every row.
        tell: Called with the current remedy, the rows done, and their total.
    """
    remedies = [REMEDIES[name].for_short_training() for name in sorted(REMEDIES)]
    rows: list[tuple[Remedy | None, Cell]] = [(None, "RNN"), (None, "LSTM")]
    rows.extend((remedy, _cell(remedy)) for remedy in remedies)
    for number, (remedy, cell) in enumerate(rows):
        name = "nothing" if remedy is None else remedy.spec
        tell(name, number, len(rows))
        outcomes = {problem: _outcome(remedy, cell, problem, seeds) for problem in PROBLEMS}
        claim = "" if remedy is None else remedy.claim
        measured = "" if remedy is None else remedy.demonstrate().text
        yield TableRow(name, cell, claim, measured, outcomes)
    tell("done", len(rows), len(rows))


def _cell(remedy: Remedy) -> Cell:
    return "RNN" if remedy.applicable(Reader("RNN", "vanishing")) else "LSTM"


def _outcome(remedy: Remedy | None, cell: Cell, problem: Problem, seeds: int) -> Outcome:
    runs = [_train(remedy, cell, problem, seed) for seed in range(seeds)]
    first, last, loss, spent = (list(column) for column in zip(*runs, strict=True))
    return Outcome(
        statistics.median(first),
        statistics.median(last),
        statistics.median(loss),
        max(loss),
        statistics.median(spent),
    )


def _train(
    remedy: Remedy | None, cell: Cell, problem: Problem, seed: int
) -> tuple[float, float, float, float]:
    """Ratio before and after training, loss at the end, processor milliseconds of an update."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        source = torch.Generator().manual_seed(seed)
        model = Reader(cell, problem)
        course = Course(() if remedy is None else (remedy,), model)
        optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM)
        course.begin(optimizer)
        probe = batch(torch.Generator().manual_seed(1000 + seed))
        # A first call, in which data-dependent remedies act; its penalty is not minimised.
        course.penalty(nn.functional.cross_entropy(model(probe[0]), probe[1]))
        first, losses, began = _ratio(model, probe), [], time.process_time()
        for _ in range(UPDATES):
            x, target = batch(source)
            loss = nn.functional.cross_entropy(model(x), target)
            optimizer.zero_grad()
            (loss + course.penalty(loss)).backward()
            course.gradients()
            optimizer.step()
            losses.append(loss.item())
        spent = (time.process_time() - began) / UPDATES * 1e3
        end = statistics.mean(losses[-20:])
        return first, _ratio(model, probe), end if math.isfinite(end) else math.inf, spent


def _ratio(model: nn.Module, probe: tuple[Tensor, Tensor]) -> float:
    """log10 of the gradient at the first time step over that at the last."""
    x, target = probe
    if not all(bool(p.isfinite().all()) for p in model.parameters()):
        return math.nan
    model.eval()
    found = gradient_through_time(model, lambda: nn.functional.cross_entropy(model(x), target))
    model.train()
    grad = next(iter(found.flows.values())).log10_grad
    return float(grad[0] - grad[-1])
