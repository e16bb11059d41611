"""The backward loop of a cell as one kernel: a program runs all steps of a tile of rows."""

from steadygrad.scan.backends.triton.printer import blocks
from steadygrad.scan.backends.triton.printer.blocks import store, units
from steadygrad.scan.backends.triton.printer.clips import clip_phase, clipped, factor
from steadygrad.scan.backends.triton.printer.cotangents import Cotangents
from steadygrad.scan.backends.triton.printer.graph import GraphPrinter, outputs_of, reduces
from steadygrad.scan.backends.triton.printer.plan import Plan
from steadygrad.scan.ir.program import Product, Stage

EVERY = 8
"""Steps between checks of the gradient's size, as in `steadygrad.scan.rescale`."""


class BackwardPrinter:
    """Prints the backward kernel of a plan.

    Values of the forward pass that no plane holds are recomputed at each step. The gradients at
    the states are carried in two sets of planes, read and written by turns.

    Attributes:
        places: Where gradients stand within a step.
        sums: What is summed over rows and steps, each ``(programs, stride)`` in two sets:
            ``u.`` per-unit parameters, one for each stage that reads them, and ``s.`` the states
            that resets set.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.form = plan, plan.form
        self.places = Cotangents(plan)
        self.graphs = GraphPrinter(plan.form.size)
        self.sums: list[str] = []
        self.kind, self.by = plan.form.clip or ("", "")
        self._step = self._phases()

    @property
    def enters(self) -> bool:
        """Whether the gradient at the new states is written down before anything reads it."""
        return self.form.tap or self.form.projects or self.kind == "total"

    def parameters(self) -> list[str]:
        """Pointers and numbers that the kernel is called with, in order."""
        return [
            "x", "h", "log", "work", "unit", "constant", *self.plan.noises, "weights",
            "projection", "grad", "carried", "pre", "parts", "sums", "at_h", "at_states", "enters",
            "exponents", "bound", "resets", "places", "counts", "T", "B", "N",
        ]  # fmt: skip

    def text(self) -> str:
        """The kernel."""
        form = self.form
        step = ["now = step % 2", "then = 1 - now", *blocks.place(form, "T - 1 - step")]
        if form.resets:
            step.append("begins = tl.load(resets + at, mask=live, other=0) != 0")
        for phase in self._step:
            step += [*phase, blocks.BARRIER]
        if form.rescales and form.resets:
            step.append("e = tl.where(begins[:, None], 0, e)")
        body = [
            *blocks.tile(form),
            f"shares = tl.cast(tl.num_programs(0), tl.int64) * {form.stride}",
            f"own = tl.cast(tl.program_id(0), tl.int64) * {form.stride}",
            *(["e = tl.zeros((BM, 1), tl.int32)"] if form.rescales else []),
            "for step in range(T):",
            *blocks.indented(step),
            *(
                ["tl.store(exponents + N + rows[:, None], e, mask=(rows < B)[:, None])"]
                if form.rescales
                else []
            ),
        ]
        return blocks.kernel("backward", self.parameters(), body)

    def _phases(self) -> list[list[str]]:
        plan, places = self.plan, self.places
        phases = self._enter() if self.enters else []
        for level in reversed(range(len(plan.program.stages))):
            for item in plan.program.products[level] if level < len(plan.program.products) else ():
                if places.clips_products:
                    phases.append(self._clip_product(item))
                phases.append(self._product(item))
            stage = plan.program.stages[level]
            if stage:
                phases.append(self._stage(level, stage))
        if places.clips_products and not any(plan.shared):
            names = [f"x.{g}" for g in plan.cell.gates if places.has_any(f"x.{g}")]
            phases.append(self._clip(names))
        leave = [line for k in range(len(plan.cell.states)) for line in self._leave(k)]
        return [*phases, leave] if leave else phases

    def _state(self, k: int) -> str:
        """Pointers to the gradient at a new state, once it has been written down."""
        form, plan = self.form, self.plan
        if k == 0 and (form.tap or form.projects):
            return f"at_h + at[:, None] * {form.width}"
        if form.tap:
            return f"at_states + {k - 1} * plane + at[:, None] * {form.size}"
        return self.places.plane(f"new {plan.cell.states[k]}")

    def _arriving(self, k: int) -> str:
        """The gradient at a new state: from the next step, and from outside."""
        value = f"tl.load({self.places.carried(k, 'now')} + u[None, :], mask=m, other=0.0)"
        outside = f"tl.load(grad + at[:, None] * {self.form.width} + u[None, :], mask=m, other=0.0)"
        outside += self.plan.cast
        if self.form.rescales:
            value, outside = f"raised({value}, change)", f"raised({outside}, e)"
        return f"{value} + {outside}" if k == 0 else value

    def _enter(self) -> list[list[str]]:
        """Rescale and clip the gradients at the new states, and write them down."""
        form, plan = self.form, self.plan
        states = plan.cell.states
        widths = [plan.width(f"s.{name}") for name in states]
        lines = self._rescaling(widths) if form.rescales else []
        by_norm = self.kind == "total" and self.by == "norm"
        phases = []
        raw = [self.places.plane(f"raw {name}") for name in states] if by_norm else []
        for k, width in enumerate(widths):
            value = self._arriving(k)
            if self.kind == "total" and not by_norm:
                value = clipped(value, self.by)
            lines += units(width, "BN", [store(raw[k] if by_norm else self._state(k), value)])
        phases.append(lines)
        if by_norm:
            lines = []
            for k, width in enumerate(widths):
                lines += clip_phase([(raw[k], self._state(k), width)], "norm")
            phases.append(lines)
        if form.projects:
            sums = blocks.dots([("p", 0)], self._state(0), form.width, "projection", form.size)
            to = self.places.plane("new wide")
            phases.append(units(form.size, "BN", [blocks.zeros("p"), *sums, store(to, "p")]))
        return phases

    def _rescaling(self, widths: list[int]) -> list[str]:
        tops = [
            f"top = tl.maximum(top, row_top({self.places.carried(k, 'now')}, live, {n}, BN, DT))"
            for k, n in enumerate(widths)
        ]
        return [
            "change = tl.zeros((BM, 1), tl.int32)",
            f"if step % {EVERY} == 0:",
            *blocks.indented(
                ["top = tl.zeros((BM, 1), DT)", *tops, "change = rescaling(top, live[:, None])"]
            ),
            "e += change",
            "outside = tl.load(enters + at[:, None], mask=live[:, None], other=0)",
            "back = tl.where((e > 0) & (outside != 0), -e, 0)",
            "e += back",
            "change += back",
            "tl.store(exponents + at[:, None], e, mask=live[:, None])",
        ]

    def _clip_product(self, item: Product) -> list[str]:
        index = self.plan.products.index(item)
        shared = self.plan.shared[index]
        return self._clip([f"x.{g}" for g in item.gates] if shared else list(item.outputs))

    def _clip(self, names: list[str]) -> list[str]:
        pairs = [(self.places.sum_so_far(n), self.places.wanted(n)) for n in names]
        size = self.form.size
        return clip_phase([(source, to, size) for source, to in pairs if source], self.by)

    def _product(self, item: Product) -> list[str]:
        """The gradient at what a product multiplies."""
        plan, size = self.plan, self.form.size
        index, width = plan.products.index(item), plan.width(item.argument)
        lines = [blocks.zeros("p")]
        lines += blocks.dots(
            [("p", 0)],
            self.places.joint(index),
            len(item.gates) * size,
            f"weights + {plan.begin(item)}",
            width,
        )
        return units(width, "BN", lines + self._contribution(item.argument, "p"))

    def _contribution(self, name: str, value: str) -> list[str]:
        """Add to the gradient at a value."""
        before, to, last = self.places.add(name)
        if before:
            value = f"{value} + tl.load({before} + u[None, :], mask=m, other=0.0){self.plan.cast}"
        if last and name.startswith("s.") and not self.places.leaves:
            return self._carry_on(self.plan.cell.states.index(name[2:]), value)
        return [store(to, value)]

    def _carry_on(self, k: int, value: str) -> list[str]:
        """Hand the gradient at a state to the step before; rows that have ended keep theirs."""
        to = self.places.carried(k, "then")
        if not self.form.packed:
            return [store(to, value)]
        mask = "(rows < B)[:, None] & um[None, :]"
        old = f"tl.load({self.places.carried(k, 'now')} + u[None, :], mask={mask}, other=0.0)"
        return [store(to, f"tl.where(live[:, None], {value}, {old})", mask)]

    def _stage(self, level: int, stage: Stage) -> list[str]:
        plan, size = self.plan, self.form.size
        crossing = plan.crossing(stage)
        arguments = [n for n in stage.loop.nodes if n.op == "placeholder"]
        wanted = [
            (name, node)
            for name, node in zip(stage.inputs, outputs_of(stage.loop), strict=True)
            if not name.startswith(("k.", "n.")) and not self._is_twin(name)
        ]
        given = (n.name for n in stage.joint.nodes if n.op == "placeholder")
        public = dict(zip(given, stage.inputs, strict=True))
        forward = self.graphs.print(
            stage.joint, crossing, lambda name: plan.load(public[name]), f"f{level}_"
        )
        values = dict(zip((n.name for n in arguments), forward.values, strict=False))
        for node, name in zip(arguments[len(crossing) :], stage.outputs, strict=True):
            values[node.name] = self._incoming(name)
        nodes = [node for _, node in wanted]
        back = self.graphs.print(stage.loop, nodes, values.__getitem__, f"b{level}_")
        lines = forward.lines + back.lines
        for (name, _), value in zip(wanted, back.values, strict=True):
            lines += (
                self._summed(f"{name} {level}", value)
                if name.startswith("u.")
                else (self._contribution(name, value))
            )
        step = "ROW" if reduces(stage.joint) or reduces(stage.loop) else "BN"
        return units(size, step, lines)

    def _is_twin(self, name: str) -> bool:
        """Whether a product's result has the gradient of the projected input, written with it."""
        pairs = zip(self.plan.products, self.plan.shared, strict=True)
        return any(shared and name in p.outputs for p, shared in pairs)

    def _incoming(self, name: str) -> str:
        """Expression of the gradient at a stage's output."""
        if name in self.plan.program.results:
            k = self.plan.program.results.index(name)
            if k == 0 and self.form.projects:
                place = self.places.plane("new wide")
            elif self.enters:
                place = self._state(k)
            else:
                return self._arriving(k)
        else:
            place = self.places.sum_so_far(name) or ""
        return f"tl.load({place} + u[None, :], mask=m, other=0.0)" if place else "0.0"

    def _summed(self, name: str, value: str, condition: str = "m") -> list[str]:
        """Add the true values of a column to a sum over rows and steps."""
        self.sums.append(name)
        index = self.sums.index(name)
        if self.form.rescales:
            value = f"raised({value}, -e)"
        old, new = (
            f"sums + ({2 * index} + {which}) * shares + own + u" for which in ("now", "then")
        )
        return [
            f"column = tl.sum(tl.where({condition}, {value}, 0.0), 0)",
            f"tl.store({new}, tl.load({old}, mask=um, other=0.0) + column, mask=um)",
        ]

    def _leave(self, k: int) -> list[str]:
        """Clip what goes to the step before, and end it where a row begins anew."""
        plan, name = self.plan, f"s.{self.plan.cell.states[k]}"
        width = plan.width(name)
        place = self.places.sum_so_far(name)
        if not self.places.leaves:
            return (
                [] if place else units(width, "BN", self._carry_on(k, "tl.full((1, 1), 0.0, DT)"))
            )
        lines: list[str] = []
        value = (
            f"tl.load({place} + u[None, :], mask=m, other=0.0)"
            if place
            else ("tl.zeros((BM, BN), DT)")
        )
        if self.kind == "recurrent" and place:
            if self.by == "norm":
                lines += factor([(place, width)])
            value = clipped(value, self.by)
        body = [f"value = {value}"]
        if self.form.resets:
            body += self._summed(name, "value", "m & begins[:, None]")
            body.append("value = tl.where(begins[:, None], 0.0, value)")
        return [*lines, *units(width, "BN", [*body, *self._carry_on(k, "value")])]
