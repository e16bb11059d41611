"""One training of a recipe: what came of it, and what each monitor said on the way."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import steadygrad as sg
from benchmarks.faults.data import Example, batches
from benchmarks.faults.network import Network
from benchmarks.faults.recipe import Recipe
from steadygrad.remedies import Course
from steadygrad.spec import read_spec
from steadygrad.tasks import TASKS, Benchmark
from steadygrad.tasks.scoring import WRONG

VALIDATE_EVERY = 50
LOOK_EVERY = 10
LEAST_LOG_SCALE = -6.0


class Monitor(Protocol):
    """Something that watches a training and raises alarms."""

    def begin(self, model: Network, optimizer: torch.optim.Optimizer, recipe: Recipe) -> None:
        """The training starts."""

    def loss(self, value: Tensor) -> None:
        """The loss of a step, before its backward pass."""

    def before_step(self, update: int) -> None:
        """Gradients stand, after clipping; the optimiser has not moved."""

    def after_step(self, update: int) -> None:
        """The optimiser has moved."""

    def validated(self, update: int, accuracy: float) -> None:
        """The model was scored on validation data; share of right answers."""

    def end(self) -> Any:
        """What was said, as plain values."""


def made(recipe: Recipe) -> Benchmark:
    """The recipe's task."""
    return read_spec(recipe.task, TASKS, "task")


def loss_of(task: Benchmark, recipe: Recipe) -> Callable[[Tensor, Tensor], Tensor]:
    """The task's own loss, or a Gaussian likelihood around the answer."""
    if recipe.likelihood == "none":
        return task.loss

    def likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
        mean, log_scale = outputs.chunk(2, -1)
        log_scale = log_scale.clamp_min(LEAST_LOG_SCALE)
        return (log_scale + 0.5 * ((targets - mean) / log_scale.exp()).square()).mean()

    return likelihood


def answers(outputs: Tensor, recipe: Recipe) -> Tensor:
    """What is scored of the outputs."""
    return outputs if recipe.likelihood == "none" else outputs.chunk(2, -1)[0]


def train(
    recipe: Recipe,
    seed: int,
    monitors: Sequence[Monitor] = (),
    treat: Callable[[nn.Module], Course] = lambda model: Course((), model),
    model: Network | None = None,
) -> dict[str, Any]:
    """Train under a seed; return ``reached``, ``updates``, ``figure``, ``curve`` and ``said``.

    Args:
        recipe: What the training is made of.
        seed: Of weights and data.
        monitors: By `end`, what they said stands under ``said`` in their order.
        treat: A remedy for the model as made.
        model: Trained in place of a new one.
    """
    began = time.process_time()
    torch.manual_seed(seed)
    run = _Run(recipe, seed, monitors, treat, model)
    result = run.train()
    return result | {"seconds": round(time.process_time() - began, 2)}


class _Run:
    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        monitors: Sequence[Monitor],
        treat: Callable[[nn.Module], Course],
        model: Network | None,
    ) -> None:
        self.recipe, self.monitors = recipe, monitors
        self.task = made(recipe)
        self.model = Network(self.task, recipe) if model is None else model
        self.course = treat(self.model)
        self.criterion = loss_of(self.task, recipe)
        parameters = list(self.model.parameters())
        self.parameters = parameters
        if recipe.optimizer == "adam":
            self.optimizer: torch.optim.Optimizer = torch.optim.Adam(parameters, recipe.rate)
        else:
            self.optimizer = torch.optim.SGD(parameters, recipe.rate, momentum=0.9)
        self.course.begin(self.optimizer)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.scaler = torch.amp.GradScaler("cpu", recipe.scale) if recipe.scale else None
        self.data = batches(self.task, recipe, seed)
        self.validation = list(self.task.batches("val", 250))
        for monitor in monitors:
            monitor.begin(self.model, self.optimizer, recipe)

    def train(self) -> dict[str, Any]:
        curve: list[tuple[int, float]] = []
        reached = 0
        update = 0
        for update in range(1, self.recipe.updates + 1):
            self._update(next(self.data), update)
            if update % VALIDATE_EVERY == 0:
                figures = self._validate()
                curve.append((update, figures[self.task.deciding]))
                for monitor in self.monitors:
                    monitor.validated(update, _accuracy(figures))
                if not reached and self.task.solved(figures):
                    reached = update
                    if not self.recipe.goes_on:
                        break
        return {
            "reached": reached,
            "updates": update,
            "figure": curve[-1][1] if curve else math.nan,
            "curve": curve,
            "said": [monitor.end() for monitor in self.monitors],
        }

    def _update(self, example: Example, update: int) -> None:
        recipe = self.recipe
        if recipe.warm_up:
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * min(1.0, update / recipe.warm_up)
        if recipe.poison in ("weight", "state") and update == recipe.poisoned_at:
            self._break_weights()
        loss = self.criterion(self.model(example.inputs), example.targets)
        for monitor in self.monitors:
            monitor.loss(loss.detach())
        self.optimizer.zero_grad()
        loss = loss + self.course.penalty(loss)
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        self.course.gradients()
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.parameters, recipe.clip)
        for monitor in self.monitors:
            monitor.before_step(update)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        for monitor in self.monitors:
            monitor.after_step(update)

    @torch.no_grad()
    def _break_weights(self) -> None:
        # A remedy may have put another layer in its place, or something around it.
        layer = next(m for m in self.model.modules() if isinstance(m, sg.Recurrent))
        if self.recipe.poison == "weight":
            layer.get_parameter("weight_hh_l0")[0, 0] = float("nan")
        else:  # a bias so large that the next product overflows
            layer.get_parameter("bias_ih_l0")[0] = float("inf")

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        total = [
            self.task.tally(answers(self.model(batch.inputs), self.recipe), batch.targets)
            for batch in self.validation
        ]
        return self.task.figures(torch.stack(total).sum(0))


def _accuracy(figures: dict[str, float]) -> float:
    """Share of right answers; of tasks that count recalled symbols, theirs."""
    if WRONG in figures:
        return 1 - figures[WRONG] / 100
    recalled = [v for name, v in figures.items() if "recalled" in name]
    return recalled[0] / 100 if recalled else 0.0


class Ours:
    """`steadygrad.watch`, looking every few updates, with the lag that the task needs.

    Every look is kept: its findings as pairs of fault and numbers.
    """

    def begin(self, model: Network, optimizer: torch.optim.Optimizer, recipe: Recipe) -> None:
        self.watch = sg.watch(
            model,
            optimizer,
            lag=made(recipe).required_lag,
            every=LOOK_EVERY,
            steps=recipe.updates,
            input_probe=False,
        )
        self.looks: list[list[Any]] = []
        self._is_broken = False

    def loss(self, value: Tensor) -> None:
        self._loss = float(value)
        self.watch.loss(value)

    def before_step(self, update: int) -> None:
        pass

    def validated(self, update: int, accuracy: float) -> None:
        pass

    def after_step(self, update: int) -> None:
        if self._is_broken or (update % LOOK_EVERY != 1 and self.watch.verdict != "nonfinite"):
            return
        self._is_broken = self.watch.verdict == "nonfinite"
        found = [
            [f.fault, f.layer, f.gate, f.confidence, _numbers(f.evidence), list(f.remedies)]
            for f in self.watch.findings
        ]
        self.looks.append([update, found, self._raw()])

    def _raw(self) -> dict[str, Any]:
        latest = self.watch.latest
        raw = {
            n: latest[n] for n in ("update_ratio", "grad_norm", "grad_norm_clipped") if n in latest
        }
        raw["loss"] = self._loss
        for name, flow in self.watch.flow.items():
            by_lag = flow.by_lag
            raw[name] = {
                "ratio": by_lag.at(min(self.watch.lag or by_lag.max_lag, by_lag.max_lag))
                if by_lag.max_lag >= 0
                else None,
                "max": float(by_lag.log10_ratio.max(initial=0)),
                "stuck": {g: h.shut_share for g, h in flow.gates.items()},
                "mean": {g: float(h.mean_value.mean()) for g, h in flow.gates.items()},
                "horizon": flow.horizon,
            }
        return _rounded(raw)

    def end(self) -> list[Any]:
        self.watch.close()
        return self.looks


def _numbers(evidence: Any) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in evidence.items():
        if name == "tensor":
            kept[name] = value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            kept[name] = float(f"{value:.4g}")
    return kept


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(v) for name, v in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
