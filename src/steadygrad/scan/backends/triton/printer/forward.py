"""The forward loop of a cell as one kernel: a program runs all steps of a tile of rows."""

from steadygrad.scan.backends.triton.printer import blocks
from steadygrad.scan.backends.triton.printer.blocks import store, units
from steadygrad.scan.backends.triton.printer.graph import GraphPrinter, outputs_of, reduces
from steadygrad.scan.backends.triton.printer.plan import Plan
from steadygrad.scan.ir.program import Product, Stage


class ForwardPrinter:
    """Prints the forward kernel of a plan.

    The state before a step stands with the rows of that step: a step writes the new one to the
    place of its row's next step, or to ``last``. A product whose results only the next stage reads
    is computed within that stage's loop over units, if the stage sums nothing over units.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.form = plan, plan.form
        self.graphs = GraphPrinter(plan.form.size)

    def parameters(self) -> list[str]:
        """Pointers and numbers that the kernel is called with, in order."""
        return [
            "x", "h", "hidden", "log", "work", "last", "weights", "bias", "unit", "constant",
            *self.plan.noises, "projection", "resets", "start", "places", "counts", "T", "B", "N",
        ]  # fmt: skip

    def text(self) -> str:
        """The kernel."""
        phases: list[list[str]] = []
        near: list[Product] = []
        program = self.plan.program
        for level, stage in enumerate(program.stages):
            if stage:
                phases.append(self._stage(level, stage, near))
                near = []
            for item in program.products[level] if level < len(program.products) else ():
                if self._is_fused(level, item):
                    near.append(item)
                else:
                    phases.append(self._product(item))
        if self.form.projects:
            phases.append(self._projection())
        step = [*blocks.place(self.form, "step"), *blocks.next_place(self.form)]
        for phase in phases:
            step += [*phase, blocks.BARRIER]
        body = [*blocks.tile(self.form), "for step in range(T):", *blocks.indented(step)]
        return blocks.kernel("forward", self.parameters(), body)

    def _is_fused(self, level: int, item: Product) -> bool:
        stages = self.plan.program.stages
        readers = [s for s in stages if s and set(item.outputs) & set(s.inputs)]
        return readers == [stages[level + 1]] and not reduces(readers[0].joint)

    def _sums(self, item: Product) -> tuple[list[str], list[str]]:
        """Lines that compute a product at a block of units, and the names of its results."""
        plan, size, count = self.plan, self.form.size, len(item.gates)
        names = [f"p{plan.products.index(item)}_{j}" for j in range(count)]
        lines = []
        for j, name in enumerate(names):
            lines.append(blocks.zeros(name))
            if self.form.bias:
                place = f"bias + {plan.bias_begin(item) + j * size} + u"
                lines.append(f"{name} += tl.load({place}, mask=um, other=0.0)[None, :].to(DT)")
        sums = [(name, j * size) for j, name in enumerate(names)]
        lines += blocks.dots(
            sums,
            plan.rows(item.argument),
            plan.width(item.argument),
            f"weights + {plan.begin(item)}",
            count * size,
        )
        return lines, names

    def _product(self, item: Product) -> list[str]:
        """A product in a phase of its own."""
        lines, names = self._sums(item)
        pairs = zip(item.outputs, names, strict=True)
        lines += [store(self.plan.rows(output), name) for output, name in pairs]
        return units(self.form.size, "BN", lines)

    def _stage(self, level: int, stage: Stage, near: list[Product]) -> list[str]:
        """A stage, and the products that are computed with it."""
        plan = self.plan
        lines: list[str] = []
        at_hand: dict[str, str] = {}
        for item in near:
            more, names = self._sums(item)
            lines += more
            at_hand |= dict(zip(item.outputs, names, strict=True))
        if self.form.keep:
            lines += [store(plan.rows(output), name) for output, name in at_hand.items()]
        arguments = [n.name for n in stage.joint.nodes if n.op == "placeholder"]
        public = dict(zip(arguments, stage.inputs, strict=True))

        def given(argument: str) -> str:
            name = public[argument]
            return at_hand.get(name) or plan.load(name)

        wanted = outputs_of(stage.joint)[: len(stage.outputs)]
        printed = self.graphs.print(stage.joint, wanted, given, f"f{level}_")
        lines += printed.lines
        for name, value in zip(stage.outputs, printed.values, strict=True):
            if name in plan.program.results:
                lines += self._result(plan.program.results.index(name), value)
            else:
                lines.append(store(plan.rows(name), value))
        return units(self.form.size, "ROW" if reduces(stage.joint) else "BN", lines)

    def _result(self, k: int, value: str) -> list[str]:
        """Keep a new state; h may yet have to be projected."""
        if k == 0 and self.form.projects:
            return [store(self.plan.rows("wide"), value)]
        return self._handed_on(k, value)

    def _handed_on(self, k: int, value: str) -> list[str]:
        """Hand a new state on to the next step of its row, or to its end."""
        form, plan = self.form, self.plan
        lines = []
        if k == 0:
            lines.append(store(f"hidden + at[:, None] * {form.width}", value))
        handed = value
        if form.resets:
            place = f"start + {k * form.stride} + u"
            lines.append(f"anew = tl.load({place}, mask=um, other=0.0)[None, :].to(DT)")
            handed = f"tl.where(begins[:, None], anew, {value})"
        to = plan.rows(f"s.{plan.cell.states[k]}").replace("at[", "after[")
        end = f"last + {k} * part + rows[:, None] * {form.stride}"
        return [
            *lines,
            store(to, handed, "goes_on[:, None] & um[None, :]"),
            store(end, value, "ends[:, None] & um[None, :]"),
        ]

    def _projection(self) -> list[str]:
        """``h = W_hr wide``."""
        form = self.form
        lines = [blocks.zeros("p")]
        left = self.plan.rows("wide")
        lines += blocks.dots([("p", 0)], left, form.size, "projection", form.width)
        return units(form.width, "BN", lines + self._handed_on(0, "p"))
