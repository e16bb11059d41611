"""The way back of a cell, one thread's part of it as C."""

from steadygrad.scan.backends.c.printer.entry import part_head
from steadygrad.scan.backends.c.printer.stage import StagePrinter
from steadygrad.scan.backends.c.printer.weight_grads import Gathered
from steadygrad.scan.ir.trace import Product, Stage


class Backward(Gathered):
    """Prints the backward loop, with its taps and clips."""

    def _backward(self) -> list[str]:
        b, G, S = self.b, len(self.cell.gates), len(self.cell.states)
        lines = [
            *part_head("backward", b.words(), self._backward_rooms()),
            "    const span everybody = together ? everyone(&sp) : sp;",
            *(
                f"    enter(rows * {width}, {b.pointer(f'g{k}')}, from * {width}, cur{k});"
                for k, width in enumerate(self._widths())
            ),
            f"    const word widths[] = {{{', '.join(self._widths())}}};",
            f"    const word wide_as[] = {{{', '.join([*self._widths(), *['H'] * G])}}};",
            "    const word leads[] = {"
            f"{', '.join([*self._widths(), *[f'LEAD({G} * H)'] * G])}}};",
            *self._collected(),
            "    int scaled = 0;",
            "    const double* last = 0;  /* records of the step before */",
            "    word last_rows = 0, last_fours = 0;",
            "    word slot = rows_before(&sp);  /* records of a thread stand together */",
            "    for (word i = 0; i < rows; i++) factor[i] = 1;",
            # A clip compares true values, so rows cannot be scaled under it.
            f"    int32_t* const ex = {b['seen']} && !{b['place']} ? {self._exponents()} : 0;",
            f"    int32_t* const now = ex ? ex + {self._count()} + from : 0;",
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
            "        const word spot = together ? at : slot, fours = together ? 0 : m / 4 * 4;",
            f"        double* const record = {b['seen']} ? (double*){b['seen']} + "
            f"spot * {S + G} : 0;",
            "        const word here = filled + skip;",
            f"        real* const px = seen + here * LEAD({G} * H);",
            *(
                f"        real* const q{i} = "
                + ("px;" if self.shared[i] else f"seen{i} + here * LEAD({len(p.gates)} * H);")
                for i, p in enumerate(self.products)
            ),
        ]
        lines += self._enter(G, S)
        lines += self._stages(G, S)
        lines += self._leave(G, S)
        lines.append("    }")
        lines += [
            f"    same(&team, {len(item.gates)} * H, db, dbr{i});"
            for i, item in enumerate(self.products)
            if self.shared[i]
        ]
        for k, width in enumerate(self._widths()):
            lines += [
                f"    for (word i = 0; {b[f'd{k}']} && i < rows; i++)",
                f"    for (word u = 0; u < {width}; u++)",
                f"        {b.pointer(f'd{k}', False)}[(from + i) * {width} + u] = scaled ? "
                f"times(cur{k}[i * {width} + u], -now[i]) : cur{k}[i * {width} + u];",
            ]
        return [*lines, "}"]

    def _enter(self, G: int, S: int) -> list[str]:
        """The gradient from outside, scales, the total clip, and the taps."""
        b = self.b
        states = ", ".join(f"cur{k}" for k in range(S))
        return [
            f"        real* const all[] = {{{states}}};",
            "        const int far = now && step % 8 == 0 &&",
            f"            (m > last_rows || strays(last, {S + G}, {S}, m, last_fours));",
            "        for (word i = 0; (far || scaled) && i < m; i++)",
            "            if (far || now[i] > 0) scaled |= rescale(all, "
            f"widths, {S}, i, far, grad + i * P, now + i, factor + i);",
            "        if (!scaled) for (word u = 0; u < m * P; u++) cur0[u] += grad[u];",
            "        else for (word i = 0; i < m; i++) {",
            "            ex[spot + i] = now[i];",
            "            for (word u = 0; u < P; u++)",
            "                cur0[i * P + u] += times(grad[i * P + u], now[i]);",
            "        }",
            f"        if ({b['place']} == 2)",
            f"            for (word i = 0; i < m; i++) for (int k = 0; k < {S}; k++)",
            f"                clip(all[k] + i * widths[k], widths[k], {b['by']}, {self._bound()});",
            *(
                (
                    "        for (word i = 0; i < m; i++) {",
                    "            real* const y = seen_h + (here + i) * LEAD(P);",
                    "            memcpy(y, cur0 + i * P, P * sizeof(real));",
                    "            unscale(y, P, scaled ? now[i] : 0);",
                    f"            wide_rows[here + i] = {b.pointer('wide')} + (at + i) * H;",
                    "        }",
                )
                if self.projects
                else ()
            ),
            *(
                ("        joint(&team, H, P, cur0, P, hrp, 0, w_wide, H);",)
                if self.projects
                else ()
            ),
        ]

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
