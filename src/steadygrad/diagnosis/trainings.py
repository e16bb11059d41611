"""Trainings that a repair asks for, each under a seed, with a remedy or without.

The reader brings what every loop has: a model, and a function that does one step of training or a
whole training. Three forms of that function are told apart by what it has to be given:

- ``train(model, course)`` trains a new model on a course of remedies (`CourseTrainings`);
- ``train(model)`` trains the model that it is given (`LoopTrainings`, on copies);
- ``train()`` trains a model that it knows already (`LoopTrainings`, in place: model and optimiser
  are put back after every training).
"""

import copy
import inspect
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from steadygrad.diagnosis.diagnose import Diagnosis, diagnose
from steadygrad.diagnosis.forks import Better, Scored
from steadygrad.diagnosis.lag import Lag
from steadygrad.diagnosis.watch import watch
from steadygrad.diagnosis.watching.watcher import Watch
from steadygrad.errors import InputError
from steadygrad.faults import Finding
from steadygrad.remedies import Attached, Course, Remedy, parse
from steadygrad.remedies.attached import at_gradients

DEFAULT_STEPS = 300
LOOKS = 30  # at a training that is watched
FIRST = 3  # losses that stand for the network as it was before the training
LAST = 0.1  # share of the losses that stand for the network at the end


@dataclass(frozen=True)
class Looked:
    """What was found wrong before any remedy was tried.

    Attributes:
        verdict: In one word.
        findings: Worst first.
    """

    verdict: str
    findings: tuple[Finding, ...]


class Trainings(ABC):
    """Trains with one remedy or none, under a seed; the caller's random state stays as it is."""

    @abstractmethod
    def look(self, seed: int, is_dry: bool) -> Looked:
        """Find out what is wrong, without a training if ``is_dry`` and that is possible."""

    @abstractmethod
    def score(self, name: str | None, seed: int) -> Scored:
        """Train, and return the score at the end."""

    @property
    def better(self) -> Better:
        """Which way a score is better."""
        return "higher"

    def allows(self, remedy: Remedy) -> bool:
        """Whether a remedy can act in such a training."""
        return True

    def close(self) -> None:  # noqa: B027  # a hook
        """Leave everything as it was found."""


def needed_arguments(function: Callable[..., Any]) -> int:
    """How many arguments a function has to be given."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2
    return sum(p.kind in kinds and p.default is p.empty for p in parameters)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch, numpy and Python under a seed; afterwards all are where they were."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  # the reader's own draws
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


def is_finite(model: nn.Module) -> bool:
    """Whether every parameter is."""
    return all(bool(p.detach().isfinite().all()) for p in model.parameters())


class CourseTrainings(Trainings):
    """Of models made anew, by a function that knows how to follow a `Course`.

    Args:
        factory: Makes a model.
        train: Trains it for a fixed budget and returns its score.
        loss_fn: Loss of one batch; by it a training is held to have learned something.
        lag: Steps back that the task needs.
    """

    def __init__(
        self,
        factory: Callable[[], nn.Module],
        train: Callable[[nn.Module, Course], float],
        loss_fn: Callable[[nn.Module], Tensor] | None,
        lag: Lag,
    ) -> None:
        self._factory, self._train, self._loss_fn, self._lag = factory, train, loss_fn, lag
        self._plain: dict[int, tuple[nn.Module, Scored]] = {}

    def look(self, seed: int, is_dry: bool) -> Looked:
        with seeded(seed):
            model = self._factory()
        found = self._diagnosed(model)
        if not found.findings and not is_dry:
            self.score(None, seed)
            found = self._diagnosed(self._plain[seed][0])
        return Looked(found.verdict, tuple(found.findings))

    def _diagnosed(self, model: nn.Module) -> Diagnosis:
        if self._loss_fn is None:
            raise InputError(
                "repair: expected loss_fn, the loss of one batch with a model, to look at its "
                "gradient; or findings, of a watch over a training"
            )
        loss_fn = self._loss_fn
        return diagnose(model, lambda: loss_fn(model), self._lag)

    def score(self, name: str | None, seed: int) -> Scored:
        if name is None and seed in self._plain:
            return self._plain[seed][1]
        with seeded(seed):
            model = self._factory()
            before = self._loss(model, seed)  # of the model without the remedy
            course = Course(() if name is None else (parse(name),), model)
            value = float(self._train(model, course))
        after = self._loss(model, seed)
        is_whole = is_finite(model) and (after is None or math.isfinite(after))
        has_learned = None
        if before is not None and after is not None and before != after:
            has_learned = after < before or not math.isfinite(before)
        scored = Scored(value if is_whole else math.nan, has_learned=has_learned)
        if name is None:
            self._plain[seed] = model, scored
        return scored

    def _loss(self, model: nn.Module, seed: int) -> float | None:
        """Of the same batch before and after a training, if it is drawn; buffers stay."""
        if self._loss_fn is None:
            return None
        buffers = [(b, b.clone()) for b in model.buffers()]
        with seeded(seed), torch.no_grad():
            loss = float(self._loss_fn(model))
            for buffer, value in buffers:
                buffer.copy_(value)
        return loss


class LoopTrainings(Trainings):
    """By the reader's own loop, which knows nothing of remedies.

    Args:
        model: Trained in place by a function without arguments; else copied, or made if it is no
            module but makes one.
        train: Does one step of the optimiser and returns its loss, or a whole training and returns
            its score; found out by counting.
        lag: Steps back that the task needs.
        steps: Calls of a function that does one step.
        better: Which way a score is better; None: higher for a whole training, lower for steps,
            which return losses.
    """

    def __init__(
        self,
        model: nn.Module | Callable[[], nn.Module],
        train: Callable[..., Any],
        lag: Lag,
        steps: int,
        better: Better | None,
    ) -> None:
        self._train, self._lag, self._steps = train, lag, steps
        self._better: Better | None = better
        self._takes_model = needed_arguments(train) == 1
        self._model, self._kept = model, None
        if not self._takes_model:
            if not isinstance(model, nn.Module):
                raise InputError(
                    "repair: a function without arguments trains a model that it knows already: "
                    f"give that model, a torch.nn.Module, not {type(model).__name__}"
                )
            self._kept = _Kept(model)
        self._is_step = True
        self._plain: dict[int, Scored] = {}
        self._looked: Looked | None = None
        self._discover()

    @property
    def better(self) -> Better:
        if self._better is not None:
            return self._better
        if self._is_step:
            return "lower"
        return "higher"

    def allows(self, remedy: Remedy) -> bool:
        return not remedy.has_penalty  # there is no place for it in the loop

    def close(self) -> None:
        if self._kept is not None:
            self._kept.restore()

    def look(self, seed: int, is_dry: bool) -> Looked:
        if self._looked is None:
            self._plain[seed] = self._run(None, seed, is_watched=True)
        assert self._looked is not None
        return self._looked

    def score(self, name: str | None, seed: int) -> Scored:
        if name is not None:
            return self._run(name, seed)
        if seed not in self._plain:
            self._plain[seed] = self._run(None, seed)
        return self._plain[seed]

    def _discover(self) -> None:
        """Call the function once: which optimiser does it step, and how often?"""
        model = self._fresh()
        with seeded(0), _Steps(model) as steps:
            if self._kept is not None:
                steps.on_first = self._kept.keep
            self._call(model)
        steps.check(self._takes_model)
        self._is_step = steps.count == 1
        if self._kept is not None:
            self._kept.restore()

    def _fresh(self) -> nn.Module:
        if self._kept is not None:
            self._kept.restore()
            return self._kept.model
        if not isinstance(self._model, nn.Module):
            return self._model()
        try:
            return copy.deepcopy(self._model)
        except (RuntimeError, TypeError) as error:
            raise InputError(
                f"repair: this {type(self._model).__name__} cannot be copied ({error}); give a "
                "function that makes it instead"
            ) from None

    def _call(self, model: nn.Module, tell: Callable[[Any], None] = lambda result: None) -> float:
        result = self._train(model) if self._takes_model else self._train()
        number = result.detach() if isinstance(result, Tensor) else result
        try:
            value = float(number)
        except (TypeError, ValueError):
            raise InputError(
                "repair: the function must return a number, the loss of its step or the score of "
                f"its training, got {type(result).__name__}"
            ) from None
        tell(result)  # with its graph, by which a watch knows what it is computed from
        return value

    def _run(self, name: str | None, seed: int, is_watched: bool = False) -> Scored:
        with seeded(seed):
            model = self._fresh()
            attached: list[Attached] = []
            optimizer = None if self._kept is None else self._kept.optimizer
            with _Steps(model) as steps:
                if name is not None and optimizer is not None:
                    attached.append(Attached(parse(name), model, optimizer))
                elif name is not None:
                    steps.treat(parse(name))
                try:
                    if is_watched:
                        return self._watched(model, optimizer, steps)
                    return self._scored(model, steps)
                finally:
                    for each in attached:
                        each.undo()

    def _watched(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None, steps: "_Steps"
    ) -> Scored:
        made: list[Watch] = []

        def begin(optimizer: torch.optim.Optimizer) -> None:
            every = max(1, self._steps // LOOKS) if self._is_step else 5
            made.append(watch(model, optimizer, lag=self._lag, every=every))

        if optimizer is not None:
            begin(optimizer)
        else:
            steps.on_first = begin
        try:
            scored = self._scored(model, steps, made)
        finally:
            for each in made:
                each.close()
        (seen,) = made
        self._looked = Looked(seen.verdict, tuple(seen.findings))
        return scored

    def _scored(
        self, model: nn.Module, steps: "_Steps", watches: "list[Watch] | None" = None
    ) -> Scored:
        """Train; a training that ends in numbers which are not finite has none."""
        if not self._is_step:
            value = self._call(model)
            return Scored(value if steps.is_whole and is_finite(model) else math.nan)

        def tell(loss: Any) -> None:
            for each in watches or ():
                each.loss(loss)

        values = [self._call(model, tell) for _ in range(self._steps)]
        first, last = values[:FIRST], values[-max(FIRST, round(LAST * len(values))) :]
        ending = values[len(values) // 2 :]
        if not (steps.is_whole and is_finite(model) and all(map(math.isfinite, ending))):
            return Scored(math.nan, has_learned=False)
        start, end = fmean(first), fmean(last)
        is_better = end > start if self.better == "higher" else end < start
        return Scored(end, has_learned=is_better or not math.isfinite(start))


class _Steps:
    """Sees every step of an optimiser that holds parameters of a model.

    Args:
        model: Whose.

    Attributes:
        count: Steps so far.
        optimizers: Those that took them.
        on_first: Called with each optimiser before its first step.
    """

    def __init__(self, model: nn.Module) -> None:
        self._own = {id(p) for p in model.parameters()}
        self._model = model
        self.count = 0
        self.optimizers: list[torch.optim.Optimizer] = []
        self.strangers = 0
        self.on_first: Callable[[torch.optim.Optimizer], None] | None = None
        self._remedy: Remedy | None = None
        self._were_finite: list[bool] = []

    def treat(self, remedy: Remedy) -> None:
        """Treat the model now, and the gradients of each optimiser that is seen."""
        Course((remedy,), self._model)
        self._own = {id(p) for p in self._model.parameters()}
        self._remedy = remedy

    @property
    def is_whole(self) -> bool:
        """Whether most of the last steps had finite gradients, before any remedy saw them."""
        last = self._were_finite[-max(1, round(LAST * len(self._were_finite))) :]
        return sum(last) * 2 >= len(last)

    def check(self, takes_model: bool) -> None:
        """Refuse a function that trains something else, or several things at once.

        Raises:
            InputError: No optimiser of the model's parameters was stepped, or several were.
        """
        if not self.count:
            what = (
                "make the optimiser inside of the function, of the model that it is given; or take "
                "no argument, and train your own model in place"
                if takes_model and self.strangers
                else "it must call optimizer.step() on an optimiser that holds the model's "
                "parameters, at least once"
            )
            raise InputError(f"repair: the function trained no parameter of the model: {what}")
        if len(self.optimizers) > 1 and not takes_model:
            raise InputError(
                f"repair: the function steps {len(self.optimizers)} optimisers of one model; write "
                "it as train(model), which makes its optimisers itself"
            )

    def _see(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for g in optimizer.param_groups for p in g["params"]]
        if not any(id(p) in self._own for p in parameters):
            self.strangers += 1
            return
        self.count += 1
        if optimizer not in self.optimizers:
            self.optimizers.append(optimizer)
            if self.on_first is not None:
                self.on_first(optimizer)
            if self._remedy is not None and self._remedy.acts_on_gradients:
                at_gradients(optimizer, self._remedy.begin(self._model, optimizer))
        grads = [p.grad for p in parameters if p.grad is not None]
        total = sum(float(g.detach().float().sum()) for g in grads)
        self._were_finite.append(math.isfinite(total))

    def __enter__(self) -> "_Steps":
        self._handle = register_optimizer_step_pre_hook(self._see)
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.remove()


class _Kept:
    """A model that is trained in place, and its optimiser, as they were found.

    Attributes:
        model: The model.
        optimizer: Known once it has been seen.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        tensors = [*model.parameters(), *model.buffers()]
        self._values = [(t, t.detach().clone()) for t in tensors]
        self._grads = [(p, None if p.grad is None else p.grad.clone()) for p in model.parameters()]
        self._modes = [(m, m.training) for m in model.modules()]
        self.optimizer: torch.optim.Optimizer | None = None
        self._state: dict[str, Any] = {}

    def keep(self, optimizer: torch.optim.Optimizer) -> None:
        """Remember an optimiser as it is before its first step."""
        if self.optimizer is None:
            self.optimizer = optimizer
            self._state = copy.deepcopy(optimizer.state_dict())

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back."""
        for tensor, value in self._values:
            tensor.copy_(value)
        for parameter, grad in self._grads:
            parameter.grad = None if grad is None else grad.clone()
        for module, mode in self._modes:
            module.training = mode
        if self.optimizer is not None:
            self.optimizer.state.clear()
            self.optimizer.load_state_dict(copy.deepcopy(self._state))
