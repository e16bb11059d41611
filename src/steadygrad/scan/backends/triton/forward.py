"""Run the forward kernel: memory, arguments, and the states that rows begin with."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steadygrad.scan.backends.base import ForwardPass, Saved
from steadygrad.scan.backends.triton import resources, tiles
from steadygrad.scan.backends.triton.environment import is_interpreted
from steadygrad.scan.backends.triton.form import Form, form_of
from steadygrad.scan.backends.triton.module import constants, function_of, printed_of
from steadygrad.scan.backends.triton.printer.plan import Plan
from steadygrad.scan.call import ScanCall
from steadygrad.scan.ir.products import blocks
from steadygrad.scan.layout import Layout


def run(call: ScanCall, keep: bool) -> ForwardPass:
    """Run all steps of a call in one kernel."""
    form = form_of(call, keep)
    printed = printed_of(form, "forward")
    plan, layout = printed.plan, call.layout
    projected = call.projected()
    given = beside(call, plan)
    rows, stride = layout.rows, form.stride
    h = projected.new_empty(rows, form.width)
    log = projected.new_empty(len(plan.logged), rows, form.size)
    hidden = torch.empty_like(h)
    last = projected.new_empty(len(call.state), layout.batch, stride)
    _begin(call, h, log)
    given |= {
        "x": projected,
        "h": h,
        "hidden": hidden,
        "log": log,
        "work": projected.new_empty(len(plan.passing), layout.batch, stride),
        "last": last,
        "weights": _matrices(call, plan),
        "bias": _biases(call, plan),
    }
    arguments = [given[name] for name in printed.parameters]
    launch("forward", printed.text, form, layout, arguments, call.device)
    final = [
        part[:, : plan.width(f"s.{name}")].clone()
        for name, part in zip(call.cell.states, last, strict=True)
    ]
    saved = {"projected": projected, "h": h, "log": log} if keep else {}
    return ForwardPass(hidden, tuple(final), Saved(saved))


def beside(call: ScanCall, plan: Plan) -> dict[str, Any]:
    """What both kernels read beside the values of their own; None for what they do not."""
    layout, weights = call.layout, call.weights
    per_step = call.per_step()
    given: dict[str, Any] = {
        "unit": _stacked([per_step[f"u.{name}"] for name in call.cell.per_unit]),
        "constant": _stacked([per_step[name] for name in plan.constants]),
        "projection": None if weights.weight_hr is None else weights.weight_hr.t().contiguous(),
        "resets": None if call.resets is None else call.resets.contiguous().view(torch.uint8),
        "start": None if call.resets is None else _starts(call, plan),
        "places": None,
        "counts": None,
        "T": len(layout.batch_sizes),
        "B": layout.batch,
        "N": layout.rows,
    }
    for i, name in enumerate(call.cell.noise):
        given[f"noise{i}"] = per_step[f"n.{name}"].contiguous()
    if plan.form.packed:
        pairs = [*layout.steps(), (0, 0)]  # no row goes on behind the last step
        places, counts = (torch.tensor(v, device=call.device) for v in zip(*pairs, strict=True))
        given |= {"places": places, "counts": counts}
    return given


def launch(
    name: str, text: str, form: Form, layout: Layout, arguments: list[Any], device: torch.device
) -> None:
    """Start a kernel, one program for each tile of rows."""
    chosen = tiles_of(form, name, layout, device)
    with _on(device):
        programs = programs_of(form, name, layout, device)
        function_of(text, name)[(programs,)](*arguments, **constants(form, chosen))


def tiles_of(form: Form, name: str, layout: Layout, device: torch.device) -> tiles.Tiles:
    """The sizes of blocks of one of the two kernels."""
    if is_interpreted():
        return tiles.interpreted(form, layout.batch)
    return resources.best_tiles(form, name, resources.capability_of(device))


def programs_of(form: Form, name: str, layout: Layout, device: torch.device) -> int:
    """The number of tiles of rows."""
    return -(-layout.batch // tiles_of(form, name, layout, device).rows)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Make a device the current one; the interpreter's numbers overflow without a word."""
    return torch.cuda.device(device) if device.type == "cuda" else np.errstate(all="ignore")


def _begin(call: ScanCall, h: Tensor, log: Tensor) -> None:
    """Write the state before the first step of each row to its place."""
    at = first_rows(call.layout, call.device)
    anew = None if call.resets is None else call.resets[at, None]
    starts = call.reset_state() if anew is not None else call.state
    for k, (state, start) in enumerate(zip(call.state, starts, strict=True)):
        value = state if anew is None else torch.where(anew, start, state)
        (h if k == 0 else log[k - 1])[at] = value


def first_rows(layout: Layout, device: torch.device) -> Tensor | slice:
    """Where the first step of each row in the scan stands."""
    if not layout.reverse:
        return slice(0, layout.batch)
    sizes = torch.tensor(layout.batch_sizes)
    lengths = (sizes[:, None] > torch.arange(layout.batch)).sum(0)
    return (torch.tensor(layout.offsets)[lengths - 1] + torch.arange(layout.batch)).to(device)


def _stacked(values: list[Tensor]) -> Tensor | None:
    return torch.stack(values) if values else None


def _starts(call: ScanCall, plan: Plan) -> Tensor:
    """The states that resets set, in rows of the same length."""
    starts = call.reset_state()
    joined = starts[0].new_zeros(len(starts), plan.form.stride)
    for row, start in zip(joined, starts, strict=True):
        row[: len(start)] = start
    return joined


def _matrices(call: ScanCall, plan: Plan) -> Tensor | None:
    """The matrices of all products, transposed, one behind the other."""
    parts = [blocks(call.cell, call.weights, p, call.size)[0] for p in plan.products]
    return torch.cat([part.t().flatten() for part in parts]) if parts else None


def _biases(call: ScanCall, plan: Plan) -> Tensor | None:
    parts = [blocks(call.cell, call.weights, p, call.size)[1] for p in plan.products]
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None
