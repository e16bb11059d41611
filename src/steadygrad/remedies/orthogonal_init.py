"""Orthogonal initialisation of recurrent matrices."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import nn

from steadygrad.init import glorot_, orthogonal_
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, singular_values_lie
from steadygrad.remedies.parameter_code import parameter_at
from steadygrad.remedies.patch import MOST_LINES, Names, Patch
from steadygrad.remedies.recurrences import recurrences
from steadygrad.remedies.unsuitable import no_recurrence


@final
@dataclass(frozen=True)
class OrthogonalInit(Remedy):
    r"""Start each recurrent gate block orthogonal times ``gain``, and input weights Glorot.

    .. math::
        R_k R_k^\top = \text{gain}^2 I, \qquad
        \lVert R_k^\top \delta \rVert = \text{gain} \, \lVert \delta \rVert

    The matrix then neither stretches nor shrinks a gradient :math:`\delta` in the backward pass;
    only the slope of the nonlinearity, at most one for tanh, does. torch's default draws from
    :math:`U(\pm 1/\sqrt{H})`, whose spectral radius is near :math:`1/\sqrt 3`: it loses a
    decade in about four steps. What was learned in these weights is lost.

    Args:
        gain: Every singular value of each block. A little above 1 compensates for the slope of
            tanh; far above, the state becomes chaotic and the gradient explodes.
        glorot: Whether the input weights are redrawn too (torch's default is small where the
            input is narrow).
        zero_bias: Whether the biases are set to 0 too.

    References:
        Saxe, McClelland and Ganguli, *Exact Solutions to the Nonlinear Dynamics of Learning in
        Deep Linear Neural Networks*, 2014, sections 3 and 4 (for tanh a gain just above 1).
        Glorot and Bengio, *Understanding the Difficulty of Training Deep Feedforward Neural
        Networks*, 2010, equation 16 (input weights).
    """

    name: ClassVar[str] = "orthogonal-init"
    claim: ClassVar[str] = "Every singular value of every recurrent gate block is gain"
    helps: ClassVar[tuple[str, ...]] = (
        "vanishing",
        "vanishing-depth",
        "exploding",
        "saturated",
        "dead",
        "nonfinite",
    )
    rank: ClassVar[Mapping[str, int]] = {
        "vanishing": 20,
        "vanishing-depth": 30,
        "exploding": 10,
        "saturated": 30,
        "dead": 40,
        "nonfinite": 40,
    }
    also_try: ClassVar[tuple[Mapping[str, Any], ...]] = ({"gain": 1.1},)
    other: ClassVar[Mapping[str, Any]] = {"gain": 0.5, "glorot": False, "zero_bias": True}

    gain: float = 1.0
    glorot: bool = True
    zero_bias: bool = False

    def __post_init__(self) -> None:
        self.expect("gain", 0 < self.gain < float("inf"), "a finite number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_recurrence(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        for layer in recurrences(model):
            weight = applied.keep(layer.parameter("weight_hh"))
            orthogonal_(weight, len(layer.recurrent), self.gain)
            many = len(layer.recurrent) > 1
            what = (
                f"each of {len(layer.recurrent)} recurrent blocks" if many else "recurrent matrix"
            )
            done = [f"{what} orthogonal times {self.gain:g}"]
            if self.glorot:
                glorot_(applied.keep(layer.parameter("weight_ih")), len(layer.gates))
                done.append("input weights Glorot")
            if self.zero_bias:
                for bias in layer.biases():
                    nn.init.zeros_(applied.keep(bias))
                done.append("biases 0")
            applied.note(f"{layer.label}: {', '.join(done)}")

    def patch(self, model: nn.Module, names: Names | None = None) -> Patch:
        names = names or Names()
        lines: list[str] = []
        for layer in recurrences(model):
            weight = parameter_at(layer, names.model, model, "weight_hh")
            lines.append(f"sg.init.orthogonal_({weight}, {len(layer.recurrent)}, {self.gain!r})")
            if self.glorot:
                weight = parameter_at(layer, names.model, model, "weight_ih")
                lines.append(f"sg.init.glorot_({weight}, {len(layer.gates)})")
            if self.zero_bias:
                lines += [
                    f"torch.nn.init.zeros_({parameter_at(layer, names.model, model, stem)})"
                    for stem in ("bias_ih", "bias_hh")
                    if layer.find(stem) is not None
                ]
        return Patch(tuple(lines)) if len(lines) <= MOST_LINES else super().patch(model, names)

    def demonstrate(self) -> Demonstration:
        return singular_values_lie(self, self.gain, self.gain)
