"""Taps report the norm of the gradient at every time step and row of a backward loop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steadygrad.scan.layout import Layout

LOG10_2 = 0.30102999566398120


@dataclass(frozen=True)
class Tap:
    r"""Norms of the total gradient :math:`\partial L / \partial s_t`, logarithmic.

    The states are separate coordinates: for an LSTM dL/dc_t is the gradient along the cell state,
    and the part that reaches c_t through h_t of the same step counts in dL/dh_t.

    A zero gradient is ``-inf``, an infinite one ``+inf``, a NaN ``nan``; where a row of a packed
    batch has ended, `present` is False.

    Attributes:
        states: Names of the states, as in `steadygrad.cells.Cell.states`.
        gates: Names of the gates, as in `steadygrad.cells.Cell.gates`.
        log10_norm: ``(S, T, B)``, log10 of the norm over units of each row's gradient; float64.
        log10_gate: ``(G, T, B)``, the same of the gradient at each gate's pre-activation.
        nonfinite: ``(S, T, B)``, how many elements are not finite.
        present: ``(T, B)``.
        reverse: Whether the scan ran from the last time step to the first.
    """

    states: tuple[str, ...]
    gates: tuple[str, ...]
    log10_norm: Tensor
    log10_gate: Tensor
    nonfinite: Tensor
    present: Tensor
    reverse: bool

    # A lazy tap has only `_read`, which computes the attributes on first access.

    def __getattr__(self, name: str) -> Any:
        read = vars(self).pop("_read", None)
        if read is None:  # not an attribute of a tap
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        vars(self).update(read())
        return getattr(self, name)

    def __getstate__(self) -> dict[str, object]:
        _ = self.log10_norm  # read before pickling, because `_read` works in this process only
        return dict(vars(self))

    def log10_over_batch(self, state: str = "h") -> Tensor:
        r"""``(T,)``: log10 of the norm over the whole batch, :math:`\sqrt{\sum_b n_{tb}^2}`."""
        rows = self.log10_norm[self.states.index(state)]
        return log10_sum_squares(rows.masked_fill(~self.present, -torch.inf))


OnTap = Callable[[Tap], None]


def log10_sum_squares(log10_norm: Tensor) -> Tensor:
    """Combine log10 norms over the last axis in the log domain."""
    top = log10_norm.amax(-1, keepdim=True)
    # If the largest is infinite or NaN, it is the result; subtracting it would give NaN.
    shift = torch.where(top.isfinite(), top, 0.0)
    total = shift + 0.5 * torch.pow(10.0, 2 * (log10_norm - shift)).sum(-1, keepdim=True).log10()
    return torch.where(top.isfinite(), total, top).squeeze(-1)


def log10_norms(grads: Tensor, exponents: Tensor | None) -> Tensor:
    """log10 row norms ``(N, features) -> (N,)``, with ``exponents`` (powers of two) removed."""
    # float64: the squares of float32 values below 1e-19 would underflow, those above 1e19 overflow.
    norms = torch.linalg.vector_norm(grads, dim=-1, dtype=torch.float64).log10()
    return norms if exponents is None else norms - exponents.double() * LOG10_2


def tap(
    layout: Layout,
    states: tuple[str, ...],
    gates: tuple[str, ...],
    grad_states: list[list[Tensor]],
    grad_gates: Tensor,
    exponents: list[Tensor] | None,
) -> Tap:
    """Reduce the gradients of a backward loop to a tap.

    Args:
        layout: Rows of each time step.
        states: State names.
        gates: Gate names.
        grad_states: Per state and backward step, the scaled gradient ``(rows, features)``.
        grad_gates: ``(N, G*H)``, gradients at the pre-activations, scaled as the states are.
        exponents: Per backward step the powers of two ``(rows,)`` by which rows were scaled.
    """
    join = [list(reversed(part)) for part in grad_states]
    scale = None if exponents is None else layout.join(list(reversed(exponents)))
    joined = [layout.join(part) for part in join]
    by_gate = grad_gates.chunk(len(gates), dim=1)
    return Tap(
        states,
        gates,
        torch.stack([layout.pad(log10_norms(g, scale), -torch.inf) for g in joined]),
        torch.stack([layout.pad(log10_norms(g, scale), -torch.inf) for g in by_gate]),
        torch.stack([layout.pad((~g.isfinite()).sum(-1), 0) for g in joined]),
        layout.present().to(grad_gates.device),
        layout.reverse,
    )
