"""Linearise a cell's steps along a trajectory: step Jacobians.

The traced program gives the dependences between values, so the Jacobian is assembled from its
factors: diagonals for pointwise work, rows of R for products. Nothing is differentiated once per
output. All operations are plain torch on values that may have a graph, so results can be
differentiated again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor, fx

from steadygrad.cells import Cell
from steadygrad.scan.backends import eager
from steadygrad.scan.call import ScanCall
from steadygrad.scan.ir.operations import to_real
from steadygrad.scan.ir.products import blocks
from steadygrad.scan.ir.trace import Stage, trace
from steadygrad.scan.layout import Layout
from steadygrad.scan.weights import Weights

Parts = dict[int, Tensor]
"""Derivative of one value by each source it depends on: ``(M, H)`` if diagonal, else ``(M, H, W)``.

``M`` may be 1 where the derivative is the same in all rows.
"""


@dataclass(frozen=True)
class StepJacobian:
    r"""The step Jacobian :math:`J = \partial s_t / \partial s_{t-1}`.

    Attributes:
        parts: Per new state its derivative with respect to each old state.
        widths: Features of each state.
    """

    parts: tuple[Parts, ...]
    widths: tuple[int, ...]

    def __getitem__(self, rows: slice) -> "StepJacobian":
        """The Jacobians of some of the rows."""
        cut = tuple(
            {s: b if b.shape[0] == 1 else b[rows] for s, b in parts.items()} for parts in self.parts
        )
        return StepJacobian(cut, self.widths)

    def apply(self, v: Tensor) -> Tensor:
        """``J v`` for ``v (M, N, k)``, N features of all states together."""
        pieces = v.split(self.widths, 1)
        new = []
        for parts, width in zip(self.parts, self.widths, strict=True):
            terms = [
                block @ pieces[s] if block.dim() == 3 else block[..., None] * pieces[s]
                for s, block in parts.items()
            ]
            new.append(_sum(terms, v.new_zeros(v.shape[0], width, v.shape[2])))
        return torch.cat(new, 1)

    def dense(self, rows: int) -> Tensor:
        """``(M, N, N)``, row = new, column = old."""
        like = next(b for parts in self.parts for b in parts.values())
        return self.apply(torch.eye(sum(self.widths)).to(like).expand(rows, -1, -1))


def is_elementwise(cell: Cell) -> bool:
    """Whether units of a cell do not interact: it has no products, and its work is pointwise."""
    return not cell.recurrent and all(_is_pointwise(s) for s in trace(cell).stages if s)


class Linearised:
    """Run a cell over a dense batch, and linearise every step.

    Args:
        cell: The recurrence.
        layout: A dense layout.
        x: ``(N, I)``, rows of all time steps.
        weights: Weights of this direction.
        state: State before the first step, each ``(B, ·)``.

    Attributes:
        hidden: ``(N, P)``, h after every step.
        final: The last state.
        widths: Features of each state.
    """

    def __init__(
        self, cell: Cell, layout: Layout, x: Tensor, weights: Weights, state: Sequence[Tensor]
    ) -> None:
        self.layout = layout
        self.widths = tuple(s.shape[1] for s in state)
        call = ScanCall(cell, x, weights, tuple(state), layout)
        done = eager.run(call, keep=True)
        self.hidden, self.final = done.hidden, done.final
        self._size = call.size
        units = {n: value.expand(len(x), self._size) for n, value in call.per_step().items()}
        self._cell, self._program, self._squeeze = cell, trace(cell), weights.weight_hr
        values = done.saved.tensors | units
        self._stages = [stage and _LinearStage(stage, values) for stage in self._program.stages]
        self._matrices = [
            [blocks(cell, weights, item, self._size)[0] for item in level]
            for level in self._program.products
        ]

    def steps(self) -> Iterable[slice]:
        """Rows of each time step, in the order of the scan."""
        return (slice(offset, offset + rows) for offset, rows in self.layout.steps())

    def jacobian(self, rows: slice) -> StepJacobian:
        """The Jacobians of the given rows, of one time step or several consecutive ones."""
        like = self.hidden
        # ds/ds = 1, as one row for all
        start = [{s: like.new_ones(1, width)} for s, width in enumerate(self.widths)]
        return StepJacobian(tuple(self._through(rows, start)), self.widths)

    def diagonals(self) -> dict[tuple[str, str], Tensor]:
        """Derivatives ``(N, H)`` of the new states of a cell that `is_elementwise`.

        Keys are the name of a state and that of a value that its step reads, as a
        `steadygrad.scan.ir.program.Program` calls it: ``s.<state>``, ``x.<gate>``, ``u.<unit>``.
        Values on which a state does not depend are missing.
        """
        (stage,) = self._stages
        assert stage is not None and stage.is_pointwise
        results = dict(zip(self._program.results, self._cell.states, strict=True))
        return {(results[output], name): d for (output, name), d in stage.diagonals.items()}

    def push(self, rows: slice, v: Tensor) -> Tensor:
        """``J v`` without forming J: cheaper than `jacobian` if ``v (M, N, k)`` has few columns."""
        start: list[Parts] = [{0: piece} for piece in v.split(self.widths, 1)]
        new = self._through(rows, start)
        zeros = [v.new_zeros(v.shape[0], width, v.shape[2]) for width in self.widths]
        return torch.cat([p.get(0, z) for p, z in zip(new, zeros, strict=True)], 1)

    def _through(self, rows: slice, start: list[Parts]) -> list[Parts]:
        """Derivatives of the new states, given those of the old."""
        known = {f"s.{n}": p for n, p in zip(self._cell.states, start, strict=True)}
        levels = zip_longest(self._stages, self._program.products, self._matrices, fillvalue=())
        for stage, products, matrices in levels:
            if stage:
                known |= stage.through(rows, known)
            for item, matrix in zip(products, matrices, strict=True):
                made = _multiplied(matrix, known.get(item.argument, {}))
                for i, name in enumerate(item.outputs):
                    at = slice(i * self._size, (i + 1) * self._size)
                    known[name] = {s: block[:, at] for s, block in made.items()}
        new = [known.get(name, {}) for name in self._program.results]
        if self._squeeze is not None:
            new[0] = _multiplied(self._squeeze, new[0])
        return new


class _LinearStage:
    """Pointwise work between two products: one diagonal per pair of output and input."""

    def __init__(self, stage: Stage, values: dict[str, Tensor]) -> None:
        self.stage = stage
        self.inputs = [values[name] for name in stage.inputs]
        self.prepared = stage.prepare(*self.inputs)
        self.is_pointwise = _is_pointwise(stage)
        self.diagonals = self._diagonals() if self.is_pointwise else {}

    def _diagonals(self) -> dict[tuple[str, str], Tensor]:
        """Per output and input the derivative ``(N, H)``, of all time steps at once."""
        stage, found = self.stage, {}
        like = self.inputs[0]
        for index, output in enumerate(stage.outputs):
            ones = [
                torch.ones_like(like) if i == index else torch.zeros_like(like)
                for i in range(len(stage.outputs))
            ]
            # pointwise: the vjp with ones gives the diagonal of the Jacobian
            grads = stage.backward(*self.prepared, *ones)
            read = _read_by(stage, index)
            for name, grad in zip(stage.inputs, grads, strict=True):
                if name in read:
                    found[output, name] = grad.expand_as(like)
        return found

    def through(self, rows: slice, known: dict[str, Parts]) -> dict[str, Parts]:
        """Derivatives of the outputs, given those of the inputs."""
        if not self.is_pointwise:
            return self._through_reductions(rows, known)
        made: dict[str, Parts] = {}
        for output in self.stage.outputs:
            parts: Parts = {}
            for name in self.stage.inputs:
                if name not in known or (output, name) not in self.diagonals:
                    continue
                diagonal = self.diagonals[output, name][rows]
                for source, block in known[name].items():
                    scaled = (diagonal if block.dim() == 2 else diagonal[..., None]) * block
                    parts[source] = _plus(parts.get(source), scaled)
            made[output] = parts
        return made

    def _through_reductions(self, rows: slice, known: dict[str, Parts]) -> dict[str, Parts]:
        """Forward derivatives column by column, for stages with reductions such as a layer norm."""
        given = [value[rows] for value in self.inputs]
        prepared = [p[rows] if isinstance(p, Tensor) else p for p in self.prepared]
        like = [given[0]] * len(self.stage.outputs)
        # The vjp is linear in the gradient, so the vjp of the vjp is the forward derivative.
        push = torch.func.vjp(lambda *g: self.stage.backward(*prepared, *g), *like)[1]
        made: dict[str, Parts] = {name: {} for name in self.stage.outputs}
        for source in {s for name in self.stage.inputs for s in known.get(name, {})}:
            columns = [known.get(n, {}).get(source) for n in self.stage.inputs]
            dense = [None if c is None else _dense(c) for c in columns]
            width = next(d.shape[2] for d in dense if d is not None)
            tangents = tuple(
                (v.new_zeros(*v.shape, width) if d is None else d.expand(*v.shape, width))
                for v, d in zip(given, dense, strict=True)
            )

            out = torch.func.vmap(push, in_dims=-1, out_dims=-1)(tangents)
            for name, block in zip(self.stage.outputs, out, strict=True):
                made[name][source] = block
        return made


def _multiplied(matrix: Tensor, parts: Parts) -> Parts:
    """Derivatives of ``matrix @ value``."""
    return {
        source: matrix @ block if block.dim() == 3 else matrix * block[:, None, :]
        for source, block in parts.items()
    }


def _plus(a: Tensor | None, b: Tensor) -> Tensor:
    if a is None:
        return b
    return a + b if a.dim() == b.dim() else _dense(a) + _dense(b)


def _dense(block: Tensor) -> Tensor:
    return block if block.dim() == 3 else torch.diag_embed(block)


def _sum(terms: list[Tensor], zeros: Tensor) -> Tensor:
    if not terms:
        return zeros
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _read_by(stage: Stage, output: int) -> set[str]:
    """Names of the inputs that an output depends on."""
    (end,) = (n for n in stage.joint.nodes if n.op == "output")
    seen: set[fx.Node] = set()
    frontier = [end.args[0][output]]
    while frontier:
        node = frontier.pop()
        if node not in seen:
            seen.add(node)
            frontier += node.all_input_nodes
    given = [n for n in stage.joint.nodes if n.op == "placeholder"]
    return {name for name, node in zip(stage.inputs, given, strict=True) if node in seen}


SHAPELESS = {
    f"aten::{name}"
    for name in ("detach", "alias", "clone", "sym_size", "scalar_tensor", "zeros_like", "ones_like")
}
"""Operations without torch's pointwise tag in which units do not interact either."""


def _is_pointwise(stage: Stage) -> bool:
    """Whether units do not interact in any operation of a stage."""
    nodes = [n for g in (stage.joint, stage.loop) for n in g.nodes if n.op == "call_function"]
    return all(
        n.target is to_real
        or torch.Tag.pointwise in getattr(n.target, "tags", ())
        or getattr(getattr(n.target, "_schema", None), "name", "") in SHAPELESS
        for n in nodes
    )
