"""A stage's graph as C: loops over the units of one row, cut where a sum over units is needed."""

from collections.abc import Mapping

from torch import fx

from steadygrad.scan.c.operations import POINTWISE, REDUCTIONS, SIZE, Line, Unprintable, literal


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
            if node.target is SIZE:
                continue
            inputs = [i for i in node.all_input_nodes if i.target is not SIZE]
            before = max((self.phase[i] for i in inputs), default=0)
            if node.op == "placeholder":
                self.is_row[node], self.phase[node] = False, 0
            elif node.target in REDUCTIONS:
                self._check_reduction(node)
                self.is_row[node], self.phase[node] = True, before + 1
            elif node.target in POINTWISE:
                rows = bool(inputs) and all(self.is_row[i] for i in inputs)
                is_expand = "expand" in str(node.target)
                self.is_row[node], self.phase[node] = rows and not is_expand, before
            else:
                raise Unprintable(str(node.target))

    def _check_reduction(self, node: fx.Node) -> None:
        axes = node.args[1] if len(node.args) > 1 else None
        keep = node.args[2] if len(node.args) > 2 else False
        if axes not in ([-1], [1], (-1,), (1,)) or keep is not True:
            raise Unprintable(f"{node.target} other than over the last axis with keepdim=True")

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
            and n.target is not SIZE
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
        unit += [f"a_{n.name} += {self._name(n.args[0])};" for n in sums]
        unit += [store.format(node.name) for node, store in stores]
        if not unit:
            return rows
        lines = rows + [f"real a_{n.name} = 0;" for n in sums]
        names = ", ".join(f"a_{n.name}" for n in sums)
        lines.append(f"#pragma omp simd reduction(+:{names})" if sums else "#pragma GCC ivdep")
        lines += ["for (word u = 0; u < H; u++) {", *("    " + line for line in unit), "}"]
        for n in sums:
            scale = " / (real)H" if REDUCTIONS[n.target] == "mean" else ""
            lines.append(f"const real {n.name} = a_{n.name}{scale};")
        return lines

    def _expression(self, node: fx.Node) -> str:
        operands = [self._name(a) for a in node.args if not isinstance(a, list | tuple)]
        alpha = node.kwargs.get("alpha")
        extra = [literal(alpha)] if alpha is not None else []
        line: Line = POINTWISE[node.target]
        return line(*operands, *extra)

    def _name(self, operand: object) -> str:
        if isinstance(operand, fx.Node):
            return "((real)H)" if operand.target is SIZE else operand.name
        return literal(operand)
