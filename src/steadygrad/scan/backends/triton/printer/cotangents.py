"""Where the gradient at every value of a step stands, while it is added up.

A value that several stages and products read has several contributions. Each phase that adds one
writes the sum so far to a place of its own, and the last one to where the whole is wanted, so that
no phase changes what it, or a phase at the same time, reads.
"""

from steadygrad.scan.backends.triton.printer.plan import Plan


class Cotangents:
    """Places of the gradients within one backward step.

    Attributes:
        scratch: Names of the planes ``(B, stride)`` of ``work`` in the backward kernel.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.form = plan, plan.form
        self.scratch: list[str] = []
        self._due: dict[str, int] = {}
        self._at: dict[str, str] = {}
        for stage in plan.program.stages:
            for name in stage.inputs if stage else ():
                self._due[name] = self._due.get(name, 0) + 1
        for item in plan.products:
            self._due[item.argument] = self._due.get(item.argument, 0) + 1
        self.clips_products = self.form.clip is not None and self.form.clip[0] == "preactivation"
        self.leaves = self.form.resets or (
            self.form.clip is not None and self.form.clip[0] == "recurrent"
        )

    def plane(self, name: str) -> str:
        """Pointers ``(rows, 1)`` to scratch memory of this step."""
        if name not in self.scratch:
            self.scratch.append(name)
        index = self.scratch.index(name)
        return f"work + {index} * part + rows[:, None] * {self.form.stride}"

    def sum_so_far(self, name: str) -> str | None:
        """Pointers to what has been added up; None if nothing has."""
        return self._at.get(name)

    def add(self, name: str) -> tuple[str | None, str, bool]:
        """Where the next contribution goes.

        Returns:
            Pointers to the sum before it, or None; pointers to the sum with it; whether it is the
            last one.
        """
        before = self._at.get(name)
        self._due[name] -= 1
        last = self._due[name] == 0
        self._at[name] = self.place(name) if last else self.plane(f"{name} {self._due[name]}")
        return before, self._at[name], last

    def place(self, name: str) -> str:
        """Where the whole gradient at a value is written by its last contribution."""
        kind, _, rest = name.partition(".")
        if (kind == "x" and rest) or name in self._of_products():
            return self.plane(f"{name} raw") if self.clips_products else self.wanted(name)
        return self.plane(name)

    def _of_products(self) -> list[str]:
        return [o for p in self.plan.products for o in p.outputs]

    def wanted(self, name: str) -> str:
        """Where the gradient at a projected input, or a product's result, stands at all steps."""
        plan, size = self.plan, self.form.size
        kind, _, rest = name.partition(".")
        if kind == "x" and rest:
            width = len(plan.cell.gates) * size
            return f"pre + at[:, None] * {width} + {plan.cell.gates.index(rest) * size}"
        index = next(i for i, p in enumerate(plan.products) if name in p.outputs)
        return f"{self.joint(index)} + {plan.products[index].outputs.index(name) * size}"

    def joint(self, index: int) -> str:
        """Pointers to the gradients at all results of a product, side by side."""
        plan, size = self.plan, self.form.size
        width = len(plan.products[index].gates) * size
        if plan.shared[index]:
            return f"pre + at[:, None] * {width}"
        return f"parts + {self.begin(index)} * plane + at[:, None] * {width}"

    def begin(self, index: int) -> int:
        """Planes ``(N, H)`` of gradients at results before those of a product."""
        pairs = zip(self.plan.products[:index], self.plan.shared, strict=False)
        return sum(len(p.gates) for p, shared in pairs if not shared)

    def carried(self, k: int, which: str) -> str:
        """Pointers to the gradient at a state that one step hands to the next.

        Args:
            k: Which state.
            which: ``now``, what the step before has written, or ``then``, what this one writes.
        """
        count = len(self.plan.cell.states)
        return f"carried + ({which} * {count} + {k}) * part + rows[:, None] * {self.form.stride}"

    def has_any(self, name: str) -> bool:
        """Whether anything contributes to the gradient at a value."""
        return name in self._due
