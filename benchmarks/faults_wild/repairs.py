"""Does a repair hold in stock trainings? Harm a healthy training, repair it, judge under new seeds.

    python -m benchmarks.faults_wild.repairs [--part development|held-back|all]

A base is a training that learns with `torch.nn` layers; a harm is one change that a user makes by
mistake: a rate, a clip, weights as they are made. A setting counts if the harm is real: the target
is missed under at least three of five judging seeds, where the base reaches it under all but one.
The target is four fifths of the fall of the loss that the base shows in the median.

`steadygrad.repair` is called in its simplest form, ``repair(model, train_step)`` with the lag and
the number of steps: no target, no findings. What it keeps is attached to trainings made anew under
five seeds that it has not seen, and so is the first remedy of its plan. It holds if the target is
reached under four of the five.
"""

import argparse
import hashlib
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

import steadygrad as sg
from benchmarks.faults_wild.case import PARTS, Part, Training
from benchmarks.faults_wild.cases.steps import Forecast, Language
from benchmarks.faults_wild.cases.through_time import Recall
from benchmarks.faults_wild.lines import append, kept
from benchmarks.faults_wild.models import LastStep, keep_memory
from benchmarks.faults_wild.tasks import walks
from steadygrad.remedies import Attached, parse

HERE = Path(__file__).parent
RUNS, RESULT = HERE / "repairs.jsonl", HERE / "repairs.txt"
STEPS = 300
JUDGES = range(1000, 1005)
ENOUGH, FEW = 4, 2  # of the judging seeds
LEARNED = 0.8  # share of the base's fall of the loss that is the target


class Trend(Training):
    """Whether a random walk ends above its mean, from the last output of a layer."""

    def __init__(self, kind: str) -> None:
        model = LastStep(kind, inputs=3)
        super().__init__(model, torch.optim.AdamW(model.parameters(), lr=5e-3))

    def loss(self) -> torch.Tensor:
        x, y = walks(24, 32)
        return nn.functional.cross_entropy(self.model(x), y)


def _recall(kind: str, steps: int, lag: int, lr: float) -> Training:
    training = Recall(kind, steps, lag, lr=lr)
    if kind == "lstm":
        keep_memory(training.rnn, 5.0)
    elif kind == "rnn":
        nn.init.orthogonal_(training.rnn.weight_hh_l0)
    return training


def _clipped(training: Training, bound: float) -> Training:
    training.clip = bound
    return training


BASES: dict[str, tuple[Callable[[], Training], int]] = {
    "forecast lstm adam": (lambda: Forecast(torch.optim.Adam, lr=3e-3), 10),
    "forecast gru adam": (lambda: Forecast(torch.optim.Adam, "gru", lr=3e-3), 10),
    "forecast rnn adam": (lambda: Forecast(torch.optim.Adam, "rnn", lr=3e-3), 5),
    "forecast lstm sgd": (lambda: Forecast(torch.optim.SGD, lr=0.5, momentum=0.9), 10),
    "forecast rnn rmsprop": (lambda: Forecast(torch.optim.RMSprop, "rnn", lr=1e-3), 5),
    "text lstm adam": (lambda: Language(torch.optim.Adam, lr=5e-3), 3),
    "text lstm sgd": (lambda: _clipped(Language(torch.optim.SGD, lr=5.0), 0.5), 3),
    "recall lstm adam": (lambda: _recall("lstm", 21, 20, 5e-3), 20),
    "recall gru adam": (lambda: _recall("gru", 9, 8, 1e-2), 8),
    "recall rnn adam": (lambda: _recall("rnn", 13, 12, 2e-3), 12),
    "trend lstm adamw": (lambda: Trend("lstm"), 23),
    "trend gru adamw": (lambda: Trend("gru"), 23),
}
"""Each base with the lag that its user tells."""


def _rate(factor: float) -> Callable[[Training], None]:
    def harm(training: Training) -> None:
        for group in training.optimizer.param_groups:
            group["lr"] *= factor

    return harm


def _scaled(part: str, factor: float) -> Callable[[Training], None]:
    @torch.no_grad()
    def harm(training: Training) -> None:
        for name, weight in training.model.rnn.named_parameters():
            if part in name:
                weight.mul_(factor)

    return harm


def _tight(training: Training) -> None:
    if isinstance(training.optimizer, torch.optim.SGD):
        training.clip = 1e-4
    else:
        _rate(1e-5)(training)


@torch.no_grad()
def _closed(training: Training) -> None:
    """States that are not kept, by the forget gate of an LSTM and the update gate of a GRU."""
    layer: nn.RNNBase = training.model.rnn
    hidden, value = layer.hidden_size, -6.0
    for name, bias in layer.named_parameters():
        if "bias_ih" in name and isinstance(layer, nn.RNN):
            layer.get_parameter("weight_hh_l0").mul_(0.02)
        elif "bias_ih" in name:
            bias[hidden : 2 * hidden] = value


@torch.no_grad()
def _relu(training: Training) -> None:
    """Rectified units whose recurrent weights are above the identity."""
    layer = training.model.rnn
    options = {"nonlinearity": "relu"} if isinstance(layer, nn.RNN) else {}
    if not options:
        _scaled("weight_hh", 30.0)(training)
        return
    new = nn.RNN(layer.input_size, layer.hidden_size, nonlinearity="relu")
    nn.init.eye_(new.get_parameter("weight_hh_l0")).mul_(1.6)
    training.model.rnn = new
    kind: Any = type(training.optimizer)
    training.optimizer = kind(training.model.parameters(), training.optimizer.defaults["lr"])


HARMS: dict[str, Callable[[Training], None]] = {
    "rate x 1000": _rate(1000.0),
    "rate x 200": _rate(200.0),
    "rate / 1000": _rate(1e-3),
    "clip or rate too small": _tight,
    "recurrent weights x 8": _scaled("weight_hh", 8.0),
    "input weights x 200": _scaled("weight_ih", 200.0),
    "memory closed": _closed,
    "relu or weights x 30": _relu,
}


@dataclass(frozen=True)
class Repaired:
    """What came of one setting.

    Attributes:
        setting: Base and harm.
        part: Of the setting, by a hash of its name.
        target: Loss at the end that counts as learned.
        untreated: Losses at the end under the judging seeds, harmed and left alone.
        verdict: Of the repair.
        plan: Of the repair.
        kept: What it kept, or None.
        why: In its words.
        with_kept: Losses at the end with it, under the judging seeds.
        with_first: The same with the first of the plan.
        seconds: That the repair took.
    """

    setting: str
    part: str
    target: float
    untreated: tuple[float, ...]
    verdict: str
    plan: tuple[str, ...]
    kept: str | None
    why: str
    with_kept: tuple[float, ...]
    with_first: tuple[float, ...]
    seconds: float

    def reached(self, losses: Iterable[float]) -> int:
        """How many of these losses reach the target."""
        return sum(loss <= self.target for loss in losses)

    @property
    def is_harmed(self) -> bool:
        """Whether the harm is real."""
        return self.reached(self.untreated) <= FEW

    @property
    def is_worse(self) -> bool:
        """Whether what was kept ends without a finite loss, or worse than nothing."""
        if self.kept is None:
            return False
        if not all(map(math.isfinite, self.with_kept)):
            return True
        left = [loss if math.isfinite(loss) else math.inf for loss in self.untreated]
        return median(self.with_kept) > median(left)


def part_of(setting: str) -> Part:
    """By a hash of the name."""
    return "development" if hashlib.sha256(setting.encode()).digest()[0] % 2 else "held-back"


def made(base: str, harm: str | None, seed: int) -> Training:
    """The training as it starts."""
    torch.manual_seed(seed)
    training = BASES[base][0]()
    if harm is not None:
        HARMS[harm](training)
    return training


def ended(base: str, harm: str | None, seed: int, remedy: str | None = None) -> tuple[float, float]:
    """Mean loss of the first steps, and of the last tenth."""
    training = made(base, harm, seed)
    attached = None
    if remedy is not None:
        attached = Attached(parse(remedy), training.model, training.optimizer)
    losses: list[float] = []
    try:
        losses += [training.step(lambda _: None) for _ in range(STEPS)]
    except RuntimeError:  # a training that breaks down has no loss
        return math.nan, math.nan
    finally:
        if attached is not None:
            attached.undo()
    last = losses[-STEPS // 10 :]
    return sum(losses[:3]) / 3, sum(last) / len(last)


@cache
def target_of(base: str) -> float | None:
    """Four fifths of the way that the base goes; None if it does not get there by itself."""
    ends = [ended(base, None, seed) for seed in JUDGES]
    start, end = median(e[0] for e in ends), median(e[1] for e in ends)
    target = start - LEARNED * (start - end)
    return target if sum(e[1] <= target for e in ends) >= ENOUGH else None


def repaired(base: str, harm: str) -> Repaired | None:
    """Repair one setting and judge it; None if there is nothing to repair."""
    target = target_of(base)
    if target is None:
        print(f"{base}: the base itself does not learn", file=sys.stderr)
        return None
    untreated = tuple(ended(base, harm, seed)[1] for seed in JUDGES)
    setting = f"{base}, {harm}"
    unharmed = Repaired(setting, part_of(setting), target, untreated, "", (), None, "", (), (), 0.0)
    if not unharmed.is_harmed:
        return unharmed
    training = made(base, harm, 0)
    began = time.process_time()

    def train_step() -> torch.Tensor:
        told: list[torch.Tensor] = []
        training.step(told.append)
        return told[0]

    found = sg.repair(training.model, train_step, lag=BASES[base][1], steps=STEPS)
    seconds = time.process_time() - began
    best = None if found.choice is None else found.choice.kept
    first = found.plan[0] if found.plan else None
    with_kept = () if best is None else tuple(ended(base, harm, s, best)[1] for s in JUDGES)
    with_first = with_kept
    if first is not None and first != best:
        with_first = tuple(ended(base, harm, s, first)[1] for s in JUDGES)
    return Repaired(
        setting,
        part_of(setting),
        target,
        untreated,
        found.verdict,
        found.plan,
        best,
        "" if found.choice is None else found.choice.why,
        with_kept,
        with_first,
        round(seconds, 1),
    )


def complete(settings: Iterable[tuple[str, str]], path: Path) -> Iterator[Repaired]:
    """Run what is missing in the file, appending each as it is done."""
    there = {r.setting for r in kept(path, Repaired)}
    for base, harm in settings:
        if f"{base}, {harm}" in there:
            continue
        found = repaired(base, harm)
        if found is not None:
            append(path, found)
            yield found


def table(runs: Iterable[Repaired]) -> list[str]:
    """Counts of each part, and what was not repaired."""
    lines: list[str] = []
    runs = list(runs)
    for part in PARTS:
        of_part = [r for r in runs if r.part == part]
        harmed = [r for r in of_part if r.is_harmed]
        if not harmed:
            continue
        good = [r for r in harmed if r.reached(r.with_kept) >= ENOUGH]
        first = [r for r in harmed if r.reached(r.with_first) >= ENOUGH]
        counts = {
            "named a remedy": sum(bool(r.plan) for r in harmed),
            "kept a remedy": sum(r.kept is not None for r in harmed),
            f"target reached under {ENOUGH} of {len(JUDGES)} seeds": len(good),
            "first remedy of the plan does so": len(first),
            "kept one that ends worse, or in NaN": sum(r.is_worse for r in harmed),
        }
        lines.append(f"{part}: {len(harmed)} harmed settings of {len(of_part)}")
        lines += [f"  {what:36} {_share(n, len(harmed))}" for what, n in counts.items()]
        lines.append(
            f"  CPU seconds of a repair, median      {median(r.seconds for r in harmed):.0f}"
        )
        lines += [_missed(r) for r in harmed if r not in good]
    return lines


def _share(count: int, of: int) -> str:
    return f"{count}/{of} ({count / of:.0%})"


def _missed(run: Repaired) -> str:
    ends = ", ".join(f"{loss:.3g}" for loss in run.with_kept)
    return (
        f"    {run.setting}: {run.verdict}; plan {', '.join(run.plan) or 'none'}; kept {run.kept}; "
        f"target {run.target:.3g}, ends {ends or 'none'}; {run.why}"
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--runs", type=Path, default=RUNS, help="file of the runs")
    parser.add_argument("--only", default="", help="settings whose name contains this")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = [
        (base, harm)
        for base in BASES
        for harm in HARMS
        if args.part in ("all", part_of(f"{base}, {harm}")) and args.only in f"{base}, {harm}"
    ]
    if not args.table:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for run in complete(settings, args.runs):
                held = run.reached(run.with_kept)
                print(
                    f"{run.seconds:5.0f} s  {run.setting}: "
                    + (
                        f"{run.verdict}, kept {run.kept}, {held} of 5"
                        if run.is_harmed
                        else "unharmed"
                    ),
                    file=sys.stderr,
                    flush=True,
                )
    text = "\n".join(table(r for r in kept(args.runs, Repaired) if args.only in r.setting))
    if args.runs == RUNS and not args.only:
        RESULT.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
