"""Run the kernels of a form once, on values of their own, beside `eager`.

Printed kernels are tested in Triton's interpreter, which has neither threads nor a compiler. Before
a form is first used on a device it is therefore tried there: a result that is not eager's is
refused, not returned.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from steadygrad.scan.backends.base import Backend, OutputGradients
from steadygrad.scan.backends.eager import Eager
from steadygrad.scan.backends.triton.form import Form
from steadygrad.scan.call import ScanCall
from steadygrad.scan.clips import LoopClip
from steadygrad.scan.layout import Layout
from steadygrad.scan.weights import Weights

SIZES = (35, 35, 33, 17, 2)
"""Rows of each step: three tiles of 16, the last one ragged, and rows that end in each."""
ALLOWED = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 0.2}
"""Largest difference to eager, in terms of a tensor's largest value: far above rounding."""
FEATURES = 3


@lru_cache(maxsize=256)
def disagreement(ours: Backend, ahead: Form, back: Form, device: torch.device) -> str | None:
    """How the results of a form differ from eager's on a device; None if they do not."""
    call = _call(ahead, back, device)
    with torch.no_grad():
        try:
            results = list(_values(ours, call))
        except Exception as error:  # whatever a compiler or a driver may raise
            return f"its kernels do not run on {_name(device)}: {type(error).__name__}: {error}"
        pairs = zip(results, _values(Eager(), call), strict=True)
        for (name, found), (_, wanted) in pairs:
            largest = wanted.abs().max().item() or 1.0
            error = (found.double() - wanted.double()).abs().max().item() / largest
            if not error <= (2e-2 if ahead.precision == "tf32" else ALLOWED[call.dtype]):
                return (
                    f"on {_name(device)} its kernels differ from eager's {name} by {error:.1g} of "
                    "the largest value; "
                    "this is a defect: please report it with the versions of torch and Triton"
                )
    return None


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _call(ahead: Form, back: Form, device: torch.device) -> ScanCall:
    """A call of the form, with small random values that leave torch's own generators alone."""
    generator = torch.Generator().manual_seed(0)
    cell, size, width = ahead.cell, ahead.size, ahead.width

    def draw(*shape: int) -> Tensor:
        value = torch.randn(shape, generator=generator) / max(1, shape[-1]) ** 0.5
        return value.to(device, ahead.dtype)

    dense = (SIZES[0],) * len(SIZES)
    layout = Layout(SIZES) if ahead.packed else Layout(dense, ahead.reverse)
    gates, recurrent = len(cell.gates), len(cell.recurrent)
    weights = Weights(
        draw(gates * size, FEATURES),
        draw(recurrent * size, width),
        draw(gates * size),
        draw(recurrent * size) if ahead.bias else None,
        draw(width, size) if ahead.projects else None,
        tuple(draw(size) for _ in cell.per_unit),
        {k: v.to(device, ahead.dtype) for k, v in cell.constants(size).items()},
        {
            name: (draw(layout.rows, size) if per_row else draw(size)).abs()
            for name, per_row in zip(cell.noise, ahead.noise, strict=True)
        },
    )
    widths = [width, *[size] * (len(cell.states) - 1)]
    call = ScanCall(
        cell,
        draw(layout.rows, FEATURES),
        weights,
        tuple(draw(layout.batch, w) for w in widths),
        layout,
        clip=None if back.clip is None else LoopClip(0.05, back.clip[1], back.clip[0]),  # type: ignore[arg-type]
        on_tap=(lambda tap: None) if back.tap else None,
    )
    if not ahead.resets:
        return call
    resets = torch.rand(layout.rows, generator=generator) < 0.3
    return replace(call, resets=resets.to(device), start=tuple(draw(w) for w in widths))


def _values(backend: Backend, call: ScanCall) -> Iterator[tuple[str, Tensor]]:
    """Everything that a back end computes, by name."""
    done = backend.forward(call, keep=True)
    yield "output", done.hidden
    yield from (("final state", value) for value in done.final)
    names = {name for name, _ in call.weights.flat()} | {"x", "state", "start"}
    at_final = tuple(torch.ones_like(value) for value in done.final)
    given = OutputGradients(torch.ones_like(done.hidden), at_final)
    grads = backend.backward(call, done.saved, given, names)
    for name, value in sorted(grads.by_name.items()):
        yield f"gradient of {name}", value
    for value in (*grads.per_unit, *grads.state, *grads.start):
        yield "gradient of a state or parameter", value
