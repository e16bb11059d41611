"""The eager back end: backpropagation through time in plain torch operations.

It runs any cell on any device in any dtype, and is the reference for all other back ends.
"""

from collections.abc import Set
from typing import ClassVar, final

from steadygrad.scan.backends import weight_gradients
from steadygrad.scan.backends.base import (
    Backend,
    ForwardPass,
    Gradients,
    OutputGradients,
    Saved,
)
from steadygrad.scan.backends.eager.backward import LoopGradients as LoopGradients
from steadygrad.scan.backends.eager.backward import carry_back as carry_back
from steadygrad.scan.backends.eager.forward import run as run
from steadygrad.scan.call import ScanCall


@final
class Eager(Backend):
    """Runs a traced cell step by step; see `run` and `carry_back`."""

    name: ClassVar[str] = "eager"

    def refuses(self, call: ScanCall) -> str | None:
        return None

    def forward(self, call: ScanCall, keep: bool) -> ForwardPass:
        return run(call, keep)

    def backward(
        self, call: ScanCall, saved: Saved, grads: OutputGradients, wanted: Set[str]
    ) -> Gradients:
        found = carry_back(call, saved.tensors, grads)
        by_name = weight_gradients.of_input(call, found.pre, wanted)
        by_name |= weight_gradients.of_recurrence(call, found.products, found.arguments, wanted)
        if "weight_hr" in wanted and found.projected_h is not None:
            by_name["weight_hr"] = found.projected_h.t() @ saved.tensors["unprojected"]
        return Gradients(by_name, found.per_unit, found.state, found.start)
