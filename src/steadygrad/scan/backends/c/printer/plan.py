"""What the forward and the backward loop of one cell have in common: what is kept, and where."""

from torch import fx

from steadygrad.cells import Cell
from steadygrad.scan.backends.c.printer.entry import Room
from steadygrad.scan.backends.c.slots import HEAD, TOOLS, Slots
from steadygrad.scan.ir.operations import Unprintable
from steadygrad.scan.ir.trace import Stage, trace


class Plan:
    """A cell's values, their places in memory, and the words of both calls.

    Args:
        cell: The recurrence.
        shared: Per product, whether its gradient is that of the projected input.
        projects: Whether h is made smaller by ``weight_hr``.

    Attributes:
        products: All products, in the order of their numbers in the file.
        saved: What a backward pass reads of the stages: number of the stage, index in what crosses.
        places: C expression of each of these, at unit ``u``.
        beside: How many of them have memory of their own, beside the projected input's.
        keeps_x: Whether the backward loop reads the projected input, so that nothing overwrites it.
        ends: Values that no gradient goes back from, such as a detached state.
        forward_words: Words that the forward loop is called with.
        backward_words: The same of the backward loop.
    """

    def __init__(self, cell: Cell, shared: tuple[bool, ...], projects: bool) -> None:
        self.cell, self.program, self.projects = cell, trace(cell), projects
        self.shared = shared
        self.products = tuple(p for level in self.program.products for p in level)
        self.made = dict.fromkeys(o for s in self.program.stages if s for o in s.outputs)
        h = f"s.{cell.states[0]}"
        if projects and any(h in s.inputs for s in self.program.stages if s):
            raise Unprintable("h outside of products, while it is projected")
        self.saved = self._saved()
        self.keeps_x = any(
            name.startswith("x.") for s in self.program.stages if s for name in self.crossing(s)
        )
        self.places = self._places()
        self.beside = sum(place.startswith("sv") for place in self.places.values())
        self.ends = self._ends()
        count = len(self.products)
        states, units = range(len(cell.states)), range(len(cell.per_unit))
        read = dict.fromkeys(n for s in self.program.stages if s for n in s.inputs)
        self.constants, self.noise = (
            tuple(n for n in read if n.startswith(kind)) for kind in ("k.", "n.")
        )
        beside = [f"z{k}" for k in range(len(self.constants))]
        beside += [f"{which}{k}" for k in range(len(self.noise)) for which in ("n", "m")]
        self.forward_words = Slots(
            *HEAD, "keep", "packed", "x", "w", "bias", "xp", "hidden", "saved", "hr", "wide",
            *(f"s{k}" for k in states), *(f"e{k}" for k in states),
            "resets", *(f"start{k}" for k in states),
            *(f"r{i}" for i in range(count)), *(f"b{i}" for i in range(count)),
            *(f"k{i}" for i in range(count)),
            *(f"u{k}" for k in units), *beside, *TOOLS,
        )  # fmt: skip
        self.backward_words = Slots(
            *HEAD, "x", "w", "xp", "saved", "hidden", "h0", "grad", "pre", "dx", "dw", "db",
            "hr", "wide", "dhr",
            *(f"g{k}" for k in states), *(f"d{k}" for k in states),
            "resets", "start0", *(f"dstart{k}" for k in states),
            *(f"r{i}" for i in range(count)), *(f"k{i}" for i in range(count)),
            *(f"dr{i}" for i in range(count)), *(f"dbr{i}" for i in range(count)),
            *(f"u{k}" for k in units), *(f"du{k}" for k in units), *beside,
            "records", "place", "by", "bound", *TOOLS,
        )  # fmt: skip

    def _ends(self) -> set[str]:
        """Values that no gradient goes back from, such as a detached state."""
        found = set()
        for stage in self.program.stages:
            if stage:
                incoming = [n for n in stage.loop.nodes if n.op == "placeholder"]
                incoming = incoming[len(incoming) - len(stage.outputs) :]
                for name, node in zip(stage.outputs, incoming, strict=True):
                    if all(
                        any(k in str(u.target) for k in ("zeros_like", "sym_size"))
                        for u in node.users
                    ):
                        found.add(name)
        return found

    def crossing(self, stage: Stage) -> list[str]:
        """Names of what a stage's backward loop reads, inputs by their public name."""
        public = dict(zip(placeholders(stage.joint), stage.inputs, strict=True))
        outputs = next(n for n in stage.joint.nodes if n.op == "output").args[0]
        assert isinstance(outputs, tuple)
        return [public.get(n.name, n.name) for n in outputs[len(stage.outputs) :]]  # type: ignore[union-attr]

    def _saved(self) -> tuple[tuple[int, int], ...]:
        """Everything that crosses is kept, but the projected inputs and sizes, which are at hand.

        The rule: a value that costs a transcendental or a product is kept; there are no others
        here worth recomputing, a row of units being one store.
        """
        found = []
        for number, stage in enumerate(self.program.stages):
            if stage is None:
                continue
            outputs = next(n for n in stage.joint.nodes if n.op == "output").args[0]
            assert isinstance(outputs, tuple)
            names = self.crossing(stage)
            for index, (node, name) in enumerate(
                zip(outputs[len(stage.outputs) :], names, strict=True)
            ):
                is_size = "sym_size" in str(getattr(node, "target", ""))
                if not is_size and not name.startswith(("x.", "u.", "k.", "n.")):
                    found.append((number, index))
        return tuple(found)

    def _places(self) -> dict[tuple[int, int], str]:
        """Where each kept value stands: over a projected input that is read no more, or beside.

        Memory that is written for the first time costs a page fault every 4 KB, at long sequences
        more than the arithmetic; so what can be overwritten is.
        """
        free: list[int] = []
        taken: set[int] = set()
        places: dict[tuple[int, int], str] = {}
        beside = 0
        for number, stage in enumerate(self.program.stages):
            if stage and not self.keeps_x:
                later = {n for s in self.program.stages[number + 1 :] if s for n in s.inputs}
                for k, gate in enumerate(self.cell.gates):
                    if f"x.{gate}" not in later and k not in taken:
                        free.append(k)
                        taken.add(k)
            for key in (key for key in self.saved if key[0] == number):
                if free:
                    places[key] = f"xs[{free.pop(0)} * H + u]"
                else:
                    places[key] = f"sv[{beside} * H + u]"
                    beside += 1
        return places

    def load(self, slots: Slots, name: str) -> str:
        """C expression of a value of the forward pass at row b, unit u."""
        kind, _, rest = name.partition(".")
        if kind == "x" and rest:
            return f"x[{self.cell.gates.index(rest)} * H + u]"
        if kind == "s" and rest:
            return f"c{self.cell.states.index(rest)}[u]"
        if kind == "u" and rest:
            return f"{slots.pointer('u' + str(list(self.cell.per_unit).index(rest)))}[u]"
        if kind == "k" and rest:
            return f"{slots.pointer(f'z{self.constants.index(name)}')}[u]"
        if kind == "n" and rest:
            return f"noise{self.noise.index(name)}[u]"
        for i, item in enumerate(self.products):
            if name in item.outputs:
                k = item.outputs.index(name)
                return f"(p{i}[{k} * H + u] + {slots.pointer(f'b{i}')}[{k} * H + u])"
        return f"v_{name}[u]"

    def noise_rows(self, slots: Slots) -> list[str]:
        """Where the noise of row b of this step stands: one row for all, one a row, or its own."""
        return [
            f"            const real* const noise{k} = {slots.pointer(f'n{k}')}"
            f" + ({slots[f'm{k}']} == 2 ? at + b : {slots[f'm{k}']} * (from + b)) * H;"
            for k in range(len(self.noise))
        ]

    def panels(self, forward: bool) -> list[Room]:
        """Right factors, packed: of the input, and of the state for every product."""
        G = len(self.cell.gates)
        few = f"I <= FEW ? I * {G} * H : panels_of({G} * H, I)"
        rooms = [Room("wp", f"panels_of(I, {G} * H)" if forward else few)]
        for i, item in enumerate(self.products):
            k, n = self.width(item.argument), f"{len(item.gates)} * H"
            rooms.append(Room(f"rp{i}", f"panels_of({k if forward else n}, {n if forward else k})"))
        if self.projects:
            rooms.append(Room("hrp", "panels_of(H, P)" if forward else "panels_of(P, H)"))
        return rooms

    def width(self, name: str) -> str:
        """Features of a state, or of what a product multiplies."""
        return "P" if name == f"s.{self.cell.states[0]}" else "H"

    @property
    def widths(self) -> list[str]:
        """Features of each state."""
        return [self.width(f"s.{name}") for name in self.cell.states]

    @property
    def inside(self) -> list[str]:
        """Values between stages that have rows of scratch; h before it is projected is one."""
        inner = [name for name in self.made if name not in self.program.results]
        return [*inner, *(("wide",) if self.projects else ())]

    @property
    def other_arguments(self) -> list[int]:
        """Products of something else than h."""
        name = f"s.{self.cell.states[0]}"
        return [i for i, item in enumerate(self.products) if item.argument != name]


def placeholders(graph: fx.Graph) -> list[str]:
    """Names of a graph's arguments, in order."""
    return [n.name for n in graph.nodes if n.op == "placeholder"]


def own_rows(name: str, width: str) -> Room:
    """Rows of one step, of which each thread takes its own."""
    return Room(name, f"most * {width}", at=f"skip * {width}")
