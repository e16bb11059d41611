"""ParaGRU: a GRU whose recurrent weights are diagonal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor, nn, sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State


@final
@dataclass(frozen=True)
class ParaGRU(Cell):
    r"""Gated recurrent unit with diagonal recurrent weights, of ParaRNN.

    .. math::
        z_t &= \sigma(a_z \odot h_{t-1} + W_z x_t + b_z)  &&\text{update gate}  \\
        r_t &= \sigma(a_r \odot h_{t-1} + W_r x_t + b_r)  &&\text{reset gate}  \\
        n_t &= \tanh(a_n \odot (r_t \odot h_{t-1}) + W_n x_t + b_n)  &&\text{candidate}  \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot n_t

    Units do not interact in time, so the step Jacobian is diagonal: each unit's gradient has a
    factor of its own,

    .. math::
        \frac{\partial h_t}{\partial h_{t-1}} = 1 - z_t + (n_t - h_{t-1})\, z_t (1 - z_t)\, a_z
        + z_t (1 - n_t^2)\, a_n \left( r_t + h_{t-1}\, r_t (1 - r_t)\, a_r \right),

    of absolute value at most :math:`1 + |a_z|/2 + |a_n| (1 + |a_r|/4)` from a start within
    :math:`[-1, 1]`, where h then stays. At :math:`a = 0` it is :math:`1 - z_t`, in (0, 1): no
    growth. Unlike minGRU the gates see the state; the step is not linear in it. Units interact
    only through the layers above: stack several. The paper trains it in parallel over time by
    Newton's method, here it is a loop; values and gradients are those that Newton converges to.

    Shapes:
        ``h (B, H)``; ``weight_ih (3H, I)`` in the order of `gates`, Kaiming uniform (a =
        :math:`\sqrt 5`), biases at zero; no ``weight_hh``; ``recurrent_update``,
        ``recurrent_reset`` and ``recurrent_candidate (H,)`` are :math:`a_z, a_r, a_n`, from a
        Gaussian of variance 1/H (Xavier's, of an H by H matrix).

    References:
        Danieli, Rodríguez, Sarabia, Suau and Zappella, *ParaRNN: Unlocking Parallel Training of
        Nonlinear RNNs for Large Language Models*, 2025, equations 3.1a, 3.2a and 3.3; appendix
        C.1 for the start.
    """

    name: ClassVar[str] = "para-gru"
    choose_when: ClassVar[str] = (
        "Stacks of wide layers: the gates of a GRU without its products with R, so that a step "
        "costs a few operations per unit."
    )
    gates: ClassVar[tuple[str, ...]] = ("reset", "update", "candidate")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("update", -1)
    per_unit: ClassVar[Mapping[str, float]] = {
        "recurrent_reset": 0.0,
        "recurrent_update": 0.0,
        "recurrent_candidate": 0.0,
    }

    @property
    def recurrent(self) -> tuple[str, ...]:
        return ()

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        start_diagonal_(weights, tuple(self.per_unit))

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        r = sigmoid(x.reset + unit.recurrent_reset * h)
        z = sigmoid(x.update + unit.recurrent_update * h)
        n = tanh(x.candidate + unit.recurrent_candidate * (r * h))
        return (h + z * (n - h),)


def start_diagonal_(weights: Mapping[str, Tensor], diagonals: tuple[str, ...]) -> None:
    """Initialise as in ParaRNN, appendix C.1: diagonals Xavier normal, input weights Kaiming.

    Args:
        weights: As `Cell.reset_` is given them; changed in place.
        diagonals: Names of the per-unit recurrent weights among them.
    """
    for name in diagonals:
        nn.init.normal_(weights[name], std=weights[name].numel() ** -0.5)
    nn.init.kaiming_uniform_(weights["weight_ih"], a=5**0.5)
    if "bias_ih" in weights:
        nn.init.zeros_(weights["bias_ih"])
