"""The forward loop of a cell, one thread's part of it as C."""

from steadygrad.scan.backends.c.printer.entry import Room, Rooms, part_head
from steadygrad.scan.backends.c.printer.plan import Plan, own_rows, placeholders
from steadygrad.scan.backends.c.printer.stage import StagePrinter
from steadygrad.scan.ir.trace import Product, Stage


class ForwardPrinter:
    """Prints the forward loop of a plan, with and without saving.

    Attributes:
        spills: Rows of scratch that the stages need for values which a later loop reads again.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.words = plan, plan.forward_words
        self.spills = 0
        self._stages = [
            self._stage(level, stage) if stage else []
            for level, stage in enumerate(plan.program.stages)
        ]

    def rooms(self) -> Rooms:
        """Scratch memory."""
        plan, G = self.plan, len(self.plan.cell.gates)
        joint = [own_rows(f"cur{k}", width) for k, width in enumerate(plan.widths)]
        joint += [own_rows(f"w_{name}", "H") for name in plan.inside]
        joint += [
            own_rows(f"out{i}", f"LEAD({len(item.gates)} * H)")
            for i, item in enumerate(plan.products)
        ]
        chunk = "(I ? MOST(LINES, most) : 0)"
        joint += [
            Room("lines", f"{chunk} * LEAD(I)"),
            Room("to", f"2 * {chunk}", "real*"),
            Room("short_xp", f"{chunk} * LEAD({G} * H)"),
        ]
        return Rooms(plan.panels(True), joint, [Room("spill", f"{self.spills} * H")])

    def packs(self) -> list[tuple[str, str]]:
        """Right factors to be packed before the loop: conditions, and calls without their end."""
        plan, f, G = self.plan, self.words, len(self.plan.cell.gates)
        packs = [
            (f"{f['x']} && !{self._direct('I')}", f"pack(I, {G} * H, {f.pointer('w')}, 1, I, wp")
        ]
        for i, item in enumerate(plan.products):
            n = len(item.gates)
            k = plan.width(item.argument)
            call = f"pack({k}, {n} * H, {f.pointer(f'r{i}')}, 1, {k}, rp{i}"
            packs.append((f"!{self._direct(k)}", call))
        if plan.projects:
            packs.append((f"!{self._direct('H')}", f"pack(H, P, {f.pointer('hr')}, 1, H, hrp"))
        return packs

    def _direct(self, k: str) -> str:
        """C condition: a weight of ``k`` columns is read as it is stored, by this call alone."""
        return f"(!{self.words['packed']} && is_direct(T, {self.words['B']}, {k}))"

    def no_packs(self) -> str:
        """C condition, of the words alone: nothing has to be packed."""
        plan, f = self.plan, self.words
        read = {f[plan.width(item.argument)] for item in plan.products}
        read |= {f["H"]} if plan.projects else set()
        ways = [f"(!{f['x']} || is_direct({f['T']}, {f['B']}, {f['I']}))"]
        ways += [f"is_direct({f['T']}, {f['B']}, {k})" for k in sorted(read)]
        return f"({f['packed']} == 1 || (!{f['packed']} && {' && '.join(ways)}))"

    def _product(self, n: str, k: str, argument: str, stored: str, packed: str, to: str) -> str:
        """One product of a step, its right factor as it is stored or packed."""
        return (
            f"        if ({self._direct(k)}) team_dots(&team, {n}, {k}, {argument}, {k}, {stored}, "
            f"{to}); else team_product(&team, {n}, {k}, {argument}, {k}, {packed}, 0, {to});"
        )

    def part(self) -> list[str]:
        """The function that one thread runs."""
        plan, f, G = self.plan, self.words, len(self.plan.cell.gates)
        lines = [
            *part_head("forward", f.words(), self.rooms()),
            "    const span everybody = together ? all_rows(&sp) : sp;",
            f"    const word keep = {f['keep']};",
            f"    const real* const input = {f.pointer('x')};",
            f"    const int chunked = input && !(keep && {int(plan.keeps_x)});  /* read once */",
            f"    const word x_lead = chunked ? LEAD({G} * H) : {G} * H;",
            "    word until = input ? 0 : T, done = 0;",
            *(
                f"    memcpy(cur{k}, {f.pointer(f's{k}')} + from * {width}, "
                f"rows * {width} * sizeof(real));"
                for k, width in enumerate(plan.widths)
            ),
            f"    const uint8_t* const resets = (const uint8_t*){f['resets']};",
            "    for (word step = 0; step < T; step++) {",
            "        const word t = step_of(&sp, step), m = rows_at(&sp, t);",
            "        const word at = place_of(&sp, t);",
            "        for (word i = 0; resets && i < m; i++) if (resets[at + i]) {",
            *(
                f"            memcpy(cur{k} + i * {width}, {f.pointer(f'start{k}')}, "
                f"{width} * sizeof(real));"
                for k, width in enumerate(plan.widths)
            ),
            "        }",
            "        team.rows = rows_at(&everybody, t);",
            "        if (step == until) {",
            f"            until = project(&team, &everybody, step, I, {G} * H, input, "
            f"{self._direct('I')} ? {f.pointer('w')} : wp, {self._direct('I')}, "
            f"{f.pointer('bias')},",
            f"                            chunked ? short_xp : {f.pointer('xp', False)}, !chunked,"
            " lines, to);",
            "            done = 0;",
            "        }",
            f"        real* const xt = chunked ? short_xp + (done + skip) * x_lead : "
            f"{f.pointer('xp', False)} + at * {G} * H;",
            "        done += team.rows;",
        ]
        for level, stage in enumerate(self._stages):
            lines += stage
            if level < len(plan.program.products):
                for item in plan.program.products[level]:
                    i = plan.products.index(item)
                    argument, k = self._argument(item), plan.width(item.argument)
                    n = f"{len(item.gates)} * H"
                    stored = f.pointer(f"r{i}")
                    lines.append(
                        self._product(n, k, argument, stored, f"rp{i}", f"out{i}, LEAD({n})")
                    )
                    if item.argument.startswith("s.") and argument != "cur0":
                        lines.append(
                            f"        if (keep) memcpy({f.pointer(f'k{i}', False)} + at * H, "
                            f"{argument}, m * H * sizeof(real));"
                        )
        if plan.projects:
            lines += [
                self._product("P", "H", "w_wide", f.pointer("hr"), "hrp", "cur0, P"),
                f"        memcpy({f.pointer('hidden', False)} + at * P, cur0, "
                "m * P * sizeof(real));",
                f"        if (keep) memcpy({f.pointer('wide', False)} + at * H, w_wide, "
                "m * H * sizeof(real));",
            ]
        lines.append("    }")
        for k, width in enumerate(plan.widths):
            lines.append(
                f"    memcpy({f.pointer(f'e{k}', False)} + from * {width}, cur{k}, "
                f"rows * {width} * sizeof(real));"
            )
        return [*lines, "}"]

    def _argument(self, item: Product) -> str:
        if item.argument.startswith("s."):
            return f"cur{self.plan.cell.states.index(item.argument[2:])}"
        return f"w_{item.argument}"

    def _keep_argument(self, name: str) -> str:
        """Also write down what a product multiplies, for the gradient of its matrix."""
        return "".join(
            f" {self.words.pointer(f'k{i}', False)}[(at + b) * H + u] = {{0}};"
            for i, item in enumerate(self.plan.products)
            if item.argument == name
        )

    def _stage(self, number: int, stage: Stage) -> list[str]:
        plan, f, G = self.plan, self.words, len(self.plan.cell.gates)
        crossing = plan.crossing(stage)
        stores: list[str | None] = []
        for name in stage.outputs:
            if name in plan.program.results:
                k = plan.program.results.index(name)
                store = "v_wide[u] = {0};" if k == 0 and plan.projects else f"c{k}[u] = {{0}};"
                is_h = k == 0 and not plan.projects
                stores.append(store + (" h[u] = {0};" if is_h else ""))
            else:
                stores.append(f"v_{name}[u] = {{0}};")
        plain = list(stores) + [None] * len(crossing)
        keeping = [
            store and store + self._keep_argument(name)
            for store, name in zip(stores, stage.outputs, strict=True)
        ]
        for index in range(len(crossing)):
            place = plan.places.get((number, index))
            keeping.append(None if place is None else f"{place} = {{0}};")
        loads = {
            node: plan.load(f, name)
            for node, name in zip(placeholders(stage.joint), stage.inputs, strict=True)
        }
        head = [
            "        for (word b = 0; b < m; b++) {",
            "            const real* const x = xt + b * x_lead;",
            f"            real* const h = {f.pointer('hidden', False)} + (at + b) * P;",
            *(
                f"            real* const c{k} = cur{k} + b * {width};"
                for k, width in enumerate(plan.widths)
            ),
            *(
                f"            const real* const p{i} = out{i} + b * LEAD({len(item.gates)} * H);"
                for i, item in enumerate(plan.products)
            ),
            *(f"            real* const v_{n} = w_{n} + b * H;" for n in plan.inside),
            *plan.noise_rows(f),
            "            (void)x; (void)h;",
        ]
        kept = [
            f"            real* const xs = {f.pointer('xp', False)} + (at + b) * {G} * H;",
            f"            real* const sv = {f.pointer('saved', False)}"
            f" + (at + b) * {plan.beside} * H;",
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
