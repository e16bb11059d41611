"""The compiled back end: a cell printed as C, for the CPU."""

from collections.abc import Mapping, Set
from functools import lru_cache
from typing import ClassVar, final

import torch

from steadygrad.cells import Cell
from steadygrad.scan.backends.base import (
    Backend,
    ForwardPass,
    Gradients,
    OutputGradients,
    Prepared,
    Saved,
    Stepper,
)
from steadygrad.scan.backends.c import build, kernel
from steadygrad.scan.backends.c.compiler import BuildError, Command, compiler
from steadygrad.scan.backends.c.prepared import PreparedCall
from steadygrad.scan.backends.c.stream_call import StepCall
from steadygrad.scan.call import ScanCall
from steadygrad.scan.ir.operations import Unprintable
from steadygrad.scan.weights import Weights


@final
class Compiled(Backend):
    """Runs kernels that the system's C compiler builds, each at its first use."""

    name: ClassVar[str] = "c"
    rank: ClassVar[int] = 10

    def suits(self, call: ScanCall) -> bool:
        return _unfit(call) is None

    def refuses(self, call: ScanCall) -> str | None:
        return _unfit(call) or _unbuilt(
            call.cell,
            call.dtype,
            kernel.exact(),
            call.weights.weight_hr is not None,
            compiler(),
            _is_recorded(call),
        )

    def forward(self, call: ScanCall, keep: bool) -> ForwardPass:
        return kernel.forward(call, keep)

    def backward(
        self, call: ScanCall, saved: Saved, grads: OutputGradients, wanted: Set[str]
    ) -> Gradients:
        return kernel.backward(call, saved, grads, wanted)

    def saved_shapes(self, call: ScanCall) -> Mapping[str, tuple[int, ...]]:
        return kernel.saved_shapes(call)

    def prepared(self, call: ScanCall) -> Prepared | None:
        found = kernel.of(call)
        return PreparedCall(call, found) if PreparedCall.is_able(call, found) else None

    def stepper(self, cell: Cell, weights: Weights, batch: int) -> Stepper:
        return StepCall(cell, weights, batch)


def _unfit(call: ScanCall) -> str | None:
    """What the kernels do not do, by design."""
    if call.device.type != "cpu":
        return f"it runs on the CPU, the input is on {call.device}"
    if call.dtype not in (torch.float32, torch.float64):
        return f"it computes in float32 and float64, the input is {call.dtype}"
    for name, value in (
        *call.weights.flat(),
        *(("state", s) for s in (*call.state, *(call.start or ()))),
    ):
        # A kernel would read their memory as if it were of the input's kind.
        if value.dtype is not call.dtype or not value.is_cpu:
            return (
                f"it computes in the {call.dtype} of the input, {name} is {value.dtype} on "
                f"{value.device}"
            )
    return None


def _is_recorded(call: ScanCall) -> bool:
    """Whether a backward pass may follow, so that its half is built beside the other."""
    if not torch.is_grad_enabled():
        return False
    given = (call.x, *call.state, *(value for _, value in call.weights.flat()))
    return any(value.requires_grad for value in given)


@lru_cache(maxsize=256)
def _unbuilt(
    cell: Cell, dtype: torch.dtype, exact: bool, projects: bool, cc: Command | None, both: bool
) -> str | None:
    """Build the kernel; say why that did not work, or None. ``cc`` only keys the cache."""
    try:
        source = kernel.source(kernel.printed(cell, dtype, exact, projects))
        build.load(source, build.FORWARD, *((build.BACKWARD,) if both else ()))
    except Unprintable as error:
        return f"its step uses {error}, which cannot be printed as C"
    except BuildError as error:
        return str(error)
    return None
