"""What the two kernels of a cell have in common: values, and their places in memory."""

from torch import fx

from steadygrad.scan.backends.triton.form import Form
from steadygrad.scan.backends.triton.printer.graph import outputs_of
from steadygrad.scan.ir.operations import Unprintable
from steadygrad.scan.ir.products import shares
from steadygrad.scan.ir.program import Product, Stage
from steadygrad.scan.ir.trace import trace


class Plan:
    """The values of one form of a cell.

    Values of all time steps are planes ``(N, H)`` of one tensor ``log``, h is ``(N, P)`` of its
    own. Values that live within a step only are planes ``(B, stride)`` of one tensor ``work``.

    Attributes:
        form: The form.
        products: All products, numbered in this order.
        shared: Per product, whether its gradient is that of the projected input.
        logged: Names of the planes of ``log``.
        passing: Names of the planes of ``work`` in the forward kernel.
        constants: Names of the constants that stages read, ``k.``.
    """

    def __init__(self, form: Form) -> None:
        self.form, self.cell = form, form.cell
        self.program = trace(form.cell)
        self.products = tuple(p for level in self.program.products for p in level)
        self.shared = tuple(shares(form.cell, self.program, p) for p in self.products)
        stages = [s for s in self.program.stages if s]
        if form.projects and any(self.h in s.inputs for s in stages):
            raise Unprintable("h outside of products, while it is projected")
        inner = [o for p in self.products for o in p.outputs]
        inner += [o for s in stages for o in s.outputs if o not in self.program.results]
        inner += ["wide"] if form.projects else []
        states = [f"s.{name}" for name in form.cell.states[1:]]
        self.logged = states + (inner if form.keep else [])
        self.passing = [] if form.keep else inner
        read = dict.fromkeys(n for s in stages for n in s.inputs)
        self.constants = [n for n in read if n.startswith("k.")]

    @property
    def h(self) -> str:
        """Name of the first state."""
        return f"s.{self.cell.states[0]}"

    @property
    def noises(self) -> list[str]:
        """Parameters of the kernels for noise."""
        return [f"noise{i}" for i in range(len(self.cell.noise))]

    @property
    def cast(self) -> str:
        """What makes a value from memory one to compute with."""
        return ".to(DT)" if self.form.is_half else ""

    def width(self, name: str) -> int:
        """Features of a state, or of what a product multiplies."""
        return self.form.width if name == self.h else self.form.size

    def begin(self, item: Product) -> int:
        """Where the matrix of a product stands in the tensor of all."""
        before = self.products[: self.products.index(item)]
        return sum(len(p.gates) * self.form.size * self.width(p.argument) for p in before)

    def bias_begin(self, item: Product) -> int:
        """Where the bias of a product stands in the tensor of all."""
        before = self.products[: self.products.index(item)]
        return sum(len(p.gates) for p in before) * self.form.size

    def rows(self, name: str) -> str:
        """Pointers ``(rows, 1)`` to a value that the forward kernel writes."""
        if name == self.h:
            return f"h + at[:, None] * {self.form.width}"
        if name in self.logged:
            return f"log + {self.logged.index(name)} * plane + at[:, None] * {self.form.size}"
        return f"work + {self.passing.index(name)} * part + rows[:, None] * {self.form.stride}"

    def load(self, name: str) -> str:
        """Expression of a value of the forward pass, at a block of units."""
        kind, _, rest = name.partition(".")
        size = self.form.size
        if kind == "n" and rest:
            index = list(self.cell.noise).index(rest)
            if not self.form.noise[index]:
                return self._per_unit(f"noise{index}")
            place = f"noise{index} + at[:, None] * {size}"
        elif kind == "u" and rest:
            return self._per_unit(f"unit + {list(self.cell.per_unit).index(rest) * size}")
        elif kind == "k" and rest:
            return self._per_unit(f"constant + {self.constants.index(name) * size}")
        elif kind == "x" and rest:
            gate, count = self.cell.gates.index(rest), len(self.cell.gates)
            place = f"x + at[:, None] * {count * size} + {gate * size}"
        else:
            place = self.rows(name)
        return f"tl.load({place} + u[None, :], mask=m, other=0.0){self.cast}"

    def _per_unit(self, pointer: str) -> str:
        return f"tl.load({pointer} + u, mask=um, other=0.0)[None, :]{self.cast}"

    def crossing(self, stage: Stage) -> list[fx.Node]:
        """What a stage's backward loop reads, as outputs of its forward graph."""
        return outputs_of(stage.joint)[len(stage.outputs) :]
