"""LSTM whose gates are computed by a small fuzzy rule base."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, relu, sigmoid, tanh

from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State

_FUZZY = ("input", "forget", "output")
_RULES = ("low", "high")
_PARTS = ("slope", "context", "offset")


@final
@dataclass(frozen=True)
class FuzzyLSTM(Cell):
    r"""LSTM with Takagi-Sugeno gates.

    With the pre-activation :math:`z_k = W_k x_t + R_k h_{t-1} + b_k` of gate k = i, f, o and the
    mean memory :math:`\bar c_{t-1}` over the units, two rules "z is low" and "z is high" each give
    a linear output, and the gate is their mean, weighted by how far each rule holds:

    .. math::
        \mu_{\mathrm{low}, \mathrm{high}} &= \exp(-(z \pm 1)^2 / 2 s^2) \\
        y_r &= a_r z + b_r \bar c_{t-1} + d_r \qquad r = \mathrm{low}, \mathrm{high} \\
        k_t &= \beta\!\left(\frac{\mu_\mathrm{low} y_\mathrm{low} + \mu_\mathrm{high}
            y_\mathrm{high}}{\mu_\mathrm{low} + \mu_\mathrm{high}}\right) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot \tanh(W_g x_t + R_g h_{t-1} + b_g) \\
        h_t &= o_t \odot \tanh c_t

    with :math:`\beta` the logistic function, or clipping to [0, 1]. The weights of the rules are
    computed as :math:`\sigma(\mp 2z/s^2)`, which is the same fraction and cannot become 0/0.

    Along the memory the gradient is that of the LSTM plus the path through :math:`\bar c`:
    :math:`\partial c_t / \partial c_{t-1} = \operatorname{diag}(f_t)` + (rule slopes b)/H. A gate's
    own slope has a term from the moving weights, at most
    :math:`|y_\mathrm{high} - y_\mathrm{low}| / 2s^2`, which can exceed that of a logistic gate
    where s is small. A clipped gate that has left (0, 1) passes no gradient.

    No definition of "fuzzy LSTM" is canonical. This is the fuzzy *gate*; the other common meaning,
    an ordinary LSTM over a fuzzified series, is `steadygrad.tasks.FuzzySets`.

    Args:
        bound: How a gate is kept in [0, 1].
        width: s, the width of both fuzzy sets; their centres are -1 and 1.

    Shapes:
        As `steadygrad.cells.LSTM`; and six parameters ``(H,)`` for each of the three gates.

    References:
        Takagi and Sugeno, *Fuzzy Identification of Systems*, 1985 (rules with linear answers).
        Sarkar, Paul, Zhang, Neri et al., *Fuzzy LSTM-SNP* (the gate; the context there is the mean
        state of their spiking cell, here that of the LSTM).
    """

    name: ClassVar[str] = "fuzzy-lstm"
    choose_when: ClassVar[str] = (
        "Few data, and gates that should be readable as two rules each. No benefit to the "
        "gradient is claimed."
    )
    gates: ClassVar[tuple[str, ...]] = ("input", "forget", "candidate", "output")
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("forget", 1)
    states: ClassVar[tuple[str, ...]] = ("h", "c")
    per_unit: ClassVar[Mapping[str, float]] = {
        f"{part}_{rule}_{gate}": 0.0 for gate in _FUZZY for rule in _RULES for part in _PARTS
    }

    bound: Literal["sigmoid", "clip"] = "sigmoid"
    width: float = 0.5

    def __post_init__(self) -> None:
        if self.width <= 0:
            raise ValueError(f"fuzzy-lstm: width must be positive, got {self.width}")
        if self.bound not in ("sigmoid", "clip"):
            raise ValueError(f"Unknown bound '{self.bound}'. Select from sigmoid, clip.")

    def reset_(self, weights: Mapping[str, Tensor]) -> None:
        """Slopes from U(-0.1, 0.1); offsets so that every gate starts half open."""
        for name in self.per_unit:
            if name.startswith("offset"):
                torch.nn.init.constant_(weights[name], 0.5 if self.bound == "clip" else 0.0)
            else:
                torch.nn.init.uniform_(weights[name], -0.1, 0.1)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c = state
        context = c.mean(-1, keepdim=True)

        def gate(name: str) -> Tensor:
            z = getattr(x, name) + getattr(recur, name)(h)
            low, high = (
                getattr(unit, f"slope_{rule}_{name}") * z
                + getattr(unit, f"context_{rule}_{name}") * context
                + getattr(unit, f"offset_{rule}_{name}")
                for rule in _RULES
            )
            holds = sigmoid(z * (2 / self.width**2))
            answer = (1 - holds) * low + holds * high
            if self.bound == "sigmoid":
                return sigmoid(answer)
            return relu(answer) - relu(answer - 1)  # clipped to [0, 1]

        c = gate("forget") * c + gate("input") * tanh(x.candidate + recur.candidate(h))
        return gate("output") * tanh(c), c
