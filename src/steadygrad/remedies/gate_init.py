"""Glorot's or He's initialisation, gate by gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from torch import Tensor, nn

from steadygrad.init import glorot_, he_
from steadygrad.nn import LSTM
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, only_recurrence, seeded
from steadygrad.remedies.recurrences import recurrences
from steadygrad.remedies.unsuitable import no_recurrence


@final
@dataclass(frozen=True)
class GateInit(Remedy):
    r"""Draw the weights of each gate for the fan of that gate, not of the stack.

    .. math::
        \operatorname{var} W_k = \frac{2}{I + H} \;\text{(Glorot)} \qquad
        \operatorname{var} W_k = \frac{2}{I} \;\text{(He)}

    torch draws all weights from :math:`U(\pm 1/\sqrt H)`, whatever the width of the input: a
    narrow input then has little effect, and a wide one saturates the gates. What was learned in
    these weights is lost.

    Args:
        scheme: ``"glorot"``, for tanh and logistic units, or ``"he"``, for rectified ones.
        recurrent: Whether the recurrent matrices are drawn the same way too.

    References:
        Glorot and Bengio, *Understanding the Difficulty of Training Deep Feedforward Neural
        Networks*, 2010, equation 16.
        He, Zhang, Ren and Sun, *Delving Deep into Rectifiers*, 2015, equation 10.
    """

    name: ClassVar[str] = "gate-init"
    claim: ClassVar[str] = (
        "The weights of each gate have variance 2/(I+H) (glorot) or 2/I (he) of its own fan"
    )
    helps: ClassVar[tuple[str, ...]] = ("saturated", "vanishing")
    other: ClassVar[Mapping[str, Any]] = {"scheme": "he", "recurrent": True}

    scheme: Literal["glorot", "he"] = "glorot"
    recurrent: bool = False

    def __post_init__(self) -> None:
        self.expect("scheme", self.scheme in ("glorot", "he"), "'glorot' or 'he'")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_recurrence(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        for layer in recurrences(model):
            self._draw(applied.keep(layer.parameter("weight_ih")), len(layer.gates))
            if self.recurrent:
                self._draw(applied.keep(layer.parameter("weight_hh")), len(layer.recurrent))
            what = "all weights" if self.recurrent else "input weights"
            applied.note(f"{layer.label}: {what} {self.scheme.title()}, gate by gate")

    def _draw(self, weight: Tensor, gates: int) -> None:
        if self.scheme == "glorot":
            glorot_(weight, gates)
        else:
            he_(weight, gates)

    @seeded
    def demonstrate(self) -> Demonstration:
        inputs, hidden = 50, 200
        model = nn.Sequential(LSTM(inputs, hidden))
        self.apply(model)
        variance = only_recurrence(model).value("weight_ih").detach().var().item()
        fan = inputs + hidden
        expected = 2.0 if self.scheme == "glorot" else 2.0 * fan / inputs
        text = f"variance times (I + H) {variance * fan:.3f}"
        return Demonstration(text, abs(variance * fan / expected - 1) < 0.05)
