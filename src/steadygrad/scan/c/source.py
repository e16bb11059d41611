"""A whole cell as one C file: the forward and the backward loop over all time steps.

Arguments come as one array of 64-bit words, pointers and numbers alike; `Slots` gives each its
place, in the file and for the caller. Rows of the batch are split over threads for all time
steps: no thread ever waits for another. Or, where the caller says ``together``, the columns of
every product are split, and threads wait for each other before and after each.
"""

from dataclasses import dataclass

from steadygrad.cells import Cell
from steadygrad.scan.c.around import Room, Rooms, entry, part_head, prepare, room_function
from steadygrad.scan.c.functions import functions
from steadygrad.scan.c.operations import Unprintable
from steadygrad.scan.c.preamble import preamble
from steadygrad.scan.c.stage_print import StagePrinter
from steadygrad.scan.trace import Product, Stage, trace


class Slots:
    """Names of the words of the argument array."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.index = {name: i for i, name in enumerate(names)}

    def __getitem__(self, name: str) -> str:
        return f"a[{self.index[name]}]"

    def words(self) -> dict[str, str]:
        """C expressions of all words."""
        return {name: self[name] for name in self.names}

    def pointer(self, name: str, constant: bool = True) -> str:
        """C expression of a pointer argument."""
        return f"(({'const ' if constant else ''}real*){self[name]})"


@dataclass(frozen=True)
class Printed:
    """A file, and how to call it.

    Attributes:
        text: The C source.
        forward: Argument words of ``steadygrad_forward``.
        backward: Argument words of ``steadygrad_backward``.
        beside: Values per unit that the forward loop keeps beside the projected input, which it
            overwrites with others: the way back needs both.
        constants: Names of the constants per unit that the step reads, ``k.<name>``.
        noise: Names of the noise that the step reads, ``n.<name>``.
        products: All products, in the order of their numbers in the file.
        shared: Per product, whether its gradient is that of the projected input.
    """

    text: str
    forward: Slots
    backward: Slots
    beside: int
    constants: tuple[str, ...]
    noise: tuple[str, ...]
    products: tuple[Product, ...]
    shared: tuple[bool, ...]


HEAD = (
    "T",
    "B",
    "H",
    "P",
    "I",
    "threads",
    "reverse",
    "sizes",
    "offsets",
    "bounds",
    "most",
    "together",
)
TOOLS = ("parallel", "number", "team", "work", "shared_size", "joint_size", "work_size")


def print_cell(
    cell: Cell, dtype: str, exact: bool, shared: tuple[bool, ...], projects: bool = False
) -> Printed:
    """Print ``cell`` for ``"float"`` or ``"double"``.

    Args:
        cell: The recurrence.
        dtype: C type of all values.
        exact: Use the system's functions instead of the vectorised ones.
        shared: Per product, whether its gradient is that of the projected input.
        projects: Whether h is made smaller by ``weight_hr``.

    Raises:
        Unprintable: The step holds something that has no line in `operations`.
    """
    return _File(cell, dtype, exact, shared, projects).printed()


class _File:
    def __init__(
        self, cell: Cell, dtype: str, exact: bool, shared: tuple[bool, ...], projects: bool
    ) -> None:
        self.cell, self.program, self.projects = cell, trace(cell), projects
        self.dtype, self.exact, self.shared = dtype, exact, shared
        self.products = tuple(p for level in self.program.products for p in level)
        self.made = {o for s in self.program.stages if s for o in s.outputs}
        h = f"s.{cell.states[0]}"
        if projects and any(h in s.inputs for s in self.program.stages if s):
            raise Unprintable("h outside of products, while it is projected")
        self.saved = self._saved()
        self.keeps_x = any(
            name.startswith("x.") for s in self.program.stages if s for name in self._crossing(s)
        )
        self.places = self._places()
        self.beside = sum(place.startswith("sv") for place in self.places.values())
        self.inner = [o for o in self.made if o not in self.program.results]
        self.ends = self._ends()
        self.spills = 0
        count = len(self.products)
        states, units = range(len(cell.states)), range(len(cell.per_unit))
        read = dict.fromkeys(n for s in self.program.stages if s for n in s.inputs)
        self.constants, self.noise = (
            tuple(n for n in read if n.startswith(kind)) for kind in ("k.", "n.")
        )
        beside = [f"z{k}" for k in range(len(self.constants))]
        beside += [f"{which}{k}" for k in range(len(self.noise)) for which in ("n", "m")]
        self.f = Slots(
            *HEAD, "keep", "packed", "x", "w", "bias", "xp", "hidden", "saved", "hr", "wide",
            *(f"s{k}" for k in states), *(f"e{k}" for k in states),
            *(f"r{i}" for i in range(count)), *(f"b{i}" for i in range(count)),
            *(f"k{i}" for i in range(count)),
            *(f"u{k}" for k in units), *beside, *TOOLS,
        )  # fmt: skip
        self.b = Slots(
            *HEAD, "x", "w", "xp", "saved", "hidden", "h0", "grad", "pre", "dx", "dw", "db",
            "hr", "wide", "dhr",
            *(f"g{k}" for k in states), *(f"d{k}" for k in states),
            *(f"r{i}" for i in range(count)), *(f"k{i}" for i in range(count)),
            *(f"dr{i}" for i in range(count)), *(f"dbr{i}" for i in range(count)),
            *(f"u{k}" for k in units), *(f"du{k}" for k in units), *beside,
            "N", "seen", "exponents", "place", "by", "bound", *TOOLS,
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

    def _crossing(self, stage: Stage) -> list[str]:
        """Names of what a stage's loop reads from the way forward, inputs by their public name."""
        public = dict(zip(self._placeholders(stage.joint), stage.inputs, strict=True))
        outputs = next(n for n in stage.joint.nodes if n.op == "output").args[0]
        assert isinstance(outputs, tuple)
        return [public.get(n.name, n.name) for n in outputs[len(stage.outputs) :]]  # type: ignore[union-attr]

    @staticmethod
    def _placeholders(graph: object) -> list[str]:
        return [n.name for n in graph.nodes if n.op == "placeholder"]  # type: ignore[attr-defined]

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
            names = self._crossing(stage)
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

    # ---- values and where they live -------------------------------------------------------

    def _load(self, slots: Slots, name: str) -> str:
        """C expression of a value at row b, unit u, on the way forward."""
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

    def _noise_rows(self, slots: Slots) -> list[str]:
        """Where the noise of row b of this step stands: one row for all, one a row, or its own."""
        return [
            f"            const real* const noise{k} = {slots.pointer(f'n{k}')}"
            f" + ({slots[f'm{k}']} == 2 ? at + b : {slots[f'm{k}']} * (from + b)) * H;"
            for k in range(len(self.noise))
        ]

    # ---- forward --------------------------------------------------------------------------

    def _panels(self, forward: bool) -> list[Room]:
        """Right factors, packed: of the input, and of the state for every product."""
        G = len(self.cell.gates)
        few = f"I <= FEW ? I * {G} * H : panels_of({G} * H, I)"
        rooms = [Room("wp", f"panels_of(I, {G} * H)" if forward else few)]
        for i, item in enumerate(self.products):
            k, n = self._width(item.argument), f"{len(item.gates)} * H"
            rooms.append(Room(f"rp{i}", f"panels_of({k if forward else n}, {n if forward else k})"))
        if self.projects:
            rooms.append(Room("hrp", "panels_of(H, P)" if forward else "panels_of(P, H)"))
        return rooms

    def _width(self, name: str) -> str:
        """Features of a state, or of what a product multiplies."""
        return "P" if name == f"s.{self.cell.states[0]}" else "H"

    def _widths(self) -> list[str]:
        """Features of each state."""
        return [self._width(f"s.{name}") for name in self.cell.states]

    def _forward_rooms(self) -> Rooms:
        G = len(self.cell.gates)
        joint = [self._rows(f"cur{k}", width) for k, width in enumerate(self._widths())]
        joint += [self._rows(f"w_{name}", "H") for name in self._inside()]
        joint += [
            self._rows(f"out{i}", f"LEAD({len(item.gates)} * H)")
            for i, item in enumerate(self.products)
        ]
        chunk = "(I ? MOST(LINES, most) : 0)"
        joint += [
            Room("lines", f"{chunk} * LEAD(I)"),
            Room("to", f"2 * {chunk}", "real*"),
            Room("short_xp", f"{chunk} * LEAD({G} * H)"),
        ]
        return Rooms(self._panels(True), joint, [Room("spill", f"{self.spills} * H")])

    @staticmethod
    def _rows(name: str, width: str) -> Room:
        """Rows of one step, of which each thread takes its own."""
        return Room(name, f"most * {width}", at=f"skip * {width}")

    def _forward_packs(self) -> list[tuple[str, str]]:
        f, G = self.f, len(self.cell.gates)
        packs = [(f["x"], f"pack(I, {G} * H, {f.pointer('w')}, 1, I, wp")]
        for i, item in enumerate(self.products):
            n = len(item.gates)
            k = self._width(item.argument)
            packs.append(("1", f"pack({k}, {n} * H, {f.pointer(f'r{i}')}, 1, {k}, rp{i}"))
        if self.projects:
            packs.append(("1", f"pack(H, P, {f.pointer('hr')}, 1, H, hrp"))
        return packs

    def _inside(self) -> list[str]:
        """Values between stages that have rows of scratch; h before it is projected is one."""
        return [*self.inner, *(("wide",) if self.projects else ())]

    def _forward(self) -> list[str]:
        f, G, S = self.f, len(self.cell.gates), len(self.cell.states)
        lines = [
            *part_head("forward", f.words(), self._forward_rooms()),
            "    const span everybody = together ? everyone(&sp) : sp;",
            f"    const word keep = {f['keep']};",
            f"    const real* const input = {f.pointer('x')};",
            f"    const int chunked = input && !(keep && {int(self.keeps_x)});  /* read once */",
            f"    const word x_lead = chunked ? LEAD({G} * H) : {G} * H;",
            "    word until = input ? 0 : T, done = 0;",
            *(
                f"    memcpy(cur{k}, {f.pointer(f's{k}')} + from * {width}, "
                f"rows * {width} * sizeof(real));"
                for k, width in enumerate(self._widths())
            ),
            "    for (word step = 0; step < T; step++) {",
            "        const word t = step_of(&sp, step), m = rows_at(&sp, t);",
            "        const word at = place_of(&sp, t);",
            "        team.rows = rows_at(&everybody, t);",
            "        if (step == until) {",
            f"            until = project(&team, &everybody, step, I, {G} * H, input, wp, "
            f"{f.pointer('bias')},",
            f"                            chunked ? short_xp : {f.pointer('xp', False)}, !chunked,"
            " lines, to);",
            "            done = 0;",
            "        }",
            f"        real* const xt = chunked ? short_xp + (done + skip) * x_lead : "
            f"{f.pointer('xp', False)} + at * {G} * H;",
            "        done += team.rows;",
        ]
        for level, stage in enumerate(self.program.stages):
            if stage:
                lines += self._forward_stage(level, stage, G, S)
            if level < len(self.program.products):
                for item in self.program.products[level]:
                    i = self.products.index(item)
                    argument, k = self._argument(item), self._width(item.argument)
                    lines.append(
                        f"        joint(&team, {len(item.gates)} * H, {k}, {argument}, {k}, "
                        f"rp{i}, 0, out{i}, LEAD({len(item.gates)} * H));"
                    )
                    if item.argument.startswith("s.") and argument != "cur0":
                        lines.append(
                            f"        if (keep) memcpy({f.pointer(f'k{i}', False)} + at * H, "
                            f"{argument}, m * H * sizeof(real));"
                        )
        if self.projects:
            lines += [
                "        joint(&team, P, H, w_wide, H, hrp, 0, cur0, P);",
                f"        memcpy({f.pointer('hidden', False)} + at * P, cur0, "
                "m * P * sizeof(real));",
                f"        if (keep) memcpy({f.pointer('wide', False)} + at * H, w_wide, "
                "m * H * sizeof(real));",
            ]
        lines.append("    }")
        for k, width in enumerate(self._widths()):
            lines.append(
                f"    memcpy({f.pointer(f'e{k}', False)} + from * {width}, cur{k}, "
                f"rows * {width} * sizeof(real));"
            )
        return [*lines, "}"]

    def _argument(self, item: Product) -> str:
        if item.argument.startswith("s."):
            return f"cur{self.cell.states.index(item.argument[2:])}"
        return f"w_{item.argument}"

    def _keep_argument(self, name: str) -> str:
        """Also write down what a product multiplies, for the gradient of its matrix."""
        return "".join(
            f" {self.f.pointer(f'k{i}', False)}[(at + b) * H + u] = {{0}};"
            for i, item in enumerate(self.products)
            if item.argument == name
        )

    def _forward_stage(self, number: int, stage: Stage, G: int, S: int) -> list[str]:
        f = self.f
        crossing = self._crossing(stage)
        stores: list[str | None] = []
        for name in stage.outputs:
            if name in self.program.results:
                k = self.program.results.index(name)
                store = "v_wide[u] = {0};" if k == 0 and self.projects else f"c{k}[u] = {{0}};"
                is_h = k == 0 and not self.projects
                stores.append(store + (" h[u] = {0};" if is_h else ""))
            else:
                stores.append(f"v_{name}[u] = {{0}};")
        plain = list(stores) + [None] * len(crossing)
        keeping = [
            store and store + self._keep_argument(name)
            for store, name in zip(stores, stage.outputs, strict=True)
        ]
        for index in range(len(crossing)):
            place = self.places.get((number, index))
            keeping.append(None if place is None else f"{place} = {{0}};")
        loads = {
            node: self._load(f, name)
            for node, name in zip(self._placeholders(stage.joint), stage.inputs, strict=True)
        }
        head = [
            "        for (word b = 0; b < m; b++) {",
            "            const real* const x = xt + b * x_lead;",
            f"            real* const h = {f.pointer('hidden', False)} + (at + b) * P;",
            *(
                f"            real* const c{k} = cur{k} + b * {width};"
                for k, width in enumerate(self._widths())
            ),
            *(
                f"            const real* const p{i} = out{i} + b * LEAD({len(item.gates)} * H);"
                for i, item in enumerate(self.products)
            ),
            *(f"            real* const v_{n} = w_{n} + b * H;" for n in self._inside()),
            *self._noise_rows(f),
            "            (void)x; (void)h;",
        ]
        kept = [
            f"            real* const xs = {f.pointer('xp', False)} + (at + b) * {G} * H;",
            f"            real* const sv = {f.pointer('saved', False)}"
            f" + (at + b) * {self.beside} * H;",
            "            (void)xs; (void)sv;",
        ]
        lines = ["        if (keep) {"]
        for choice in (keeping, plain):
            printer = StagePrinter(stage.joint, loads, choice)
            self.spills = max(self.spills, printer.spills)
            begin = head + kept if choice is keeping else head
            lines += ["    " + h for h in begin] + printer.print(" " * 16) + ["            }"]
            if choice is keeping:
                lines.append("        } else {")
        return [*lines, "        }"]

    # ---- backward -------------------------------------------------------------------------

    def _backward(self) -> list[str]:
        b, G, S = self.b, len(self.cell.gates), len(self.cell.states)
        lines = [
            *part_head("backward", b.words(), self._backward_rooms()),
            "    const span everybody = together ? everyone(&sp) : sp;",
            *(
                f"    memcpy(cur{k}, {b.pointer(f'g{k}')} + from * {width}, "
                f"rows * {width} * sizeof(real));"
                for k, width in enumerate(self._widths())
            ),
            f"    const word widths[] = {{{', '.join(self._widths())}}};",
            f"    const word wide_as[] = {{{', '.join([*self._widths(), *['H'] * G])}}};",
            *self._collected(),
            "    int scaled = 0;",
            "    word slot = rows_before(&sp);  /* records of a thread stand together */",
            "    for (word i = 0; i < rows; i++) factor[i] = 1;",
            "    int32_t* const ex = (int32_t*)" + b["exponents"] + " ;",
            "    int32_t* const now = ex ? ex + " + f"{b['N']} + from : 0;",
            "    if (now) memset(now, 0, rows * sizeof(int32_t));",
            "    for (word step = 0;; step++) {",
            "        const word t = step_of(&sp, T - 1 - step);",
            "        const word m = step < T ? rows_at(&sp, t) : 0;",
            "        team.rows = step < T ? rows_at(&everybody, t) : 0;",
            "        if (step < T ? filled + team.rows > cap : filled || !add) {",
            "            meet(&team);",
            *self._settle(),
            "            meet(&team);",
            "            filled = 0;",
            "            add = 1;",
            "        }",
            "        if (step == T) break;",
            "        const word at = place_of(&sp, t);",
            f"        const real* const grad = {b.pointer('grad')} + at * P;",
            "        const word spot = together ? at : slot;",
            f"        double* const record = {b['seen']} ? (double*){b['seen']} + "
            f"spot * {2 * S + G} : 0;",
            "        const word here = filled + skip;",
            f"        real* const px = seen + here * LEAD({G} * H);",
            *(
                f"        real* const q{i} = "
                + ("px;" if self.shared[i] else f"seen{i} + here * LEAD({len(p.gates)} * H);")
                for i, p in enumerate(self.products)
            ),
        ]
        lines += self._enter(S)
        lines += self._stages(G, S)
        lines += self._leave(G, S)
        lines.append("    }")
        for k, width in enumerate(self._widths()):
            lines += [
                f"    for (word i = 0; i < rows; i++) for (word u = 0; u < {width}; u++)",
                f"        {b.pointer(f'd{k}', False)}[(from + i) * {width} + u] = scaled ? "
                f"times(cur{k}[i * {width} + u], now ? -now[i] : 0) : cur{k}[i * {width} + u];",
            ]
        return [*lines, "}"]

    def _enter(self, S: int) -> list[str]:
        """The gradient from outside, scales, the total clip, and the taps."""
        b = self.b
        states = ", ".join(f"cur{k}" for k in range(S))
        return [
            f"        real* const all[] = {{{states}}};",
            "        for (word i = 0; i < m; i++) {",
            "            if (now && (step % 8 == 0 || now[i] > 0)) scaled |= rescale(all, "
            f"widths, {S}, i, step % 8 == 0, grad + i * P, now + i, factor + i);",
            "            real* const g = cur0 + i * P;",
            "            const real* const o = grad + i * P;",
            "            if (now && now[i] != 0)",
            "                for (word u = 0; u < P; u++) g[u] += times(o[u], now[i]);",
            "            else",
            "                for (word u = 0; u < P; u++) g[u] += o[u];",
            f"            if ({b['place']} == 2)",
            f"                for (int k = 0; k < {S}; k++)",
            "                    clip(all[k] + i * widths[k], widths[k], "
            f"{b['by']}, {self._bound()});",
            "            if (now && now[i]) ex[spot + i] = now[i];",
            *(
                (
                    "            real* const y = seen_h + (here + i) * LEAD(P);",
                    "            memcpy(y, g, P * sizeof(real));",
                    "            unscale(y, P, now ? now[i] : 0);",
                    f"            wide_rows[here + i] = {b.pointer('wide')} + (at + i) * H;",
                )
                if self.projects
                else ()
            ),
            "        }",
            *(
                ("        joint(&team, H, P, cur0, P, hrp, 0, w_wide, H);",)
                if self.projects
                else ()
            ),
        ]

    def _bound(self) -> str:
        return f"(real)as_double({self.b['bound']})"

    def _stages(self, G: int, S: int) -> list[str]:
        """Stages and products from the last to the first."""
        assigned: set[str] = set()
        lines: list[str] = []
        for level in reversed(range(len(self.program.stages))):
            if level < len(self.program.products):
                for item in self.program.products[level]:
                    lines += self._product(item, assigned)
            stage = self.program.stages[level]
            if stage:
                lines += self._backward_stage(level, stage, G, S, assigned)
        for k, gate in enumerate(self.cell.gates):
            if f"x.{gate}" not in assigned:
                lines.append(
                    f"        for (word i = 0; i < m; i++) memset(px + i * LEAD({G} * H) + {k} * H,"
                    " 0, H * sizeof(real));"
                )
        for k, name in enumerate(self.cell.states):
            if f"s.{name}" not in assigned:
                width = self._widths()[k]
                lines.append(f"        memset(new{k}, 0, m * {width} * sizeof(real));")
        return lines

    def _product(self, item: Product, assigned: set[str]) -> list[str]:
        b, i = self.b, self.products.index(item)
        n = len(item.gates)
        k = self._width(item.argument)
        target = (
            f"new{self.cell.states.index(item.argument[2:])}"
            if item.argument.startswith("s.")
            else f"w_{item.argument}"
        )
        beta = 1 if item.argument in assigned else 0
        assigned.add(item.argument)
        return [
            f"        if ({b['place']} == 3) for (word i = 0; i < m; i++)",
            f"            clip(q{i} + i * LEAD({n} * H), {n} * H, {b['by']}, {self._bound()});",
            *(
                ()
                if item.argument in self.ends
                else (
                    f"        joint(&team, {k}, {n} * H, q{i}, LEAD({n} * H), rp{i}, {beta}, "
                    f"{target}, {k});",
                )
            ),
        ]

    def _backward_stage(
        self, number: int, stage: Stage, G: int, S: int, assigned: set[str]
    ) -> list[str]:
        b = self.b
        crossing = self._crossing(stage)
        names = self._placeholders(stage.loop)
        loads: dict[str, str] = {}
        for index, (node, name) in enumerate(zip(names, crossing, strict=False)):
            if (number, index) in self.saved:
                loads[node] = self.places[number, index]
            else:
                loads[node] = self._load(b, name) if "." in name else "((real)H)"
        for node, name in zip(names[len(crossing) :], stage.outputs, strict=True):
            if name in self.program.results:
                loads[node] = f"g{self.program.results.index(name)}[u]"
            else:
                loads[node] = f"v_{name}[u]"
        stores: list[str | None] = []
        for name in stage.inputs:
            sign = "+=" if name in assigned and not name.startswith("u.") else "="
            stores.append(self._destination(name, sign))
            assigned.add(name)
        printer = StagePrinter(stage.loop, loads, stores)
        self.spills = max(self.spills, printer.spills)
        return [
            "        for (word b = 0; b < m; b++) {",
            f"            const real* const x = {b.pointer('xp')} + (at + b) * {G} * H;",
            f"            const real* const sv = {b.pointer('saved')}"
            f" + (at + b) * {self.beside} * H;",
            f"            real* const dx = px + b * LEAD({G} * H);",
            "            const real f = factor[b];",
            *(
                "            const real* const g0 = w_wide + b * H;"
                if k == 0 and self.projects
                else f"            const real* const g{k} = cur{k} + b * H;"
                for k in range(S)
            ),
            *(
                f"            real* const n{k} = new{k} + b * {width};"
                for k, width in enumerate(self._widths())
            ),
            *(
                f"            real* const y{i} = q{i} + b * LEAD({len(item.gates)} * H);"
                for i, item in enumerate(self.products)
            ),
            *(f"            real* const v_{n} = w_{n} + b * H;" for n in self._inside()),
            *self._noise_rows(b),
            "            const real* const xs = x;",
            "            (void)x; (void)xs; (void)sv; (void)f; (void)dx;",
            *printer.print(" " * 12),
            "        }",
        ]

    def _destination(self, name: str, sign: str) -> str | None:
        """Where the gradient of a stage's input goes."""
        kind, _, rest = name.partition(".")
        if rest and kind in ("k", "n"):
            return None  # no gradient is asked of these
        if kind == "x" and rest:
            return f"dx[{self.cell.gates.index(rest)} * H + u] {sign} {{0}};"
        if kind == "s" and rest:
            return f"n{self.cell.states.index(rest)}[u] {sign} {{0}};"
        if kind == "u" and rest:
            k = list(self.cell.per_unit).index(rest)
            return f"{self.b.pointer(f'du{k}', False)}[thread * H + u] += {{0}} * f;"
        for i, item in enumerate(self.products):
            if name in item.outputs:
                if self.shared[i]:
                    return None  # the very same number stands in dx already
                return f"y{i}[{item.outputs.index(name)} * H + u] {sign} {{0}};"
        return f"v_{name}[u] {sign} {{0}};"

    def _leave(self, G: int, S: int) -> list[str]:
        """Write down what enters the weight products, and carry the rest on."""
        b, width = self.b, 2 * S + G
        rows = [f"cur{k} + i * {w}" for k, w in enumerate(self._widths())]
        rows += [f"px + i * LEAD({G} * H) + {k} * H" for k in range(G)]
        alone = [i for i, shared in enumerate(self.shared) if not shared]
        lines = []
        if not any(self.shared):
            lines += [
                f"        if ({b['place']} == 3) for (word i = 0; i < m; i++)",
                f"            clip(px + i * LEAD({G} * H), {G} * H, {b['by']}, {self._bound()});",
            ]
        lines += [
            "        for (word i = 0; i < m; i++) {",
            f"            if (record) {{ const real* const seen_rows[] = {{{', '.join(rows)}}};",
            f"                look({S} + {G}, {S}, seen_rows, wide_as, record + i * {width},",
            f"                     record + i * {width} + {S} + {G}); }}",
            f"            unscale(px + i * LEAD({G} * H), {G} * H, now ? now[i] : 0);",
            f"            if ({b['pre']}) memcpy({b.pointer('pre', False)} + (at + i) * {G} * H,",
            f"                    px + i * LEAD({G} * H), {G} * H * sizeof(real));",
            f"            x_rows[here + i] = {b.pointer('x')} + (at + i) * I;",
            f"            if ({b['dx']})",
            f"                dx_rows[here + i] = {b.pointer('dx', False)} + (at + i) * I;",
            f"            h_rows[here + i] = before(&sp, t, i, P, {b.pointer('hidden')}, "
            f"{b.pointer('h0')});",
        ]
        for i in alone:
            n = len(self.products[i].gates)
            lines.append(
                f"            unscale(q{i} + i * LEAD({n} * H), {n} * H, now ? now[i] : 0);"
            )
        for i in self._others():
            lines.append(f"            k_rows{i}[here + i] = {b.pointer(f'k{i}')} + (at + i) * H;")
        lines += ["        }", "        filled += team.rows;", "        slot += m;"]
        for k, width in enumerate(self._widths()):
            lines += [
                f"        if ({b['place']} == 1) for (word i = 0; i < m; i++)",
                f"            clip(new{k} + i * {width}, {width}, {b['by']}, {self._bound()});",
                f"        memcpy(cur{k}, new{k}, m * {width} * sizeof(real));",
            ]
        return lines

    def _others(self) -> list[int]:
        """Products of something else than h."""
        name = f"s.{self.cell.states[0]}"
        return [i for i, item in enumerate(self.products) if item.argument != name]

    def _outputs(self) -> list[tuple[str, str]]:
        """What all rows add to: gradients of weights and biases, and their sizes."""
        G = len(self.cell.gates)
        found = [("dw", f"{G} * H * I"), ("db", f"{G} * H")]
        for i, item in enumerate(self.products):
            n = len(item.gates)
            found += [
                (f"dr{i}", f"{n} * H * {self._width(item.argument)}"),
                (f"dbr{i}", f"{n} * H"),
            ]
        return found + ([("dhr", "P * H")] if self.projects else [])

    def _backward_rooms(self) -> Rooms:
        G = len(self.cell.gates)
        apart = [
            Room(f"{name}_apart", f"(together ? 0 : threads - 1) * ({n})")
            for name, n in self._outputs()
        ]
        joint = [
            self._rows(f"{name}{k}", width)
            for k, width in enumerate(self._widths())
            for name in ("cur", "new")
        ]
        joint += [self._rows(f"w_{name}", "H") for name in self._inside()]
        joint.append(Room("seen", f"cap * LEAD({G} * H)"))
        joint += [Room("seen_h", "cap * LEAD(P)")] if self.projects else []
        joint += [
            Room(f"seen{i}", f"cap * LEAD({len(item.gates)} * H)")
            for i, item in enumerate(self.products)
            if not self.shared[i]
        ]
        widest = max([G, *(len(item.gates) for item in self.products)])
        lists = ["x_rows", "h_rows", *(f"k_rows{i}" for i in self._others())]
        lists += ["wide_rows"] if self.projects else []
        joint += [
            Room("dx_rows", "2 * cap", "real*"),
            *(Room(name, "2 * cap", "const real*") for name in lists),
        ]
        own = [
            Room("factor", "most"),
            Room("spill", f"{self.spills} * H"),
            Room("left", f"cap * UP({widest} * H, MR)"),
            Room("right", "cap * UP(MOST(H, I), NR)"),
        ]
        return Rooms(self._panels(False) + apart, joint, own)

    def _backward_packs(self) -> list[tuple[str, str]]:
        b, G = self.b, len(self.cell.gates)
        w = b.pointer("w")
        packs = [
            (f"{b['dx']} && I > FEW", f"pack({G} * H, I, {w}, I, 1, wp"),
            (f"{b['dx']} && I <= FEW", f"lay({G} * H, I, {w}, wp"),
        ]
        for i, item in enumerate(self.products):
            n, k = len(item.gates), self._width(item.argument)
            packs.append(("1", f"pack({n} * H, {k}, {b.pointer(f'r{i}')}, {k}, 1, rp{i}"))
        if self.projects:
            packs.append(("1", f"pack(P, H, {b.pointer('hr')}, H, 1, hrp"))
        packs.append((b["exponents"], f"clear((int32_t*){b['exponents']}, {b['N']}"))
        return packs

    def _collected(self) -> list[str]:
        """Where this thread adds up the gradients of weights: the first one in their place."""
        lines = ["    word filled = 0, add = 0;"]
        for name, size in self._outputs():
            lines.append(
                f"    real* const {name} = !{self.b[name]} ? 0 : thread && !together ? "
                f"{name}_apart + (thread - 1) * {size} : {self.b.pointer(name, False)};"
            )
        return lines

    def _settle(self) -> list[str]:
        """Multiply what has been seen."""
        b, G = self.b, len(self.cell.gates)
        lines = [
            f"            const int ready = settle_input(&team, filled, {G} * H, seen, left, "
            f"right, I, x_rows, dw, db, {b['dx']} ? wp : 0, dx_rows, add);",
            "            (void)ready;",
        ]
        for i, item in enumerate(self.products):
            n = len(item.gates)
            rows = f"k_rows{i}" if i in self._others() else "h_rows"
            seen, ready = ("seen", "ready") if self.shared[i] else (f"seen{i}", "0")
            lines.append(
                f"            settle_recurrent(&team, filled, {n} * H, {seen}, left, right, "
                f"{self._width(item.argument)}, {rows}, dr{i}, dbr{i}, add, {ready});"
            )
        if self.projects:
            lines.append(
                "            settle_recurrent(&team, filled, P, seen_h, left, right, H, wide_rows, "
                "dhr, 0, add, 0);"
            )
        return lines

    def _join(self) -> list[str]:
        b = self.b
        head = prepare("backward", b.words(), self._backward_rooms().shared, ())
        head[0] = "static void backward_join(const word* a, word thread) {"
        return [
            *head[:-1],
            *(
                f"    join({b.pointer(name, False)}, {name}_apart, {size}, "
                f"{size}, thread, threads);"
                for name, size in self._outputs()
            ),
            "}",
        ]

    # ---- the whole ------------------------------------------------------------------------

    def printed(self) -> Printed:
        f, b = self.f, self.b
        _ = self._forward(), self._backward()  # once before: what they spill needs room
        forward, backward = self._forward_rooms(), self._backward_rooms()
        # The two ways can be compiled side by side, HALF being 1 or 2; without it both are there.
        ways = [
            "#if HALF != 2",
            *self._forward(),
            *prepare("forward", f.words(), forward.shared, self._forward_packs()),
            *room_function("forward", f.words(), forward),
            *entry("forward", f.words(), f"!{f['packed']}"),
            "#endif",
            "#if HALF != 1",
            *self._backward(),
            *prepare("backward", b.words(), backward.shared, self._backward_packs()),
            *self._join(),
            *room_function("backward", b.words(), backward),
            *entry("backward", b.words(), "1", f"{b['threads']} > 1 && !{b['together']}"),
            "#endif",
        ]
        text = "\n".join([preamble(self.dtype, self.exact), functions(), LOOP, *ways, ""])
        kinds = (self.constants, self.noise)
        return Printed(text, f, b, self.beside, *kinds, self.products, self.shared)


LOOP = r"""
static inline double as_double(word bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
/* a number times a power of two, in two halves: one factor could itself leave the range */
static inline int held(int e) {
    const int most = sizeof(real) == 4 ? 126 : 1022;
    return e > most ? most : (e < -most ? -most : e);
}
static inline real times(real x, int e) {
    const int h = e >> 1;
    return x * r_ldexp(1, held(h)) * r_ldexp(1, held(e - h));
}
static int rescale(real* const* all, const word* widths, int states, word row, int look,
                   const real* outside, int32_t* now, real* factor) {
    int move = 0;
    if (look) {
        real top = 0;
        for (int k = 0; k < states; k++) {
            const real* const g = all[k] + row * widths[k];
#pragma omp simd reduction(max:top)
            for (word u = 0; u < widths[k]; u++) top = r_abs(g[u]) > top ? r_abs(g[u]) : top;
        }
        if (top > 0 && top <= (real)(sizeof(real) == 4 ? 3.4e38 : 1.7e308)) {
            int binary;
            (void)frexp((double)top, &binary);
            if (binary > 40 || binary < -40) move = -binary;
        }
    }
    if (now[0] + move > 0) { /* scaled up: brought back where something comes from outside */
        int enters = 0;
        for (word u = 0; u < widths[0]; u++) enters |= outside[u] != 0;
        if (enters) move = -now[0];
    }
    if (move) {
        for (int k = 0; k < states; k++)
            for (word u = 0; u < widths[k]; u++)
                all[k][row * widths[k] + u] = times(all[k][row * widths[k] + u], move);
        now[0] += move;
        *factor = times(1, -now[0]);
    }
    return now[0] != 0 || move != 0;
}
static void clip(real* g, word n, word by, real bound) {
    if (by == 0) {
        for (word u = 0; u < n; u++) {
            const real v = g[u];
            g[u] = v > bound ? bound : (v < -bound ? -bound : v);
        }
        return;
    }
    double sum = 0;
#pragma omp simd reduction(+:sum)
    for (word u = 0; u < n; u++) sum += (double)g[u] * (double)g[u];
    if (!(sum <= (double)bound * (double)bound)) { /* a NaN goes in here and comes out */
        const real s = (real)((double)bound / sqrt(sum));
        for (word u = 0; u < n; u++) g[u] *= s;
    }
}
/* ---- the squares' sum of a row, and how many of its values are not finite ---- */
INLINE quad squares(const real* g, word n) {
    vec s = {0}, z = {0};
    word u = 0;
    for (; u + 2 * VL <= n; u += 2 * VL) {
        const vec a = *(const vec*)(g + u), b = *(const vec*)(g + u + VL);
        s += a * a;
        z += b * b;
    }
    const vec all = s + z;
    quad sum = VL < 4 ? (quad){all[0], all[1], 0, 0} : ((const quad*)&all)[0];
    if (VL > 4) sum += ((const quad*)&all)[1];
    if (VL > 8) sum += ((const quad*)&all)[2] + ((const quad*)&all)[3];
    for (; u < n; u++) sum[0] += g[u] * g[u];
    return sum;
}
INLINE quad sums_of(quad a, quad b, quad c, quad d) {
#ifdef MIX
    const quad ab = MIX(a, b, 0, 4, 1, 5) + MIX(a, b, 2, 6, 3, 7);
    const quad cd = MIX(c, d, 0, 4, 1, 5) + MIX(c, d, 2, 6, 3, 7);
    return MIX(ab, cd, 0, 1, 4, 5) + MIX(ab, cd, 2, 3, 6, 7);
#else
    return (quad){a[0] + a[1] + a[2] + a[3], b[0] + b[1] + b[2] + b[3], c[0] + c[1] + c[2] + c[3],
                  d[0] + d[1] + d[2] + d[3]};
#endif
}
ALONE look_closely(const real* g, word n, double* square, double* bad) {
    double sum = 0;
    word count = 0;
#pragma omp simd reduction(+:sum)
    for (word u = 0; u < n; u++) sum += (double)g[u] * (double)g[u];
    *square = sum;
    if (bad && !(sum <= 1.7e308)) {
        for (word u = 0; u < n; u++) count += !(g[u] - g[u] == 0);
        *bad = (double)count;
    }
}
/* of `count` rows; of the first `states` also how many values are not finite. Four at a time: a sum
   across one vector costs as much as across four. */
INLINE void look(const int count, const int states, const real* const* g, const word* n,
                 double* square, double* bad) {
    const real most = sizeof(real) == 4 ? 1e28 : 1e290; /* beyond, squares leave their range */
    for (int k = 0; k < states; k++) bad[k] = 0;
    for (int k = 0; k < count; k += 4) {
        const int left = count - k < 4 ? count - k : 4;
        quad q[4];
        for (int i = 0; i < 4; i++) q[i] = i < left ? squares(g[k + i], n[k + i]) : q[0];
        const quad sum = sums_of(q[0], q[1], q[2], q[3]);
        for (int i = 0; i < left; i++) square[k + i] = sum[i];
        const __typeof__(sum > 0) fine = (sum > 1 / most) & (sum < most);  /* -1 where so */
        if (__builtin_expect(fine[0] & fine[1] & fine[2] & fine[3], 1)) continue;
        for (int i = k; i < k + left; i++)
            look_closely(g[i], n[i], square + i, i < states ? bad + i : 0);
    }
}
static void clear(int32_t* to, word n, word part, word parts) {
    memset(to + n * part / parts, 0, (n * (part + 1) / parts - n * part / parts) * sizeof *to);
}
static void unscale(real* g, word n, int e) {
    if (e)
        for (word u = 0; u < n; u++) g[u] = times(g[u], -e);
}
"""
