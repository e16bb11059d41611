"""IRNN: ReLU units with an identity recurrent matrix."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

from torch import nn

from steadygrad.cells import Elman
from steadygrad.init import identity_
from steadygrad.nn import Recurrent
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, singular_values_lie
from steadygrad.remedies.recurrences import Recurrence, is_plain_layer, recurrences
from steadygrad.remedies.unsuitable import no_recurrence


@final
@dataclass(frozen=True)
class IRNN(Remedy):
    r"""Turn a plain recurrence into ReLU units with an identity recurrent matrix.

    .. math::
        h_t = \max(0, W x_t + R h_{t-1} + b), \qquad R = \text{scale} \cdot I, \quad b = 0, \quad
        W \sim N(0, \text{input\_std}^2)

    The slope of an active unit is exactly one, so at scale 1 its gradient passes through time
    unchanged. It is unbounded, too: once :math:`R` has learned, the state can explode, and an
    inactive unit may stay inactive. Combine it with a clip. What was learned in the layer is lost.

    Args:
        scale: The diagonal of :math:`R`. Below 1 it forgets: the paper takes 0.01 for speech.
        input_std: Standard deviation of the input weights; 0.001 as published, for inputs of
            many large features. Narrow inputs need more.

    References:
        Le, Jaitly and Hinton, *A Simple Way to Initialize Recurrent Networks of Rectified Linear
        Units*, 2015, section 3.
    """

    name: ClassVar[str] = "irnn"
    claim: ClassVar[str] = (
        "The gradient of an active unit passes each time step times exactly scale"
    )
    helps: ClassVar[tuple[str, ...]] = ("vanishing", "saturated")
    rank: ClassVar[Mapping[str, int]] = {"vanishing": 50}
    also_try: ClassVar[tuple[Mapping[str, Any], ...]] = ({"input_std": 0.1},)
    short: ClassVar[Mapping[str, Any]] = {"input_std": 0.1}
    other: ClassVar[Mapping[str, Any]] = {"scale": 0.5, "input_std": 0.3}

    scale: float = 1.0
    input_std: float = 0.001

    def __post_init__(self) -> None:
        self.expect("scale", 0 < self.scale < float("inf"), "a finite number above 0")
        self.expect("input_std", 0 < self.input_std < float("inf"), "a finite number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        reason = no_recurrence(model)
        if reason is not None or any(True for _ in _plain(model)):
            return reason
        return "it has no plain recurrence (an RNN or RNNCell) whose nonlinearity could be ReLU"

    def change(self, model: nn.Module, applied: Applied) -> None:
        for layer in _plain(model):
            _rectify(layer.module, applied)
            identity_(applied.keep(layer.parameter("weight_hh")), 1, self.scale)
            nn.init.normal_(applied.keep(layer.parameter("weight_ih")), std=self.input_std)
            for bias in layer.biases():
                nn.init.zeros_(applied.keep(bias))
            applied.note(
                f"{layer.label}: ReLU, recurrent matrix {self.scale:g} times the identity, "
                f"input weights N(0, {self.input_std:g}²), biases 0"
            )

    def demonstrate(self) -> Demonstration:
        return singular_values_lie(self, self.scale, self.scale)


def _plain(model: nn.Module) -> Iterator[Recurrence]:
    for layer in recurrences(model):
        if is_plain_layer(layer.module) or isinstance(layer.module, nn.RNNCell):
            yield layer


def _rectify(module: nn.Module, applied: Applied) -> None:
    """Make ReLU the nonlinearity of a plain recurrence."""
    if isinstance(module, Recurrent):
        assert isinstance(module.cell, Elman)
        applied.assign(module, "cell", replace(module.cell, nonlinearity="relu"))
        return
    if isinstance(module, nn.RNN):
        # torch stores the choice twice: `mode` decides, `nonlinearity` is for display.
        applied.assign(module, "mode", "RNN_RELU")
    applied.assign(module, "nonlinearity", "relu")
