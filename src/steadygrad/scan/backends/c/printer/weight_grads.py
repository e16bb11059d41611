"""What a step of the way back leaves behind: rows of gradients, multiplied many at a time."""

from steadygrad.scan.backends.c.printer.entry import Room, Rooms, prepare
from steadygrad.scan.backends.c.printer.values import Values


class Gathered(Values):
    """Prints how gradients of weights and of the input are gathered and summed."""

    def _leave(self, G: int, S: int) -> list[str]:
        """Write down what enters the weight products, and carry the rest on."""
        b = self.b
        firsts = [*(f"cur{k}" for k in range(S)), *(f"px + {k} * H" for k in range(G))]
        alone = [i for i, shared in enumerate(self.shared) if not shared]
        lines = []
        if not any(self.shared):
            lines += [
                f"        if ({b['place']} == 3) for (word i = 0; i < m; i++)",
                f"            clip(px + i * LEAD({G} * H), {G} * H, {b['by']}, {self._bound()});",
            ]
        lines += [
            "        if (record) {",
            f"            const real* const firsts[] = {{{', '.join(firsts)}}};",
            f"            look(m, fours, {S + G}, {int(not self.projects)}, firsts, leads, "
            "wide_as, record);",
            "        }",
            "        for (word i = 0; i < m; i++) {",
            f"            if (scaled) unscale(px + i * LEAD({G} * H), {G} * H, now[i]);",
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
                f"            if (scaled) unscale(q{i} + i * LEAD({n} * H), {n} * H, now[i]);"
            )
        for i in self._others():
            lines.append(f"            k_rows{i}[here + i] = {b.pointer(f'k{i}')} + (at + i) * H;")
        lines += [
            "        }",
            "        filled += team.rows;",
            "        slot += m;",
            "        last = record;",
            "        last_rows = m;",
            "        last_fours = fours;",
        ]
        for k, width in enumerate(self._widths()):
            lines += [
                f"        if ({b['place']} == 1) for (word i = 0; i < m; i++)",
                f"            clip(new{k} + i * {width}, {width}, {b['by']}, {self._bound()});",
                f"        memcpy(cur{k}, new{k}, m * {width} * sizeof(real));",
            ]
        return lines

    def _count(self) -> str:
        """Rows of all time steps."""
        sizes, offsets = (f"((const word*){self.b[name]})" for name in ("sizes", "offsets"))
        return f"({sizes} ? {offsets}[T - 1] + {sizes}[T - 1] : T * {self.b['B']})"

    def _exponents(self) -> str:
        """Where the exponents of all rows stand: behind the records."""
        width = len(self.cell.states) + len(self.cell.gates)
        return f"(int32_t*)((double*){self.b['seen']} + {self._count()} * {width})"

    def _bound(self) -> str:
        return f"(real)as_double({self.b['bound']})"

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
        packs.append((b["seen"], f"clear({self._exponents()}, {self._count()}"))
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
            bias = f"db ? 0 : dbr{i}" if self.shared[i] else f"dbr{i}"
            lines.append(
                f"            settle_recurrent(&team, filled, {n} * H, {seen}, left, right, "
                f"{self._width(item.argument)}, {rows}, dr{i}, {bias}, add, {ready});"
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
