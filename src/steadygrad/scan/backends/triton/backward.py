"""Run the backward kernel, and sum what it has written to the gradients of the weights."""

from collections.abc import Set
from typing import Any

import torch
from torch import Tensor

from steadygrad.scan.backends import weight_gradients
from steadygrad.scan.backends.base import Gradients, OutputGradients, Saved
from steadygrad.scan.backends.triton.form import form_of
from steadygrad.scan.backends.triton.forward import beside, launch, programs_of
from steadygrad.scan.backends.triton.module import Kernel, printed_of
from steadygrad.scan.backends.triton.printer.backward import BackwardPrinter
from steadygrad.scan.call import ScanCall
from steadygrad.scan.ir.products import blocks
from steadygrad.scan.rescale import scale
from steadygrad.scan.taps import tap


def run(call: ScanCall, saved: Saved, grads: OutputGradients, wanted: Set[str]) -> Gradients:
    """Run all steps backward in one kernel; report to the tap."""
    form = form_of(call, keep=True, backward=True)
    printed = printed_of(form, "backward")
    kept = saved.tensors
    memory = _memory(call, printed, grads)
    given = beside(call, printed.plan) | kept | memory
    given |= {"x": kept["projected"], "weights": _matrices(call, printed), "grad": grads.hidden}
    given["projection"] = call.weights.weight_hr
    arguments = [given[name] for name in printed.parameters]
    launch("backward", printed.text, form, call.layout, arguments, call.device)
    return _Results(call, printed, kept, memory).gradients(wanted)


def _memory(call: ScanCall, printed: Kernel, grads: OutputGradients) -> dict[str, Any]:
    """What the kernel writes, and what it begins with."""
    form, plan, printer, layout = printed.plan.form, printed.plan, printed.printer, call.layout
    assert isinstance(printer, BackwardPrinter)
    rows, batch, size = layout.rows, layout.batch, form.size
    like = grads.hidden
    wide = like.new_empty(0, dtype=form.compute)
    carried = wide.new_zeros(2, len(call.state), batch, form.stride)
    for k, grad in enumerate(grads.final):
        if grad is not None:
            carried[0, k, :, : grad.shape[1]] = grad
    complete = all(printer.places.has_any(f"x.{g}") for g in call.cell.gates)
    empty = like.new_empty if complete else like.new_zeros
    entered = form.tap or form.projects
    return {
        "work": wide.new_empty(len(printer.places.scratch), batch, form.stride),
        "carried": carried,
        "pre": empty(rows, len(call.cell.gates) * size),
        "parts": like.new_empty(printer.places.begin(len(plan.products)), rows, size),
        "sums": wide.new_zeros(
            len(printer.sums), 2, programs_of(form, "backward", layout, call.device), form.stride
        ),
        "at_h": wide.new_empty(rows, form.width) if entered else None,
        "at_states": wide.new_empty(len(call.state) - 1, rows, size) if form.tap else None,
        "enters": (like != 0).any(1).view(torch.uint8) if form.rescales else None,
        "exponents": torch.zeros(rows + batch, dtype=torch.int32, device=like.device)
        if form.rescales
        else None,
        "bound": None if call.clip is None else wide.new_full((1,), call.clip.bound),
    }


def _matrices(call: ScanCall, printed: Kernel) -> Tensor | None:
    """The matrices of all products as they are stored, one behind the other."""
    parts = [blocks(call.cell, call.weights, p, call.size)[0] for p in printed.plan.products]
    return torch.cat([part.flatten() for part in parts]) if parts else None


class _Results:
    """What the kernel has written, brought to its true size."""

    def __init__(
        self, call: ScanCall, printed: Kernel, kept: dict[str, Tensor], memory: dict[str, Any]
    ) -> None:
        assert isinstance(printed.printer, BackwardPrinter)
        self.call, self.plan, self.printer = call, printed.plan, printed.printer
        self.kept, self.memory = kept, memory
        exponents = memory["exponents"]
        rows = call.layout.rows
        self.exponents = None if exponents is None else exponents[:rows]
        self.at_end = None if exponents is None else exponents[rows:]

    def gradients(self, wanted: Set[str]) -> Gradients:
        call, plan, memory = self.call, self.plan, self.memory
        if call.on_tap:
            self._report()
        pre = self._true(memory["pre"])
        products, arguments = {}, {}
        for i, item in enumerate(plan.products):
            products[item] = pre if plan.shared[i] else self._true(self._part(i))
            arguments[item] = self._kept(item.argument)
        by_name = weight_gradients.of_input(call, pre, wanted)
        by_name |= weight_gradients.of_recurrence(call, products, arguments, wanted)
        if "weight_hr" in wanted and call.weights.weight_hr is not None:
            at_h = self._true(memory["at_h"]).to(call.dtype)
            by_name["weight_hr"] = at_h.t() @ self._kept("wide")
        steps = len(call.layout.batch_sizes)
        state = [
            part[:, : plan.width(f"s.{name}")]
            for name, part in zip(call.cell.states, memory["carried"][steps % 2], strict=True)
        ]
        if self.at_end is not None:
            state = [scale(s, -self.at_end) for s in state]
        sums = memory["sums"][:, steps % 2].sum(1)
        units = tuple(self._sum(sums, f"u.{name}") for name in call.cell.per_unit)
        start = tuple(self._sum(sums, f"s.{name}") for name in call.cell.states)
        return Gradients(
            by_name,
            units,
            tuple(s.to(call.dtype).contiguous() for s in state),
            start if call.resets is not None else (),
        )

    def _report(self) -> None:
        call, memory = self.call, self.memory
        at_states = [[memory["at_h"]], *([part] for part in memory["at_states"])]
        exponents = None if self.exponents is None else [self.exponents]
        assert call.on_tap is not None
        names = (call.cell.states, call.cell.gates)
        call.on_tap(tap(call.layout, *names, at_states, memory["pre"], exponents))

    def _true(self, value: Tensor) -> Tensor:
        return value if self.exponents is None else scale(value, -self.exponents)

    def _part(self, index: int) -> Tensor:
        """The gradient at the results of a product."""
        item, begin = self.plan.products[index], self.printer.places.begin(index)
        count = len(item.gates)
        part = self.memory["parts"][begin : begin + count]
        return part.reshape(self.call.layout.rows, count * self.call.size)

    def _kept(self, name: str) -> Tensor:
        """A value of the forward pass at all steps."""
        if name == self.plan.h:
            return self.kept["h"]
        return self.kept["log"][self.plan.logged.index(name)]

    def _sum(self, sums: Tensor, name: str) -> Tensor:
        """A sum over rows and steps; for a per-unit parameter, over the stages that read it."""
        own = [i for i, n in enumerate(self.printer.sums) if n.split()[0] == name]
        width = self.plan.width(name)
        found = sums[own].sum(0)[:width]
        return found.to(self.call.dtype)
