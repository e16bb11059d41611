"""A stage's graph as C: loops over the units of one row, cut where a sum over units is needed."""

from collections.abc import Mapping

from torch import Tensor, fx

from steadygrad.scan.backends.c.printer.operations import LINES, literal
from steadygrad.scan.ir.operations import NUMBERS, POINTWISE, REDUCTIONS, SHAPES, Unprintable
from steadygrad.scan.ir.step_graph import PLAIN

IGNORED = ("dtype", "layout", "device", "pin_memory", "memory_format", "implicit")
"""Keyword arguments that change no value."""


class StagePrinter:
    """Prints one graph.

    Args:
        graph: Traced operations.
        loads: Placeholder name -> C expression of its value at unit ``u``.
        stores: For each output one C statement template with ``{}`` for the value, or None where
            it is not wanted.
    """

    def __init__(self, graph: fx.Graph, loads: Mapping[str, str], stores: list[str | None]) -> None:
        self.graph = graph
        self.loads = loads
        (output,) = (n for n in graph.nodes if n.op == "output")
        outputs = output.args[0]
        assert isinstance(outputs, tuple | list)
        self.wanted: list[tuple[fx.Node, str]] = [
            (node, store)  # type: ignore[misc]
            for node, store in zip(outputs, stores, strict=True)
            if store is not None
        ]
        self.needed = self._needed()
        self.is_row: dict[fx.Node, bool] = {}
        self.phase: dict[fx.Node, int] = {}
        self._classify()
        self.last = max([0, *self.phase.values()])

    def _needed(self) -> list[fx.Node]:
        live: set[fx.Node] = {node for node, _ in self.wanted}
        for node in reversed(list(self.graph.nodes)):
            if node in live:
                live.update(node.all_input_nodes)
        return [n for n in self.graph.nodes if n in live]

    def _classify(self) -> None:
        for node in self.needed:
            if node.target in NUMBERS:
                continue
            inputs = [i for i in node.all_input_nodes if i.target not in NUMBERS]
            before = max((self.phase[i] for i in inputs), default=0)
            if node.op == "placeholder":
                self.is_row[node], self.phase[node] = False, 0
            elif node.target in REDUCTIONS:
                self._check_reduction(node)
                self.is_row[node], self.phase[node] = True, before + 1
            elif node.target in POINTWISE:
                self._check_shape(node)
                rows = all(self.is_row[i] for i in inputs)  # a number, too
                is_expand = "expand" in str(node.target)
                self.is_row[node], self.phase[node] = rows and not is_expand, before
            else:
                raise Unprintable(str(node.target))

    def _check_reduction(self, node: fx.Node) -> None:
        axes = node.args[1] if len(node.args) > 1 else None
        if axes not in ([-1], [1], (-1,), (1,)) or self.is_row[node.all_input_nodes[0]]:
            raise Unprintable(f"{node.target} other than over the last axis of a value per unit")

    @staticmethod
    def _check_shape(node: fx.Node) -> None:
        """Refuse what is neither one value per unit nor one per row."""
        value = node.meta.get("val")
        shape = tuple(int(s) for s in value.shape) if isinstance(value, Tensor) else ()
        if shape not in (PLAIN, (PLAIN[0], 1), PLAIN[:1], ()):
            raise Unprintable(f"{node.target} to a value of other shape than (B, H) or (B, 1)")

    def print(self, indent: str) -> list[str]:
        """Lines of C for one row: expects ``H`` and what the loads and stores name."""
        lines: list[str] = []
        spilled = self._spilled()
        for slot, node in enumerate(spilled):
            lines.append(f"real* const t_{node.name} = spill + {slot} * H;")
        for phase in range(self.last + 1):
            lines += self._phase_lines(phase, spilled)
        return [indent + line for line in lines]

    @property
    def spills(self) -> int:
        """Rows of scratch that are needed."""
        return len(self._spilled())

    def _spilled(self) -> list[fx.Node]:
        """Values per unit that a later loop reads again."""
        late_stores = {node for node, _ in self.wanted if self.phase[node] < self.last}
        return [
            n
            for n in self.needed
            if n.op != "placeholder"
            and n.target not in NUMBERS
            and not self.is_row[n]
            and (
                n in late_stores
                or any(u in self.phase and self._reads_at(u) > self.phase[n] for u in n.users)
            )
        ]

    def _reads_at(self, user: fx.Node) -> int:
        """The loop in which a node reads its operands: a sum reads in the loop before it."""
        return self.phase[user] - (user.target in REDUCTIONS)

    def _phase_lines(self, phase: int, spilled: list[fx.Node]) -> list[str]:
        here = [n for n in self.needed if n in self.phase]
        rows = [
            f"const real {n.name} = {self._expression(n)};"
            for n in here
            if self.is_row[n] and self.phase[n] == phase and n.target not in REDUCTIONS
        ]
        sums = [n for n in here if n.target in REDUCTIONS and self.phase[n] == phase + 1]
        body = [
            n
            for n in here
            if not self.is_row[n] and self.phase[n] == phase and n.op != "placeholder"
        ]
        stores = self.wanted if phase == self.last else []
        reads = {i for n in [*body, *sums] for i in n.all_input_nodes} | {n for n, _ in stores}
        unit = [
            f"const real {n.name} = {self.loads[n.name]};"
            for n in here
            if n.op == "placeholder" and n in reads
        ]
        unit += [
            f"const real {n.name} = t_{n.name}[u];"
            for n in spilled
            if n in reads and self.phase[n] < phase
        ]
        for node in body:
            unit.append(f"const real {node.name} = {self._expression(node)};")
            if node in spilled:
                unit.append(f"t_{node.name}[u] = {node.name};")
        unit += [
            _gathering(REDUCTIONS[n.target]).format(n.name, self._name(n.args[0])) for n in sums
        ]
        unit += [store.format(node.name) for node, store in stores]
        if not unit:
            return rows
        lines = rows + [_start(REDUCTIONS[n.target]).format(n.name) for n in sums]
        clauses = "".join(_clause(REDUCTIONS[n.target]).format(n.name) for n in sums)
        lines.append(f"#pragma omp simd{clauses}" if sums else "#pragma GCC ivdep")
        lines += ["for (word u = 0; u < H; u++) {", *("    " + line for line in unit), "}"]
        lines += [_end(REDUCTIONS[n.target]).format(n.name) for n in sums]
        return lines

    def _expression(self, node: fx.Node) -> str:
        args = node.args[:1] if node.target in SHAPES else node.args
        operands = [None if a is None else self._name(a) for a in args]
        named = {
            name: value if isinstance(value, str) else self._name(value)
            for name, value in node.kwargs.items()
            if name not in IGNORED and value is not None
        }
        return LINES[POINTWISE[node.target]](*operands, **named)

    def _name(self, operand: object) -> str:
        if not isinstance(operand, fx.Node):
            return literal(operand)
        if operand.target not in NUMBERS:
            return operand.name
        axis = operand.args[1] if len(operand.args) > 1 else None
        if "sym_size" in str(operand.target):
            if axis != 1:
                raise Unprintable("the number of rows as a value")
            return "((real)H)"
        return LINES[NUMBERS[operand.target]](*(self._name(a) for a in operand.args))


# A maximum loses a NaN where it is vectorised, so these are counted beside it.


def _start(kind: str) -> str:
    first = {"max": "-(real)INFINITY", "min": "(real)INFINITY"}.get(kind)
    return f"real a_{{0}} = {first}, nan_{{0}} = 0;" if first else "real a_{0} = 0;"


def _gathering(kind: str) -> str:
    sign = {"max": ">", "min": "<"}.get(kind)
    if sign is None:
        return "a_{0} += {1};"
    return f"a_{{0}} = {{1}} {sign} a_{{0}} ? {{1}} : a_{{0}}; nan_{{0}} += (real)({{1}} != {{1}});"


def _clause(kind: str) -> str:
    return (
        f" reduction({kind}:a_{{0}}) reduction(+:nan_{{0}})"
        if kind in ("max", "min")
        else (" reduction(+:a_{0})")
    )


def _end(kind: str) -> str:
    return {
        "sum": "const real {0} = a_{0};",
        "mean": "const real {0} = a_{0} / (real)H;",
    }.get(kind, "const real {0} = nan_{0} != 0 ? (real)NAN : a_{0};")
