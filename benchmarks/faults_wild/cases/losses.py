"""What the loss is given, and what is asked for by it."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.faults_wild.case import Training, case
from benchmarks.faults_wild.models import LastStep
from benchmarks.faults_wild.tasks import recalled, waves

TWICE = "https://discuss.pytorch.org/t/cross-entropy-loss-is-not-decreasing/43814/16"
RAW = "https://stackoverflow.com/questions/67326801"
BROADCAST = "https://blog.gitcode.com/622b5fd6838803808dcfbf68d2df7a66.html"
NAN_MIXTURE = "https://github.com/keras-team/keras/issues/2586"
NEGATIVE = "https://github.com/cpmpercussion/keras-mdn-layer/issues/26"
RELU_HEAD = "https://stackguides.com/questions/51432661"
SOFTMAX_MSE = "https://github.com/keras-team/keras/issues/321"


class Classify(Training):
    """The sign of an input two steps back.

    Args:
        head: Put behind the model.
        outside: Applied by the caller before the loss.
        loss: Of scores and labels.
    """

    def __init__(self, head: nn.Module | None, outside: Any, loss: Any, outputs: int = 2) -> None:
        net = LastStep("gru", 4, outputs)
        model: nn.Module = net if head is None else nn.Sequential(net, head)
        super().__init__(model, torch.optim.Adam(model.parameters(), 3e-3))
        self.outside, self.criterion = outside, loss

    def loss(self) -> Tensor:
        x, y = recalled(10, 2)
        scores = self.model(x)
        return self.criterion(scores if self.outside is None else self.outside(scores), y)


def binary(scores: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores[:, 0], y.float())


def likelihood(scores: Tensor, y: Tensor) -> Tensor:
    return F.nll_loss(scores, y)


def softmax(scores: Tensor) -> Tensor:
    return torch.softmax(scores, -1)


@case(TWICE, "applied-twice", lag=2, name="softmax_in_the_model")
def softmax_inside() -> Training:
    return Classify(nn.Softmax(-1), None, F.cross_entropy)


@case(TWICE, "applied-twice", lag=2, name="softmax_by_the_caller")
def softmax_outside() -> Training:
    return Classify(None, softmax, nn.CrossEntropyLoss())


@case(TWICE, "applied-twice", name="sigmoid_in_the_model")
def sigmoid_inside() -> Training:
    return Classify(nn.Sigmoid(), None, binary, 1)


@case(TWICE, "applied-twice", lag=2, name="sigmoid_by_the_caller")
def sigmoid_outside() -> Training:
    return Classify(None, torch.sigmoid, binary, 1)


@case(TWICE, "applied-twice", lag=2, name="softmax_given_to_nll")
def softmax_and_nll() -> Training:
    """The likelihood loss takes logarithms, and is given probabilities."""
    return Classify(nn.Softmax(-1), None, likelihood)


@case(TWICE, kind="healthy", lag=2)
def log_softmax_and_nll() -> Training:
    return Classify(nn.LogSoftmax(-1), None, likelihood)


@case(TWICE, kind="odd", lag=2)
def log_softmax_and_cross_entropy() -> Training:
    """Twice, and without effect: the logarithm of a softmax is its own."""
    return Classify(nn.LogSoftmax(-1), None, F.cross_entropy)


@case(TWICE, kind="odd", lag=2)
def sigmoid_and_binary_cross_entropy() -> Training:
    def loss(scores: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy(scores[:, 0], y.float())

    return Classify(nn.Sigmoid(), None, loss, 1)


@case(TWICE, kind="odd", lag=2)
def softmax_inside_an_attention() -> Training:
    """A softmax below the head is no mistake."""

    class Attention(LastStep):
        def forward(self, x: Tensor) -> Tensor:
            out, _ = self.rnn(x)
            weights = torch.softmax((out * out[-1]).sum(-1), 0)
            return self.fc((weights[..., None] * out).sum(0) + out[-1])

    training = Classify(None, None, F.cross_entropy)
    training.model = Attention("gru")
    training.optimizer = torch.optim.Adam(training.model.parameters(), 3e-3)
    return training


class Regress(Training):
    """The value that follows a series, at its last step.

    Args:
        scale: What the targets are multiplied by.
        offset: What is then added.
        head: Put behind the model.
        loss: Of outputs ``(B, 1)`` and targets ``(B, 1)``.
    """

    def __init__(
        self,
        scale: float = 1.0,
        offset: float = 0.0,
        head: nn.Module | None = None,
        loss: Any = F.mse_loss,
    ) -> None:
        net = LastStep("lstm", 1, 1)
        model: nn.Module = net if head is None else nn.Sequential(net, head)
        super().__init__(model, torch.optim.Adam(model.parameters(), 3e-3))
        self.scale, self.offset, self.criterion = scale, offset, loss

    def loss(self) -> Tensor:
        x, y = waves(20, 32)
        return self.criterion(self.model(x), self.scale * y[-1] + self.offset)


@case(RAW, "target-scale", lag=3)
def targets_of_a_million() -> Training:
    return Regress(2e5, 1e6)


@case(RAW, "target-scale")
def targets_of_house_prices() -> Training:
    return Regress(8e4, 3e5)


@case(RAW, kind="healthy", lag=3)
def targets_as_they_should_be() -> Training:
    return Regress()


@case(RAW, kind="odd", lag=3)
def targets_of_five() -> Training:
    return Regress(3.0, 5.0)


def column_and_row(out: Tensor, y: Tensor) -> Tensor:
    return ((out - y[:, 0]) ** 2).mean()


def warned(out: Tensor, y: Tensor) -> Tensor:
    return F.l1_loss(out[:, 0], y)


@case(BROADCAST, "target-broadcast", lag=3, name="column_minus_row", args=(column_and_row,))
@case(BROADCAST, "target-broadcast", name="row_against_column_in_l1", args=(warned,))
def broadcast(loss: Any) -> Training:
    """Every answer is compared with every target: the best is the mean of all."""
    return Regress(loss=loss)


def huber(out: Tensor, y: Tensor) -> Tensor:
    return F.smooth_l1_loss(out, y[:, 0])


@case(BROADCAST, "target-broadcast", lag=4, name="column_against_row_in_huber", args=(huber,))
def broadcast_in_huber(loss: Any) -> Training:
    return Regress(loss=loss)


@case(BROADCAST, kind="odd", lag=3, steps=300)
def ranking_of_all_pairs() -> Training:
    """Every answer less every other: pairs are meant."""

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.softplus(-(out - out.T) * (y - y.T).sign()).mean()

    return Regress(loss=loss)


@case(BROADCAST, kind="odd", lag=3)
def loss_against_quantiles() -> Training:
    """A column of answers against a row of quantiles is broadcast on purpose."""

    def pinball(out: Tensor, y: Tensor) -> Tensor:
        q = torch.tensor([0.45, 0.5, 0.55])
        error = y - out
        return torch.maximum(q * error, (q - 1) * error).mean()

    return Regress(loss=pinball)


@case(RELU_HEAD, "constant-prediction", "dead", lag=3)
def relu_behind_the_head() -> Training:
    """Targets below zero, and answers that cannot be."""
    return Regress(0.2, -1.0, nn.ReLU())


@case(SOFTMAX_MSE, "constant-prediction", "no-gradient", lag=3)
def softmax_of_one_output() -> Training:
    """A softmax over one value is one, whatever comes in."""
    return Regress(head=nn.Softmax(-1))


class Gaussian(Training):
    """Mean and scale of the next value, by their likelihood.

    Args:
        floor: Of the scale.
        known: Whether the series is without noise, so that the scale may shrink for ever.
    """

    def __init__(self, floor: float, known: bool, lr: float) -> None:
        model = LastStep("lstm", 1, 2)
        super().__init__(model, torch.optim.Adam(model.parameters(), lr))
        self.floor, self.known = floor, known

    def loss(self) -> Tensor:
        x, y = waves(20, noise=0.0 if self.known else 0.2)
        if self.known:  # as where a feature gives the target away
            y = x
        mean, scale = self.model(x).unbind(-1)
        scale = scale.exp() + self.floor
        error = (y[-1, :, 0] - mean) / scale
        return (0.5 * error**2 + scale.log() + 0.5 * math.log(2 * math.pi)).mean()


@case(NAN_MIXTURE, "likelihood", "nonfinite", "lr-high", lag=3, steps=900)
def scale_that_runs_away() -> Training:
    return Gaussian(0.0, True, 2e-2)


@case(NEGATIVE, kind="odd", lag=3, steps=400)
def likelihood_below_zero() -> Training:
    """A density may be above one, so that its loss is negative and all is well."""
    return Gaussian(0.05, False, 3e-3)
