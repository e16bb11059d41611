"""The steps of a cell over time, in plain torch operations."""

from itertools import zip_longest

import torch
from torch import Tensor
from torch.nn import functional as F

from steadygrad.scan.backends.base import ForwardPass, Saved
from steadygrad.scan.call import ScanCall
from steadygrad.scan.ir.products import blocks
from steadygrad.scan.ir.program import Program
from steadygrad.scan.ir.trace import trace


def run(call: ScanCall, keep: bool) -> ForwardPass:
    """Run the steps of ``call.cell``; differentiable, if autograd records.

    Args:
        call: What to run.
        keep: Whether to save the values for `steadygrad.scan.backends.eager.backward.carry_back`:
            those that stages and products read, ``(N, ·)`` each, by name.
    """
    cell, weights, layout = call.cell, call.weights, call.layout
    program, size = trace(cell), call.size
    gates = call.projected().split(size, 1)
    x_gates = dict(zip((f"x.{g}" for g in cell.gates), gates, strict=True))
    # Transposed once per sequence: a contiguous right factor is up to twice as fast per step.
    matrices = {
        p: (matrix.t().contiguous(), bias)
        for level in program.products
        for p in level
        for matrix, bias in [blocks(cell, weights, p, size)]
    }
    beside = call.per_step()
    log: dict[str, list[Tensor]] = {name: [] for name in _kept_names(program)} if keep else {}
    unprojected: list[Tensor] = []
    hidden: list[Tensor] = []
    current = list(call.state)
    resets = None if call.resets is None else call.resets[:, None]
    anew = () if resets is None else call.reset_state()
    for offset, rows in layout.steps():
        whole = rows == layout.batch
        env = {name: value[offset : offset + rows] for name, value in x_gates.items()}
        for name, value in beside.items():
            env[name] = (value[offset : offset + rows] if value.dim() == 2 else value).expand(
                rows, size
            )
        for name, value in zip(cell.states, current, strict=True):
            env[f"s.{name}"] = value if whole else value[:rows]
        if resets is not None:
            begins = resets[offset : offset + rows]
            for name, value in zip(cell.states, anew, strict=True):
                env[f"s.{name}"] = torch.where(begins, value, env[f"s.{name}"])
        for stage, products in zip_longest(program.stages, program.products, fillvalue=()):
            if stage:
                made = stage.forward(*[env[name] for name in stage.inputs])
                env.update(zip(stage.outputs, made, strict=True))
            for item in products:
                matrix, bias = matrices[item]
                argument = env[item.argument]
                out = argument @ matrix if bias is None else torch.addmm(bias, argument, matrix)
                env.update(zip(item.outputs, out.split(size, 1), strict=True))
        new = [env[name] for name in program.results]
        if weights.weight_hr is not None:
            if keep:
                unprojected.append(new[0])
            new[0] = F.linear(new[0], weights.weight_hr)
        for name, values in log.items():
            values.append(env[name])
        hidden.append(new[0])
        # Rows that have ended keep their last state; sorted by length, they are at the end.
        current = [
            n if whole else torch.cat([n, c[rows:]]) for n, c in zip(new, current, strict=True)
        ]
    saved = {name: layout.join(values) for name, values in log.items()}
    if keep:
        saved |= x_gates
        if unprojected:
            saved["unprojected"] = layout.join(unprojected)
    return ForwardPass(layout.join(hidden), tuple(current), Saved(saved))


def _kept_names(program: Program) -> list[str]:
    """Values that a backward pass needs and that are not saved otherwise."""
    read = [name for stage in program.stages if stage for name in stage.inputs]
    read += [item.argument for level in program.products for item in level]
    return [n for n in dict.fromkeys(read) if not n.startswith(("x.", "u.", "k.", "n."))]
