"""What the backward loops of several pieces of one scan saw, as one `Tap` of the whole."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steadygrad.scan import Layout, OnTap, Tap


class JointTap:
    """Collects the taps of all pieces and hands them over as one, once a backward pass.

    A piece that no gradient reaches has no backward loop: its gradient is zero, and said to be.

    Args:
        layout: Of the whole scan.
        on_tap: Receives the whole.
    """

    def __init__(self, layout: Layout, on_tap: OnTap) -> None:
        self._layout, self._on_tap = layout, on_tap
        self._seen: dict[int, Tap] = {}

    def piece(self, begin: int) -> OnTap:
        """An observer of the piece whose first time step, in memory order, is ``begin``."""

        def keep(tap: Tap) -> None:
            self._seen[begin] = tap

        return keep

    def gathered(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The same tensors; all pieces have to be made from these for the tap to be complete."""
        found = _Gather.apply(self._hand_over, *tensors)
        assert isinstance(found, tuple)
        return found

    def _hand_over(self) -> None:
        if not self._seen:  # a backward pass that is differentiated itself measures nothing
            return
        seen, self._seen = self._seen, {}
        self._on_tap(_joined(self._layout, seen))


def _joined(layout: Layout, seen: dict[int, Tap]) -> Tap:
    first = next(iter(seen.values()))
    steps, batch = len(layout.batch_sizes), layout.batch

    def spread(field: str, fill: float) -> Tensor:
        some: Tensor = getattr(first, field)
        whole = some.new_full((some.shape[0], steps, batch), fill)
        for begin, tap in seen.items():
            part: Tensor = getattr(tap, field)
            whole[:, begin : begin + part.shape[1], : part.shape[2]] = part
        return whole

    return replace(
        first,
        log10_norm=spread("log10_norm", -torch.inf),
        log10_gate=spread("log10_gate", -torch.inf),
        nonfinite=spread("nonfinite", 0),
        present=layout.present().to(first.present.device),
    )


class _Gather(torch.autograd.Function):
    """The identity in the forward pass; in the backward pass it runs after all pieces.

    Autograd runs a node after everything that depends on it, and each piece does.
    """

    @staticmethod
    def forward(ctx: Any, arrived: Callable[[], None], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.arrived = arrived
        ctx.set_materialize_grads(False)
        return tuple(t.view_as(t) for t in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        ctx.arrived()
        return (None, *grads)
