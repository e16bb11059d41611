"""Stacks and deep networks without recurrence."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.faults_wild.case import Training, case
from benchmarks.faults_wild.tasks import recalled, waves

DEEP_LSTM = "https://datascience.stackexchange.com/questions/44213"
NEGATIVE = "https://discuss.pytorch.org/t/cross-entropy-loss-is-not-decreasing/43814/16"
SAME = "https://github.com/keras-team/keras/issues/9889"


class Stack(nn.Module):
    """LSTM layers, one on the other.

    Args:
        layers: How many.
        residual: Whether the input of each is added to its output.
    """

    def __init__(self, layers: int, residual: bool, hidden: int = 24) -> None:
        super().__init__()
        self.proj = nn.Linear(4, hidden)
        self.layers = nn.ModuleList(nn.LSTM(hidden, hidden) for _ in range(layers))
        self.fc = nn.Linear(hidden, 2)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)
        for layer in self.layers:
            y, _ = layer(x)
            x = x + y if self.residual else y
        return self.fc(x[-1])


class StackTraining(Training):
    """Recall over two steps, so that depth alone is asked for."""

    def __init__(self, layers: int, residual: bool, optimizer: str = "adam") -> None:
        model = Stack(layers, residual)
        made = (
            torch.optim.Adam(model.parameters(), 2e-3)
            if optimizer == "adam"
            else torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        )
        super().__init__(model, made)

    def loss(self) -> Tensor:
        x, y = recalled(8, 0)
        return F.cross_entropy(self.model(x), y)


@case(DEEP_LSTM, "vanishing-depth", lag=3, steps=120, twin="lstm_of_14_layers_residual")
def lstm_of_14_layers() -> Training:
    return StackTraining(14, residual=False)


@case(DEEP_LSTM, kind="healthy", lag=3, steps=120)
def lstm_of_14_layers_residual() -> Training:
    return StackTraining(14, residual=True)


@case(SAME, "vanishing-depth", steps=150)
def lstm_of_8_layers_under_sgd() -> Training:
    return StackTraining(8, residual=False, optimizer="sgd")


@case(SAME, kind="healthy", lag=2, steps=300)
def lstm_of_2_layers() -> Training:
    return StackTraining(2, residual=False)


def perceptron(layers: int, act: type[nn.Module], norm: bool = False, width: int = 48) -> nn.Module:
    """A deep feed-forward net."""
    parts: list[nn.Module] = [nn.Linear(8, width), act()]
    for _ in range(layers):
        parts += [nn.Linear(width, width), *([nn.BatchNorm1d(width)] if norm else []), act()]
    return nn.Sequential(*parts, nn.Linear(width, 2))


class Classify(Training):
    """Sign of a product of two inputs."""

    def loss(self) -> Tensor:
        x = torch.randn(32, 8)
        return F.cross_entropy(self.model(x), (x[:, 0] + x[:, 1] > 0).long())


@case(NEGATIVE, "vanishing-depth", steps=800)
def sigmoid_net_of_15_layers() -> Training:
    model = perceptron(15, nn.Sigmoid)
    return Classify(model, torch.optim.SGD(model.parameters(), 0.1))


@case(NEGATIVE, kind="healthy", steps=800)
def relu_net_of_15_layers_with_batch_norm() -> Training:
    model = perceptron(15, nn.ReLU, norm=True)
    return Classify(model, torch.optim.SGD(model.parameters(), 0.05))


@case(NEGATIVE, "exploding-depth", "nonfinite", "lr-high", steps=800)
def relu_net_with_unit_normal_weights() -> Training:
    model: Any = perceptron(8, nn.ReLU)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=1.0)
    return Classify(model, torch.optim.Adam(model.parameters(), 1e-3))


@case(SAME, kind="healthy", steps=600)
def window_of_a_series_in_a_small_net() -> Training:
    model = nn.Sequential(
        nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)
    )

    class Window(Training):
        def loss(self) -> Tensor:
            x, y = waves(20)
            return F.mse_loss(self.model(x[..., 0].T), y[-1])

    return Window(model, torch.optim.Adam(model.parameters(), 1e-3))
