"""GRU with layer normalisation of everything that enters a gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor, sigmoid, tanh

from steadygrad.cells._normalise import normalise
from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State

GATES = ("reset", "update", "candidate")


@final
@dataclass(frozen=True)
class GRULayerNorm(Cell):
    r"""GRU with layer normalisation, reset after the product.

    .. math::
        u_k &= \gamma^x_k \odot N(W_k x_t) + \beta^x_k, \quad
        v_k = \gamma^h_k \odot N(R_k h_{t-1}) + \beta^h_k \qquad k = r, z, n \\
        r_t &= \sigma(u_r + v_r)  &&\text{reset gate}  \\
        z_t &= \sigma(u_z + v_z)  &&\text{update gate} \\
        n_t &= \tanh(u_n + r_t \odot v_n) &&\text{candidate} \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}  &&\text{hidden state}

    with :math:`N(v) = (v - \bar v) / \sqrt{\operatorname{var} v + 10^{-5}}` over the units of one
    gate and one term; with ``joint`` over the three gates of a term together.

    A scaling of :math:`W` or :math:`R` changes nothing: the products cannot saturate the gates
    by growing. As in `steadygrad.cells.GRU` the gradient passes to :math:`h_{t-1}` unchanged
    where :math:`z` is near one, so a positive shift of the update gate keeps it alive through time.

    The layer's ``bias_ih`` and ``bias_hh`` lie inside the normalisation; build the layer with
    ``bias=False`` to have the plain form.

    Args:
        joint: Normalise the three gates of a term together.

    Shapes:
        As `steadygrad.cells.GRU`; gains and shifts ``(H,)`` per gate and term. Gains start at one.

    References:
        Ba, Kiros and Hinton, *Layer Normalization*, 2016, equations 23 to 25: there the reset
        gate acts on the normalised product, as here, with the two gates normalised together.
    """

    name: ClassVar[str] = "gru-layer-norm"
    choose_when: ClassVar[str] = (
        "In place of a GRU with large learning rates, in deep stacks or on inputs of "
        "changing scale."
    )
    gates: ClassVar[tuple[str, ...]] = GATES
    keeping: ClassVar[tuple[str, Literal[1, -1]] | None] = ("update", 1)
    per_unit: ClassVar[Mapping[str, float]] = {
        f"{kind}_{term}_{gate}": start
        for term in ("x", "h")
        for kind, start in (("gain", 1.0), ("shift", 0.0))
        for gate in GATES
    }

    joint: bool = False

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        ur, uz, un = self._term("x", [getattr(x, gate) for gate in GATES], unit)
        vr, vz, vn = self._term("h", [getattr(recur, gate)(h) for gate in GATES], unit)
        z = sigmoid(uz + vz)
        n = tanh(un + sigmoid(ur + vr) * vn)
        return ((1 - z) * n + z * h,)

    def _term(self, term: str, values: list[Tensor], unit: PerUnit) -> list[Tensor]:
        normed = normalise(*values) if self.joint else [normalise(v)[0] for v in values]
        return [
            getattr(unit, f"gain_{term}_{gate}") * value + getattr(unit, f"shift_{term}_{gate}")
            for gate, value in zip(GATES, normed, strict=True)
        ]
