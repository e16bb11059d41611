"""The GPU back end: a cell printed as Triton kernels."""

from collections.abc import Set
from functools import lru_cache
from typing import ClassVar, final

import torch

from steadygrad.scan.backends.base import Backend, ForwardPass, Gradients, OutputGradients, Saved
from steadygrad.scan.backends.triton import backward, environment, forward, trial
from steadygrad.scan.backends.triton.form import Form, form_of
from steadygrad.scan.backends.triton.module import printed_of
from steadygrad.scan.call import ScanCall
from steadygrad.scan.ir.operations import Unprintable


@final
class Triton(Backend):
    """Runs all steps of a cell in one kernel, forward and backward."""

    name: ClassVar[str] = "triton"
    rank: ClassVar[int] = 15

    def suits(self, call: ScanCall) -> bool:
        # In the interpreter it is asked for by name alone.
        if call.device.type != "cuda" or not environment.is_installed():
            return False
        if environment.is_interpreted():
            return False
        return max(call.size, call.width) <= _largest(call.dtype) and _unfit(call) is None

    def refuses(self, call: ScanCall) -> str | None:
        reason = _unfit(call)
        if reason:
            return reason
        ahead, back = form_of(call, True), form_of(call, True, backward=True)
        reason = _unprintable(ahead, back)
        if reason or call.device.type != "cuda":
            return reason
        return trial.disagreement(self, ahead, back, call.device)

    def forward(self, call: ScanCall, keep: bool) -> ForwardPass:
        return forward.run(call, keep)

    def backward(
        self, call: ScanCall, saved: Saved, grads: OutputGradients, wanted: Set[str]
    ) -> Gradients:
        return backward.run(call, saved, grads, wanted)


def _largest(dtype: torch.dtype) -> int:
    """Units up to which ``auto`` takes it: beyond, reading R at every step takes too long."""
    return 256 if dtype.itemsize == 2 else 128


def _unfit(call: ScanCall) -> str | None:
    """What the kernels do not do, by design."""
    if not environment.is_installed():
        return "Triton is not installed (pip install 'steadygrad[triton]')"
    if call.device.type != "cuda" and not environment.is_interpreted():
        return (
            f"it runs on CUDA devices, the input is on {call.device} (TRITON_INTERPRET=1, set "
            "before Triton is imported, runs it on the CPU, slowly, to test it)"
        )
    if call.dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        return f"it computes in floating point, the input is {call.dtype}"
    for name, value in (
        *call.weights.flat(),
        *(("state", s) for s in (*call.state, *(call.start or ()))),
    ):
        if value.dtype is not call.dtype or value.device != call.device:
            return (
                f"it computes in the {call.dtype} of the input, {name} is {value.dtype} on "
                f"{value.device}"
            )
    if not call.layout.batch:
        return "the batch is empty"
    return None


@lru_cache(maxsize=256)
def _unprintable(ahead: Form, back: Form) -> str | None:
    try:
        printed_of(ahead, "forward")
        printed_of(back, "backward")
    except Unprintable as error:
        return f"its step uses {error}, which cannot be printed as a Triton kernel"
    return None
