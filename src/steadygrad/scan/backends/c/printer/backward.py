"""The backward loop of a cell, one thread's part of it as C."""

from steadygrad.scan.backends.c.printer.entry import Room, Rooms, part_head
from steadygrad.scan.backends.c.printer.plan import Plan, own_rows, placeholders
from steadygrad.scan.backends.c.printer.stage import StagePrinter
from steadygrad.scan.backends.c.printer.weight_grads import WeightGradsPrinter
from steadygrad.scan.ir.trace import Product, Stage


class BackwardPrinter:
    """Prints the backward loop of a plan, with its taps and clips.

    Attributes:
        weights: Prints what becomes of the gradients that enter weight products.
        spills: Rows of scratch that the stages need for values which a later loop reads again.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.words = plan, plan.backward_words
        self.weights = WeightGradsPrinter(plan)
        self.spills = 0
        self._steps = self._stages()

    def rooms(self) -> Rooms:
        """Scratch memory."""
        plan = self.plan
        joint = [
            own_rows(f"{name}{k}", width)
            for k, width in enumerate(plan.widths)
            for name in ("cur", "new")
        ]
        joint += [own_rows(f"w_{name}", "H") for name in plan.inside]
        own = [Room("factor", "most"), Room("spill", f"{self.spills} * H")]
        shared = plan.panels(False) + self.weights.apart()
        return Rooms(shared, joint + self.weights.joint_rooms(), own + self.weights.own_rooms())

    def part(self) -> list[str]:
        """The function that one thread runs."""
        plan, b, weights = self.plan, self.words, self.weights
        G, S = len(plan.cell.gates), len(plan.cell.states)
        lines = [
            *part_head("backward", b.words(), self.rooms()),
            "    const span everybody = together ? all_rows(&sp) : sp;",
            *(
                f"    load_gradient(rows * {width}, {b.pointer(f'g{k}')}, from * {width}, cur{k});"
                for k, width in enumerate(plan.widths)
            ),
            f"    const word widths[] = {{{', '.join(plan.widths)}}};",
            f"    const word wide_as[] = {{{', '.join([*plan.widths, *['H'] * G])}}};",
            f"    const word leads[] = {{{', '.join([*plan.widths, *[f'LEAD({G} * H)'] * G])}}};",
            *weights.sums(),
            f"    const uint8_t* const resets = (const uint8_t*){b['resets']};",
            "    int scaled = 0;",
            "    const double* last = 0;  /* records of the step before */",
            "    word last_rows = 0, last_fours = 0;",
            "    word slot = rows_before(&sp);  /* records of a thread stand together */",
            "    for (word i = 0; i < rows; i++) factor[i] = 1;",
            # A clip compares true values, so rows cannot be scaled under it.
            f"    int32_t* const ex = {b['records']} && !{b['place']} ? {weights.exponents()} : 0;",
            f"    int32_t* const now = ex ? ex + {weights.count()} + from : 0;",
            "    if (now) memset(now, 0, rows * sizeof(int32_t));",
            "    for (word step = 0;; step++) {",
            "        const word t = step_of(&sp, T - 1 - step);",
            "        const word m = step < T ? rows_at(&sp, t) : 0;",
            "        team.rows = step < T ? rows_at(&everybody, t) : 0;",
            "        if (step < T ? filled + team.rows > cap : filled || !add) {",
            "            wait_for_all(&team);",
            *weights.multiply(),
            "            wait_for_all(&team);",
            "            filled = 0;",
            "            add = 1;",
            "        }",
            "        if (step == T) break;",
            "        const word at = place_of(&sp, t);",
            f"        const real* const grad = {b.pointer('grad')} + at * P;",
            "        const word spot = together ? at : slot, fours = together ? 0 : m / 4 * 4;",
            f"        double* const record = {b['records']} ? (double*){b['records']} + "
            f"spot * {S + G} : 0;",
            "        const word here = filled + skip;",
            f"        real* const px = g_rows + here * LEAD({G} * H);",
            *(
                f"        real* const q{i} = "
                + ("px;" if plan.shared[i] else f"g_rows{i} + here * LEAD({len(p.gates)} * H);")
                for i, p in enumerate(plan.products)
            ),
        ]
        lines += self._enter(G, S)
        lines += self._steps
        lines += self._leave(G, S)
        lines.append("    }")
        lines += [
            f"    copy_share(&team, {len(item.gates)} * H, db, dbr{i});"
            for i, item in enumerate(plan.products)
            if plan.shared[i]
        ]
        for k, width in enumerate(plan.widths):
            lines += [
                f"    for (word i = 0; {b[f'd{k}']} && i < rows; i++)",
                f"    for (word u = 0; u < {width}; u++)",
                f"        {b.pointer(f'd{k}', False)}[(from + i) * {width} + u] = scaled ? "
                f"times_power(cur{k}[i * {width} + u], -now[i]) : cur{k}[i * {width} + u];",
            ]
        return [*lines, "}"]

    def _enter(self, G: int, S: int) -> list[str]:
        """The gradient from outside, scales, the total clip, and the taps."""
        plan, b = self.plan, self.words
        states = ", ".join(f"cur{k}" for k in range(S))
        return [
            f"        real* const all[] = {{{states}}};",
            "        const int far = now && step % 8 == 0 &&",
            "            (m > last_rows ||"
            f" may_need_rescaling(last, {S + G}, {S}, m, last_fours));",
            "        for (word i = 0; (far || scaled) && i < m; i++)",
            "            if (far || now[i] > 0) scaled |= rescale(all, "
            f"widths, {S}, i, far, grad + i * P, now + i, factor + i);",
            "        if (!scaled) for (word u = 0; u < m * P; u++) cur0[u] += grad[u];",
            "        else for (word i = 0; i < m; i++) {",
            "            ex[spot + i] = now[i];",
            "            for (word u = 0; u < P; u++)",
            "                cur0[i * P + u] += times_power(grad[i * P + u], now[i]);",
            "        }",
            f"        if ({b['place']} == 2)",
            f"            for (word i = 0; i < m; i++) for (int k = 0; k < {S}; k++)",
            f"                clip(all[k] + i * widths[k], widths[k], {b['by']}, {self._bound});",
            *(
                (
                    "        for (word i = 0; i < m; i++) {",
                    "            real* const y = g_rows_h + (here + i) * LEAD(P);",
                    "            memcpy(y, cur0 + i * P, P * sizeof(real));",
                    "            unscale(y, P, scaled ? now[i] : 0);",
                    f"            wide_rows[here + i] = {b.pointer('wide')} + (at + i) * H;",
                    "        }",
                )
                if plan.projects
                else ()
            ),
            *(
                ("        team_product(&team, H, P, cur0, P, hrp, 0, w_wide, H);",)
                if plan.projects
                else ()
            ),
        ]

    def _stages(self) -> list[str]:
        """Stages and products from the last to the first."""
        plan, G = self.plan, len(self.plan.cell.gates)
        assigned: set[str] = set()
        lines: list[str] = []
        for level in reversed(range(len(plan.program.stages))):
            if level < len(plan.program.products):
                for item in plan.program.products[level]:
                    lines += self._product(item, assigned)
            stage = plan.program.stages[level]
            if stage:
                lines += self._stage(level, stage, assigned)
        for k, gate in enumerate(plan.cell.gates):
            if f"x.{gate}" not in assigned:
                lines.append(
                    f"        for (word i = 0; i < m; i++) memset(px + i * LEAD({G} * H) + {k} * H,"
                    " 0, H * sizeof(real));"
                )
        for k, name in enumerate(plan.cell.states):
            if f"s.{name}" not in assigned:
                width = plan.widths[k]
                lines.append(f"        memset(new{k}, 0, m * {width} * sizeof(real));")
        return lines

    def _product(self, item: Product, assigned: set[str]) -> list[str]:
        plan, b, i = self.plan, self.words, self.plan.products.index(item)
        n = len(item.gates)
        k = plan.width(item.argument)
        target = (
            f"new{plan.cell.states.index(item.argument[2:])}"
            if item.argument.startswith("s.")
            else f"w_{item.argument}"
        )
        beta = 1 if item.argument in assigned else 0
        assigned.add(item.argument)
        return [
            f"        if ({b['place']} == 3) for (word i = 0; i < m; i++)",
            f"            clip(q{i} + i * LEAD({n} * H), {n} * H, {b['by']}, {self._bound});",
            *(
                ()
                if item.argument in plan.ends
                else (
                    f"        if ({self._is_needed(item)}) {{ if ({self.weights.direct})",
                    f"            team_sums(&team, {k}, {n} * H, q{i}, LEAD({n} * H), "
                    f"{b.pointer(f'r{i}')}, {beta}, {target}, {k});",
                    f"        else team_product(&team, {k}, {n} * H, q{i}, LEAD({n} * H), rp{i}, "
                    f"{beta}, {target}, {k}); }}",
                )
            ),
        ]

    def _is_needed(self, item: Product) -> str:
        """C condition: somebody reads what this product sends back at this step."""
        if not item.argument.startswith("s."):
            return "1"
        count = range(len(self.plan.cell.states))
        readers = " || ".join(self.words[f"{word}{k}"] for word in ("d", "dstart") for k in count)
        return f"step + 1 < T || {readers}"

    def _stage(self, number: int, stage: Stage, assigned: set[str]) -> list[str]:
        plan, b = self.plan, self.words
        G, S = len(plan.cell.gates), len(plan.cell.states)
        crossing = plan.crossing(stage)
        names = placeholders(stage.loop)
        loads: dict[str, str] = {}
        for index, (node, name) in enumerate(zip(names, crossing, strict=False)):
            if (number, index) in plan.saved:
                loads[node] = plan.places[number, index]
            else:
                loads[node] = plan.load(b, name) if "." in name else "((real)H)"
        for node, name in zip(names[len(crossing) :], stage.outputs, strict=True):
            if name in plan.program.results:
                loads[node] = f"g{plan.program.results.index(name)}[u]"
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
            f" + (at + b) * {plan.beside} * H;",
            f"            real* const dx = px + b * LEAD({G} * H);",
            "            const real f = factor[b];",
            *(
                "            const real* const g0 = w_wide + b * H;"
                if k == 0 and plan.projects
                else f"            const real* const g{k} = cur{k} + b * H;"
                for k in range(S)
            ),
            *(
                f"            real* const n{k} = new{k} + b * {width};"
                for k, width in enumerate(plan.widths)
            ),
            *(
                f"            real* const y{i} = q{i} + b * LEAD({len(item.gates)} * H);"
                for i, item in enumerate(plan.products)
            ),
            *(f"            real* const v_{n} = w_{n} + b * H;" for n in plan.inside),
            *plan.noise_rows(b),
            "            const real* const xs = x;",
            "            (void)x; (void)xs; (void)sv; (void)f; (void)dx;",
            *printer.print(" " * 12),
            "        }",
        ]

    def _leave(self, G: int, S: int) -> list[str]:
        """Write down what enters the weight products, and carry the rest on."""
        plan, b = self.plan, self.words
        firsts = [*(f"cur{k}" for k in range(S)), *(f"px + {k} * H" for k in range(G))]
        alone = [i for i, shared in enumerate(plan.shared) if not shared]
        lines = []
        if not any(plan.shared):
            lines += [
                f"        if ({b['place']} == 3) for (word i = 0; i < m; i++)",
                f"            clip(px + i * LEAD({G} * H), {G} * H, {b['by']}, {self._bound});",
            ]
        lines += [
            "        if (record) {",
            f"            const real* const firsts[] = {{{', '.join(firsts)}}};",
            f"            record_squares(m, fours, {S + G}, {int(not plan.projects)}, firsts, "
            "leads, wide_as, record);",
            "        }",
            "        for (word i = 0; i < m; i++) {",
            f"            if (scaled) unscale(px + i * LEAD({G} * H), {G} * H, now[i]);",
            f"            if ({b['pre']}) memcpy({b.pointer('pre', False)} + (at + i) * {G} * H,",
            f"                    px + i * LEAD({G} * H), {G} * H * sizeof(real));",
            f"            x_rows[here + i] = {b.pointer('x')} + (at + i) * I;",
            f"            if ({b['dx']})",
            f"                dx_rows[here + i] = {b.pointer('dx', False)} + (at + i) * I;",
            f"            h_rows[here + i] = resets && resets[at + i] ? {b.pointer('start0')} : "
            f"state_before(&sp, t, i, P, {b.pointer('hidden')}, {b.pointer('h0')});",
        ]
        for i in alone:
            n = len(plan.products[i].gates)
            lines.append(
                f"            if (scaled) unscale(q{i} + i * LEAD({n} * H), {n} * H, now[i]);"
            )
        for i in plan.other_arguments:
            lines.append(f"            k_rows{i}[here + i] = {b.pointer(f'k{i}')} + (at + i) * H;")
        lines += [
            "        }",
            "        filled += team.rows;",
            "        slot += m;",
            "        last = record;",
            "        last_rows = m;",
            "        last_fours = fours;",
        ]
        for k, width in enumerate(plan.widths):
            lines += [
                f"        if ({b['place']} == 1) for (word i = 0; i < m; i++)",
                f"            clip(new{k} + i * {width}, {width}, {b['by']}, {self._bound});",
                f"        memcpy(cur{k}, new{k}, m * {width} * sizeof(real));",
            ]
        # A row that began anew: its gradient is that of the state it was set to, and ends here.
        # So does its scale, at which what comes next from outside could be flushed to zero.
        lines.append("        for (word i = 0; resets && i < m; i++) if (resets[at + i]) {")
        for k, width in enumerate(plan.widths):
            lines.append(
                f"            end_row({width}, scaled ? now[i] : 0, cur{k} + i * {width}, "
                f"{b[f'dstart{k}']} ? {b.pointer(f'dstart{k}', False)} + thread * {width} : 0);"
            )
        lines += [
            "            if (now) now[i] = 0;",
            "            factor[i] = 1;",
            "        }",
        ]
        return lines

    @property
    def _bound(self) -> str:
        return f"(real)as_double({self.words['bound']})"

    def _destination(self, name: str, sign: str) -> str | None:
        """Where the gradient of a stage's input goes."""
        plan = self.plan
        kind, _, rest = name.partition(".")
        if rest and kind in ("k", "n"):
            return None  # no gradient is asked of these
        if kind == "x" and rest:
            return f"dx[{plan.cell.gates.index(rest)} * H + u] {sign} {{0}};"
        if kind == "s" and rest:
            return f"n{plan.cell.states.index(rest)}[u] {sign} {{0}};"
        if kind == "u" and rest:
            k = list(plan.cell.per_unit).index(rest)
            return f"{self.words.pointer(f'du{k}', False)}[thread * H + u] += {{0}} * f;"
        for i, item in enumerate(plan.products):
            if name in item.outputs:
                if plan.shared[i]:
                    return None  # the very same number stands in dx already
                return f"y{i}[{item.outputs.index(name)} * H + u] {sign} {{0}};"
        return f"v_{name}[u] {sign} {{0}};"
