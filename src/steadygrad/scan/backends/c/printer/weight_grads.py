"""Gradients of weights and of the input: rows of several steps are multiplied at once."""

from steadygrad.scan.backends.c.printer.entry import Room, prepare
from steadygrad.scan.backends.c.printer.plan import Plan


class WeightGradsPrinter:
    """Prints how gradients of weights and of the input are gathered and summed.

    A step of the backward loop writes rows: the gradients that enter the weight products, and
    pointers to what was multiplied. When as many rows as the cache holds have come together, they
    are multiplied; a product for every step would read and write all weights at every step.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.words = plan, plan.backward_words
        self.direct = f"is_direct(T, {self.words['B']}, H)"
        """C condition: weights are read as they are stored."""

    def count(self) -> str:
        """Rows of all time steps."""
        sizes, offsets = (f"((const word*){self.words[name]})" for name in ("sizes", "offsets"))
        return f"({sizes} ? {offsets}[T - 1] + {sizes}[T - 1] : T * {self.words['B']})"

    def exponents(self) -> str:
        """Where the exponents of all rows stand: behind the records."""
        width = len(self.plan.cell.states) + len(self.plan.cell.gates)
        return f"(int32_t*)((double*){self.words['records']} + {self.count()} * {width})"

    def outputs(self) -> list[tuple[str, str]]:
        """What all rows add to: gradients of weights and biases, and their sizes."""
        plan, G = self.plan, len(self.plan.cell.gates)
        found = [("dw", f"{G} * H * I"), ("db", f"{G} * H")]
        for i, item in enumerate(plan.products):
            n = len(item.gates)
            found += [
                (f"dr{i}", f"{n} * H * {plan.width(item.argument)}"),
                (f"dbr{i}", f"{n} * H"),
            ]
        return found + ([("dhr", "P * H")] if plan.projects else [])

    def apart(self) -> list[Room]:
        """Where all threads but the first add up, if each has rows of its own."""
        return [
            Room(f"{name}_apart", f"(together ? 0 : threads - 1) * ({n})")
            for name, n in self.outputs()
        ]

    def joint_rooms(self) -> list[Room]:
        """Rows of gradients, and pointers to what they are multiplied with."""
        plan, G = self.plan, len(self.plan.cell.gates)
        rooms = [Room("g_rows", f"cap * LEAD({G} * H)")]
        rooms += [Room("g_rows_h", "cap * LEAD(P)")] if plan.projects else []
        rooms += [
            Room(f"g_rows{i}", f"cap * LEAD({len(item.gates)} * H)")
            for i, item in enumerate(plan.products)
            if not plan.shared[i]
        ]
        lists = ["x_rows", "h_rows", *(f"k_rows{i}" for i in plan.other_arguments)]
        lists += ["wide_rows"] if plan.projects else []
        rooms.append(Room("dx_rows", "2 * cap", "real*"))
        return rooms + [Room(name, "2 * cap", "const real*") for name in lists]

    def own_rooms(self) -> list[Room]:
        """Both factors of a product of many rows, packed."""
        plan = self.plan
        widest = max([len(plan.cell.gates), *(len(item.gates) for item in plan.products)])
        return [
            Room("left", f"cap * UP({widest} * H, MR)"),
            Room("right", "cap * UP(MOST(H, I), NR)"),
        ]

    def packs(self) -> list[tuple[str, str]]:
        """Right factors to be packed before the loop: conditions, and calls without their end."""
        plan, b, G = self.plan, self.words, len(self.plan.cell.gates)
        w = b.pointer("w")
        packs = [
            (f"{b['dx']} && I > FEW && !{self.direct}", f"pack({G} * H, I, {w}, I, 1, wp"),
            (f"{b['dx']} && I <= FEW", f"transpose_few({G} * H, I, {w}, wp"),
        ]
        for i, item in enumerate(plan.products):
            n, k = len(item.gates), plan.width(item.argument)
            call = f"pack({n} * H, {k}, {b.pointer(f'r{i}')}, {k}, 1, rp{i}"
            packs.append((f"!{self.direct}", call))
        if plan.projects:
            packs.append(("1", f"pack(P, H, {b.pointer('hr')}, H, 1, hrp"))
        packs.append((b["records"], f"clear_share({self.exponents()}, {self.count()}"))
        return packs

    def sums(self) -> list[str]:
        """Where this thread adds up the gradients of weights: the first one in their place."""
        lines = ["    word filled = 0, add = 0;"]
        for name, size in self.outputs():
            lines.append(
                f"    real* const {name} = !{self.words[name]} ? 0 : thread && !together ? "
                f"{name}_apart + (thread - 1) * {size} : {self.words.pointer(name, False)};"
            )
        return lines

    def multiply(self) -> list[str]:
        """Multiply the rows that have come together."""
        plan, b, G = self.plan, self.words, len(self.plan.cell.gates)
        lines = [
            f"            const int ready = add_input_gradients(&team, filled, {G} * H, g_rows, "
            f"left, right, I, x_rows, dw, db, !{b['dx']} ? 0 : I > FEW && {self.direct} ? "
            f"{b.pointer('w')} : wp, {self.direct}, dx_rows, add);",
            "            (void)ready;",
        ]
        for i, item in enumerate(plan.products):
            n = len(item.gates)
            rows = f"k_rows{i}" if i in plan.other_arguments else "h_rows"
            rows_of_g, ready = ("g_rows", "ready") if plan.shared[i] else (f"g_rows{i}", "0")
            bias = f"db ? 0 : dbr{i}" if plan.shared[i] else f"dbr{i}"
            lines.append(
                f"            add_recurrent_gradients(&team, filled, {n} * H, {rows_of_g}, left, "
                f"right, {plan.width(item.argument)}, {rows}, dr{i}, {bias}, add, {ready});"
            )
        if plan.projects:
            lines.append(
                "            add_recurrent_gradients(&team, filled, P, g_rows_h, left, right, H, "
                "wide_rows, dhr, 0, add, 0);"
            )
        return lines

    def join(self) -> list[str]:
        """A function that adds what the other threads have found to what the first one has."""
        b = self.words
        head = prepare("backward", b.words(), self.plan.panels(False) + self.apart(), ())
        head[0] = "static void backward_add_shares(const word* a, word thread) {"
        return [
            *head[:-1],
            *(
                f"    add_shares({b.pointer(name, False)}, {name}_apart, {size}, "
                f"{size}, thread, threads);"
                for name, size in self.outputs()
            ),
            "}",
        ]
