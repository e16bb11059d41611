"""A whole cell as one C file: the forward and the backward loop over all time steps.

Arguments come as one array of 64-bit words, pointers and numbers alike; `Slots` gives each its
place, in the file and for the caller. Rows of the batch are split over threads for all time
steps: no thread ever waits for another.
"""

from dataclasses import dataclass

from steadygrad.cells import Cell
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
        forward_rows: Rows of scratch per row of the batch in the forward loop.
        backward_rows: The same in the backward loop.
        spills: Rows of scratch per thread for sums over units.
    """

    text: str
    forward: Slots
    backward: Slots
    beside: int
    constants: tuple[str, ...]
    noise: tuple[str, ...]
    products: tuple[Product, ...]
    shared: tuple[bool, ...]
    forward_rows: int
    backward_rows: int
    spills: int


HEAD = ("T", "B", "H", "threads", "reverse", "sizes", "offsets", "bounds")
TOOLS = ("parallel", "number", "work", "work_size")


def print_cell(cell: Cell, dtype: str, exact: bool, shared: tuple[bool, ...]) -> Printed:
    """Print ``cell`` for ``"float"`` or ``"double"``.

    Args:
        cell: The recurrence.
        dtype: C type of all values.
        exact: Use the system's functions instead of the vectorised ones.
        shared: Per product, whether its gradient is that of the projected input.

    Raises:
        Unprintable: The step holds something that has no line in `operations`.
    """
    return _File(cell, dtype, exact, shared).printed()


class _File:
    def __init__(self, cell: Cell, dtype: str, exact: bool, shared: tuple[bool, ...]) -> None:
        self.cell, self.program = cell, trace(cell)
        self.dtype, self.exact, self.shared = dtype, exact, shared
        self.products = tuple(p for level in self.program.products for p in level)
        self.made = {o for s in self.program.stages if s for o in s.outputs}
        if len(set(self.program.results)) != len(self.program.results) or not set(
            self.program.results
        ) <= set(self.made):
            raise Unprintable("a new state that is an old one, or the same as another")
        final = self.program.stages[-1]
        if final is None or not set(self.program.results) <= set(final.outputs):
            raise Unprintable("a state that is ready before the last stage")
        self.saved = self._saved()
        self.keeps_x = any(
            name.startswith("x.") for s in self.program.stages if s for name in self._crossing(s)
        )
        self.places = self._places()
        self.beside = sum(place.startswith("sv") for place in self.places.values())
        self.inner = [o for o in self.made if o not in self.program.results]
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
            *HEAD, "keep", "xp", "hidden", "saved",
            *(f"s{k}" for k in states), *(f"e{k}" for k in states),
            *(f"r{i}" for i in range(count)), *(f"b{i}" for i in range(count)),
            *(f"k{i}" for i in range(count)),
            *(f"u{k}" for k in units), *beside, *TOOLS,
        )  # fmt: skip
        self.b = Slots(
            *HEAD, "xp", "saved", "grad", "pre",
            *(f"g{k}" for k in states), *(f"d{k}" for k in states),
            *(f"r{i}" for i in range(count)), *(f"q{i}" for i in range(count)),
            *(f"u{k}" for k in units), *(f"du{k}" for k in units), *beside,
            "tapped", "squares", "bad", "gates", "exponents", "place", "by", "bound", *TOOLS,
        )  # fmt: skip

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
                    places[key] = f"x[{free.pop(0)} * H + u]"
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

    def _forward(self) -> list[str]:
        f, G, S = self.f, len(self.cell.gates), len(self.cell.states)
        lines = [
            "static void forward_part(const word* a, word thread) {",
            f"    const word H = {f['H']}, T = {f['T']}, keep = {f['keep']};",
            f"    const word from = ((const word*){f['bounds']})[thread];",
            f"    const word rows = ((const word*){f['bounds']})[thread + 1] - from;",
            f"    real* work = {f.pointer('work', False)} + thread * {f['work_size']};",
        ]
        for k in range(S):
            lines.append(f"    real* const cur{k} = work; work += rows * H;")
            lines.append(
                f"    memcpy(cur{k}, {f.pointer(f's{k}')} + from * H, rows * H * sizeof(real));"
            )
        for name in self.inner:
            lines.append(f"    real* const w_{name} = work; work += rows * H;")
        for i, item in enumerate(self.products):
            lines.append(f"    real* const out{i} = work; work += rows * {len(item.gates)} * H;")
        lines += [
            "    real* const spill = work;",
            "    (void)spill; (void)keep;",
            "    for (word step = 0; step < T; step++) {",
            f"        const word t = {f['reverse']} ? T - 1 - step : step;",
            f"        word m = ((const word*){f['sizes']})[t] - from;",
            "        m = m < 0 ? 0 : (m > rows ? rows : m);",
            f"        const word at = ((const word*){f['offsets']})[t] + from;",
        ]
        for level, stage in enumerate(self.program.stages):
            if stage:
                lines += self._forward_stage(level, stage, G, S)
            if level < len(self.program.products):
                for item in self.program.products[level]:
                    i = self.products.index(item)
                    argument = self._argument(item)
                    lines.append(
                        f"        product(m, {len(item.gates)} * H, H, {argument}, "
                        f"{f.pointer(f'r{i}')}, 0, out{i});"
                    )
        lines.append("    }")
        for k in range(S):
            lines.append(
                f"    memcpy({f.pointer(f'e{k}', False)} + from * H, cur{k}, "
                "rows * H * sizeof(real));"
            )
        return [*lines, "}"]

    def _argument(self, item: Product) -> str:
        if item.argument == f"s.{self.cell.states[0]}":
            return "cur0"
        if item.argument not in self.inner:
            raise Unprintable(f"a product of {item.argument}")
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
                store = f"c{k}[u] = {{0}};"
                stores.append(store + (" h[u] = {0};" if k == 0 else ""))
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
            f"            real* const x = {f.pointer('xp', False)} + (at + b) * {G} * H;",
            f"            real* const h = {f.pointer('hidden', False)} + (at + b) * H;",
            f"            real* const sv = {f.pointer('saved', False)}"
            f" + (at + b) * {self.beside} * H;",
            *(f"            real* const c{k} = cur{k} + b * H;" for k in range(S)),
            *(
                f"            const real* const p{i} = out{i} + b * {len(item.gates)} * H;"
                for i, item in enumerate(self.products)
            ),
            *(f"            real* const v_{n} = w_{n} + b * H;" for n in self.inner),
            *self._noise_rows(f),
            "            (void)x; (void)h; (void)sv;",
        ]
        lines = ["        if (keep) {"]
        for choice in (keeping, plain):
            printer = StagePrinter(stage.joint, loads, choice)
            self.spills = max(self.spills, printer.spills)
            lines += ["    " + h for h in head] + printer.print(" " * 16) + ["            }"]
            if choice is keeping:
                lines.append("        } else {")
        return [*lines, "        }"]

    # ---- backward -------------------------------------------------------------------------

    def _backward(self) -> list[str]:
        b, G, S = self.b, len(self.cell.gates), len(self.cell.states)
        lines = [
            "static void backward_part(const word* a, word thread) {",
            f"    const word H = {b['H']}, T = {b['T']};",
            f"    const word from = ((const word*){b['bounds']})[thread];",
            f"    const word rows = ((const word*){b['bounds']})[thread + 1] - from;",
            f"    real* work = {b.pointer('work', False)} + thread * {b['work_size']};",
        ]
        for k in range(S):
            lines += [
                f"    real* const cur{k} = work; work += rows * H;",
                f"    real* const new{k} = work; work += rows * H;",
                f"    memcpy(cur{k}, {b.pointer(f'g{k}')} + from * H, rows * H * sizeof(real));",
            ]
        for name in self.inner:
            lines.append(f"    real* const w_{name} = work; work += rows * H;")
        lines.append(f"    real* const px = work; work += rows * {G} * H;")
        for i, item in enumerate(self.products):
            if self.shared[i]:
                lines.append(f"    real* const q{i} = px;")
            else:
                lines.append(f"    real* const q{i} = work; work += rows * {len(item.gates)} * H;")
        lines += [
            "    real* const factor = work; work += rows;",
            "    real* const spill = work;",
            "    (void)spill;",
            "    int scaled = 0;",
            "    for (word i = 0; i < rows; i++) factor[i] = 1;",
            "    int32_t* const ex = (int32_t*)" + b["exponents"] + " ;",
            "    int32_t* const now = ex ? ex + " + f"{b['T']} * {b['B']} + from : 0;",
            "    for (word step = 0; step < T; step++) {",
            f"        const word t = {b['reverse']} ? step : T - 1 - step;",
            f"        word m = ((const word*){b['sizes']})[t] - from;",
            "        m = m < 0 ? 0 : (m > rows ? rows : m);",
            f"        const word at = ((const word*){b['offsets']})[t] + from;",
            f"        const real* const grad = {b.pointer('grad')} + at * H;",
        ]
        lines += self._enter(S)
        lines += self._stages(G, S)
        lines += self._leave(G, S)
        lines.append("    }")
        for k in range(S):
            lines += [
                "    for (word i = 0; i < rows; i++) for (word u = 0; u < H; u++)",
                f"        {b.pointer(f'd{k}', False)}[(from + i) * H + u] = "
                f"(scaled ? times(cur{k}[i * H + u], now ? -now[i] : 0) : cur{k}[i * H + u]);",
            ]
        return [*lines, "}"]

    def _enter(self, S: int) -> list[str]:
        """The gradient from outside, scales, the total clip, and the taps."""
        b = self.b
        states = ", ".join(f"cur{k}" for k in range(S))
        return [
            f"        real* const all[] = {{{states}}};",
            "        for (word i = 0; i < m; i++) {",
            "            if (now) scaled |= rescale(all, "
            f"{S}, i, H, step % 8 == 0, grad + i * H, now + i, factor + i);",
            "            real* const g = cur0 + i * H;",
            "            const real* const o = grad + i * H;",
            "            if (now && now[i] != 0)",
            "                for (word u = 0; u < H; u++) g[u] += times(o[u], now[i]);",
            "            else",
            "                for (word u = 0; u < H; u++) g[u] += o[u];",
            f"            if ({b['place']} == 2)",
            f"                for (int k = 0; k < {S}; k++)",
            f"                    clip(all[k] + i * H, H, {b['by']}, {self._bound()});",
            f"            if ({b['tapped']}) {{",
            f"                for (int k = 0; k < {S}; k++)",
            "                    look(all[k] + i * H, H,",
            f"                         (double*){b['squares']} + k * {b['B']} * T + at + i,",
            f"                         (word*){b['bad']} + k * {b['B']} * T + at + i);",
            "                if (now) ex[at + i] = now[i];",
            "            }",
            "        }",
        ]

    def _bound(self) -> str:
        return f"(real)*(const double*){self.b['bound']}"

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
        for gate in self.cell.gates:
            if f"x.{gate}" not in assigned:
                raise Unprintable(f"a gate that is not used, {gate}")
        for k, name in enumerate(self.cell.states):
            if f"s.{name}" not in assigned:
                lines.append(f"        memset(new{k}, 0, m * H * sizeof(real));")
        return lines

    def _product(self, item: Product, assigned: set[str]) -> list[str]:
        b, i = self.b, self.products.index(item)
        n = len(item.gates)
        for name in item.outputs:
            if name not in assigned:
                raise Unprintable("a product that is not used")
        target = (
            f"new{self.cell.states.index(item.argument[2:])}"
            if item.argument.startswith("s.")
            else f"w_{item.argument}"
        )
        beta = 1 if item.argument in assigned else 0
        assigned.add(item.argument)
        return [
            f"        if ({b['place']} == 3) for (word i = 0; i < m; i++)",
            f"            clip(q{i} + i * {n} * H, {n} * H, {b['by']}, {self._bound()});",
            f"        product(m, H, {n} * H, q{i}, {b.pointer(f'r{i}')}, {beta}, {target});",
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
                if name not in assigned:
                    raise Unprintable(f"a value that is not used, {name}")
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
            "            real* const dx = px + b * " + f"{G} * H;",
            "            const real f = factor[b];",
            *(f"            const real* const g{k} = cur{k} + b * H;" for k in range(S)),
            *(f"            real* const n{k} = new{k} + b * H;" for k in range(S)),
            *(
                f"            real* const y{i} = q{i} + b * {len(item.gates)} * H;"
                for i, item in enumerate(self.products)
            ),
            *(f"            real* const v_{n} = w_{n} + b * H;" for n in self.inner),
            *self._noise_rows(b),
            "            (void)x; (void)sv; (void)f; (void)dx;",
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
        b = self.b
        alone = [i for i, shared in enumerate(self.shared) if not shared]
        lines = []
        if not any(self.shared):
            lines += [
                f"        if ({b['place']} == 3) for (word i = 0; i < m; i++)",
                f"            clip(px + i * {G} * H, {G} * H, {b['by']}, {self._bound()});",
            ]
        lines += [
            "        for (word i = 0; i < m; i++) {",
            f"            if ({b['tapped']}) for (int k = 0; k < {G}; k++)",
            f"                look(px + (i * {G} + k) * H, H,",
            f"                     (double*){b['gates']} + k * {b['B']} * T + at + i, 0);",
            f"            put({b.pointer('pre', False)} + (at + i) * {G} * H, px + i * {G} * H, "
            f"{G} * H, now ? now[i] : 0);",
        ]
        for i in alone:
            n = len(self.products[i].gates)
            lines.append(
                f"            put({b.pointer(f'q{i}', False)} + (at + i) * {n} * H, "
                f"q{i} + i * {n} * H, {n} * H, now ? now[i] : 0);"
            )
        lines.append("        }")
        for k in range(S):
            lines += [
                f"        if ({b['place']} == 1) for (word i = 0; i < m; i++)",
                f"            clip(new{k} + i * H, H, {b['by']}, {self._bound()});",
                f"        memcpy(cur{k}, new{k}, m * H * sizeof(real));",
            ]
        return lines

    # ---- the whole ------------------------------------------------------------------------

    def printed(self) -> Printed:
        forward, backward = self._forward(), self._backward()
        entries = []
        for way, slots in (("forward", self.f), ("backward", self.b)):
            entries += [
                f"static void {way}_thread(void* p) {{",
                "    const word* const a = (const word*)p;",
                f"    {way}_part(a, ((number_t){slots['number']})());",
                "}",
                f"void steadygrad_{way}(const word* a) {{",
                f"    if ({slots['threads']} > 1) {{",
                f"        ((parallel_t){slots['parallel']})({way}_thread, (void*)a, "
                f"(unsigned){slots['threads']}, 0);",
                "        return;",
                "    }",
                f"    {way}_part(a, 0);",
                "}",
            ]
        text = "\n".join(
            [preamble(self.dtype, self.exact), LOOP, *forward, *backward, *entries, ""]
        )
        widths = [len(item.gates) for item in self.products]
        S = len(self.cell.states)
        return Printed(
            text,
            self.f,
            self.b,
            self.beside,
            self.constants,
            self.noise,
            self.products,
            self.shared,
            S + len(self.inner) + sum(widths),
            2 * S + len(self.inner) + len(self.cell.gates) + sum(widths) + 1,
            self.spills,
        )


LOOP = r"""
/* a number times a power of two, in two halves: one factor could itself leave the range */
static inline int held(int e) {
    const int most = sizeof(real) == 4 ? 126 : 1022;
    return e > most ? most : (e < -most ? -most : e);
}
static inline real times(real x, int e) {
    const int h = e >> 1;
    return x * r_ldexp(1, held(h)) * r_ldexp(1, held(e - h));
}
static int rescale(real* const* all, int states, word row, word H, int look, const real* outside,
                   int32_t* now, real* factor) {
    int move = 0;
    if (look) {
        real top = 0;
        for (int k = 0; k < states; k++)
            for (word u = 0; u < H; u++) {
                const real v = r_abs(all[k][row * H + u]);
                top = v > top ? v : top;
            }
        if (top > 0 && top <= (real)(sizeof(real) == 4 ? 3.4e38 : 1.7e308)) {
            int binary;
            (void)frexp((double)top, &binary);
            if (binary > 40 || binary < -40) move = -binary;
        }
    }
    if (now[0] + move > 0) { /* scaled up: brought back where something comes from outside */
        int enters = 0;
        for (word u = 0; u < H; u++) enters |= outside[u] != 0;
        if (enters) move = -now[0];
    }
    if (move) {
        for (int k = 0; k < states; k++)
            for (word u = 0; u < H; u++) all[k][row * H + u] = times(all[k][row * H + u], move);
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
static void look(const real* g, word n, double* square, word* bad) {
    double sum = 0;
#pragma omp simd reduction(+:sum)
    for (word u = 0; u < n; u++) sum += (double)g[u] * (double)g[u];
    *square = sum;
    if (bad) {
        word count = 0;
        if (!(sum <= 1.7e308))
            for (word u = 0; u < n; u++) count += !(g[u] - g[u] == 0);
        *bad = count;
    }
}
static void put(real* to, const real* from, word n, int e) {
    if (e == 0) { memcpy(to, from, n * sizeof(real)); return; }
    for (word u = 0; u < n; u++) to[u] = times(from[u], -e);
}
"""
