"""The steps: rates, schedules, clips, gradients that are kept or thrown away."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.faults_wild.case import Tell, Training, case
from benchmarks.faults_wild.models import EveryStep, LanguageModel
from benchmarks.faults_wild.tasks import text, waves

RATE_20 = "https://github.com/pytorch/examples/issues/757"
CLIP_GAP = "https://github.com/pytorch/examples/issues/95"
CRAZY = "https://github.com/keras-team/keras/issues/6932"
STANDS = "https://github.com/keras-team/keras/issues/321"
SCHEDULE = "https://github.com/amoudgl/pygoturn/issues/16"
DECAY = "https://github.com/ageron/handson-ml2/issues/287"
NO_ZERO = "https://stats.stackexchange.com/questions/376851"
ORDER = "https://velog.io/@rhss10/기본-optimizer.zerograd는-어디에-넣어주어야-할까"
AFTER_STEP = "https://github.com/jongwook/onsets-and-frames/issues/24"
NOT_ANYTHING = "https://github.com/VGraphRNN/VGRNN/issues/4"
NAN_CHARS = "https://github.com/pytorch/tutorials/issues/847"


class Forecast(Training):
    """The next value of noisy sines, at every step.

    Args:
        optimizer: Class of the optimiser.
        options: Of it.
    """

    def __init__(self, optimizer: Any, kind: str = "lstm", **options: Any) -> None:
        model = EveryStep(kind, 1, 1, 32)
        super().__init__(model, optimizer(model.parameters(), **options))

    def loss(self) -> Tensor:
        x, y = waves(30)
        return F.mse_loss(self.model(x), y)


class Language(Training):
    """The next symbol of a text."""

    def __init__(self, optimizer: Any, **options: Any) -> None:
        model = LanguageModel()
        super().__init__(model, optimizer(model.parameters(), **options))

    def loss(self) -> Tensor:
        x, y = text(30)
        return F.cross_entropy(self.model(x)[0].flatten(0, 1), y.flatten())


@case(RATE_20, "lr-high", "exploding", "nonfinite", "saturated", lag=5)
def sgd_at_20_without_a_clip() -> Training:
    return Language(torch.optim.SGD, lr=20.0)


@case(RATE_20, kind="odd", lag=5)
def sgd_at_5_with_a_clip() -> Training:
    """A large rate that the clip makes a small one, as the example of a language model has it."""
    training = Language(torch.optim.SGD, lr=5.0)
    training.clip = 0.25
    return training


@case(CRAZY, "lr-high", "saturated", "nonfinite", lag=10)
def adam_at_1() -> Training:
    return Forecast(torch.optim.Adam, lr=1.0)


@case(CRAZY, "lr-high", "saturated", "nonfinite", lag=3)
def rmsprop_at_a_half() -> Training:
    return Language(torch.optim.RMSprop, lr=0.5)


@case(NAN_CHARS, "lr-high", "nonfinite", "exploding", "dead", lag=10)
def relu_rnn_under_sgd_at_3() -> Training:
    training = Forecast(torch.optim.SGD, "rnn", lr=3.0)
    training.model.rnn = nn.RNN(1, 32, nonlinearity="relu")
    training.optimizer = torch.optim.SGD(training.model.parameters(), lr=3.0)
    return training


@case(CRAZY, kind="healthy", lag=10)
def adam_at_a_thousandth() -> Training:
    return Forecast(torch.optim.Adam, lr=3e-3)


@case(CRAZY, kind="healthy", lag=2)
def adagrad() -> Training:
    return Language(torch.optim.Adagrad, lr=0.05)


@case(STANDS, "lr-low", lag=5)
def sgd_at_a_hundred_thousandth() -> Training:
    return Forecast(torch.optim.SGD, lr=1e-5)


@case(STANDS, "lr-low", lag=3)
def adam_at_a_ten_millionth() -> Training:
    return Language(torch.optim.Adam, lr=1e-7)


@case(STANDS, "lr-low")
def adadelta_at_a_thousandth() -> Training:
    return Forecast(torch.optim.Adadelta, lr=1e-3)


@case(STANDS, kind="odd", lag=3)
def small_rate_that_learns() -> Training:
    return Language(torch.optim.AdamW, lr=5e-4)


@case(SCHEDULE, "lr-low", lag=5, twin="cosine_schedule")
def schedule_of_epochs_stepped_each_batch() -> Training:
    training = Forecast(torch.optim.Adam, lr=1e-3)
    training.scheduler = torch.optim.lr_scheduler.ExponentialLR(training.optimizer, 0.8)
    return training


@case(SCHEDULE, "lr-low", lag=3)
def step_schedule_of_one_batch() -> Training:
    training = Language(torch.optim.SGD, lr=0.5, momentum=0.9)
    training.scheduler = torch.optim.lr_scheduler.StepLR(training.optimizer, 1, 0.5)
    return training


@case(DECAY, kind="healthy", lag=5)
def cosine_schedule() -> Training:
    training = Forecast(torch.optim.Adam, lr=5e-3)
    training.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(training.optimizer, 400)
    return training


@case(DECAY, kind="odd", lag=3)
def warm_up_of_100_steps() -> Training:
    training = Language(torch.optim.AdamW, lr=1e-2)
    training.scheduler = torch.optim.lr_scheduler.LambdaLR(
        training.optimizer, lambda step: min(1.0, (step + 1) / 100)
    )
    return training


@case(DECAY, kind="healthy", lag=4)
def one_cycle_under_sgd() -> Training:
    training = Language(torch.optim.SGD, lr=0.5, momentum=0.9)
    training.scheduler = torch.optim.lr_scheduler.OneCycleLR(training.optimizer, 1.0, 401)
    training.clip = 1.0
    return training


class Keeping(Forecast):
    """Never zeroes a gradient."""

    def step(self, tell: Tell) -> float:
        loss = self.loss()
        loss.backward()
        tell(loss)
        self.optimizer.step()
        return float(loss.detach())


@case(NO_ZERO, "no-zero-grad", lag=5, name="no_zero_grad_under_adam", args=(torch.optim.Adam, 1e-3))
@case(NO_ZERO, "no-zero-grad", name="no_zero_grad_under_sgd", args=(torch.optim.SGD, 0.01))
def keeping(optimizer: Any, lr: float) -> Training:
    return Keeping(optimizer, lr=lr)


class Accumulating(Forecast):
    """Four batches to a step, on purpose."""

    def step(self, tell: Tell) -> float:
        self.optimizer.zero_grad()
        loss = self.loss() / 4
        for _ in range(3):
            loss.backward()
            loss = self.loss() / 4
        loss.backward()
        tell(4 * loss.detach())
        self.optimizer.step()
        return 4 * float(loss.detach())


@case(NO_ZERO, kind="odd", lag=5, steps=200)
def gradients_of_four_batches() -> Training:
    return Accumulating(torch.optim.Adam, lr=3e-3)


class ZeroedTooLate(Forecast):
    """Zeroes the gradients between backward pass and step."""

    def step(self, tell: Tell) -> float:
        loss = self.loss()
        loss.backward()
        self.optimizer.zero_grad()
        tell(loss)
        self.optimizer.step()
        return float(loss.detach())


@case(ORDER, "no-gradient", lag=5, name="zero_grad_before_the_step", args=(torch.optim.Adam,))
@case(ORDER, "no-gradient", name="zero_grad_before_a_step_of_sgd", args=(torch.optim.SGD,))
def zeroed(optimizer: Any) -> Training:
    return ZeroedTooLate(optimizer, lr=1e-2)


class StepFirst(Forecast):
    """Steps, and only then goes back: right, though a step late."""

    def step(self, tell: Tell) -> float:
        loss = self.loss()
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        tell(loss.detach())
        self.optimizer.step()
        return float(loss.detach())


@case(ORDER, kind="odd", lag=5)
def gradients_zeroed_in_place() -> Training:
    return StepFirst(torch.optim.RMSprop, lr=1e-3)


@case(CLIP_GAP, "clip-tight", lag=3, twin="clip_that_rarely_acts")
def clip_of_a_thousandth_under_sgd() -> Training:
    training = Language(torch.optim.SGD, lr=0.1)
    training.clip = 1e-3
    return training


@case(CLIP_GAP, "clip-tight", lag=5)
def clip_of_a_hundredth_under_momentum() -> Training:
    training = Language(torch.optim.SGD, lr=0.02, momentum=0.5)
    training.clip = 0.01
    return training


@case(CLIP_GAP, kind="healthy", lag=3)
def clip_that_rarely_acts() -> Training:
    training = Language(torch.optim.SGD, lr=0.5, momentum=0.9)
    training.clip = 1.0
    return training


@case(CLIP_GAP, kind="odd", lag=3)
def tight_clip_under_adam() -> Training:
    """Adam divides by the gradient's size: a clip that always acts does no harm."""
    training = Language(torch.optim.Adam, lr=5e-3)
    training.clip = 1e-3
    return training


class ClippedTooLate(Language):
    """Clips after the step, where there is nothing left to clip."""

    def step(self, tell: Tell) -> float:
        told = super().step(tell)
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.25)
        return told


@case(AFTER_STEP, "clip-misplaced", "lr-high", "exploding", "nonfinite", "saturated", lag=3)
def clip_after_the_step() -> Training:
    return ClippedTooLate(torch.optim.SGD, lr=40.0)


@case(NOT_ANYTHING, "clip-misplaced", lag=3)
def clip_after_the_step_that_is_not_needed() -> Training:
    return ClippedTooLate(torch.optim.Adam, lr=3e-3)


@case(STANDS, "lr-high", "constant-prediction", "vanishing", "dead", lag=5)
def weight_decay_of_1() -> Training:
    return Forecast(torch.optim.Adam, lr=3e-3, weight_decay=1.0)
