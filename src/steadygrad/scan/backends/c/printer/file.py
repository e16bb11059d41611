"""A whole cell as one C file: the forward and the backward loop over all time steps.

Arguments come as one array of 64-bit words, pointers and numbers alike; `Slots` gives each its
place, in the file and for the caller. Rows of the batch are split over threads for all time
steps: no thread ever waits for another. Or, where the caller says ``together``, the columns of
every product are split, and threads wait for each other before and after each.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from steadygrad.cells import Cell
from steadygrad.scan.backends.c.printer.backward import BackwardPrinter
from steadygrad.scan.backends.c.printer.entry import entry, prepare, room_function
from steadygrad.scan.backends.c.printer.forward import ForwardPrinter
from steadygrad.scan.backends.c.printer.plan import Plan
from steadygrad.scan.backends.c.printer.tiles import tiles
from steadygrad.scan.backends.c.runtime import inlined
from steadygrad.scan.backends.c.slots import Slots
from steadygrad.scan.ir.products import fills, first_gate
from steadygrad.scan.ir.trace import Product


@dataclass(frozen=True)
class Printed:
    """A file, and how to call it.

    Attributes:
        text: The C source, whole.
        own: The same without what all cells share.
        shared_text: That, to be linked with.
        forward: Argument words of ``steadygrad_forward``.
        backward: Argument words of ``steadygrad_backward``.
        kept: What the forward loop keeps for the backward loop, by the names of the words, as
            values per unit: the projected input, which it overwrites with others, what stands
            beside it, and the arguments of products that are not h.
        constants: Names of the constants per unit that the step reads, ``k.<name>``.
        noise: Names of the noise that the step reads, ``n.<name>``.
        products: All products, in the order of their numbers in the file.
        shared: Per product, whether its gradient is that of the projected input.
        first: Per product, the row block of ``weight_hh`` where its own begin; None if they are
            not next to each other.
        fills: Whether the rows of all products are those of ``weight_hh``, each once.
    """

    text: str
    own: str
    shared_text: str
    forward: Slots
    backward: Slots
    kept: Mapping[str, int]
    constants: tuple[str, ...]
    noise: tuple[str, ...]
    products: tuple[Product, ...]
    shared: tuple[bool, ...]
    first: tuple[int | None, ...]
    fills: bool


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
    plan = Plan(cell, shared, projects)
    forward, backward = ForwardPrinter(plan), BackwardPrinter(plan)
    f, b = plan.forward_words, plan.backward_words
    # The two loops can be compiled side by side, HALF being 1 or 2; without it both are there.
    loops = [
        "#if HALF != 2",
        *forward.part(),
        *prepare("forward", f.words(), forward.rooms().shared, forward.packs()),
        *room_function("forward", f.words(), forward.rooms()),
        *entry("forward", f.words(), f"!{forward.no_packs()}"),
        "#endif",
        "#if HALF != 1",
        *backward.part(),
        *prepare("backward", b.words(), backward.rooms().shared, backward.weights.packs()),
        *backward.weights.join(),
        *room_function("backward", b.words(), backward.rooms()),
        *entry("backward", b.words(), "1", f"{b['threads']} > 1 && !{b['together']}"),
        "#endif",
    ]
    kept = {"xp": len(cell.gates), "saved": plan.beside}
    kept |= {f"k{i}": 1 for i in plan.other_arguments}
    return Printed(
        "\n".join([head(dtype, exact), *loops, ""]),
        "\n".join([_declared(dtype, exact), *loops, ""]),
        shared_text(dtype),
        f,
        b,
        kept,
        plan.constants,
        plan.noise,
        plan.products,
        shared,
        tuple(first_gate(cell, item) for item in plan.products),
        fills(cell, plan.products),
    )


@lru_cache(maxsize=4)
def head(dtype: str, exact: bool) -> str:
    """What stands before every cell: the runtime, for ``"float"`` or ``"double"``."""
    return _runtime(dtype, exact, "static")


@lru_cache(maxsize=2)
def shared_text(dtype: str) -> str:
    """The runtime alone, its functions visible: what cells are linked with."""
    return _runtime(dtype, False, HIDDEN)


@lru_cache(maxsize=4)
def _declared(dtype: str, exact: bool) -> str:
    """The runtime without the bodies of what stands in `shared_text`."""
    return _BODY.sub(r"\1;\n", _runtime(dtype, exact, f"extern {HIDDEN}"))


def _runtime(dtype: str, exact: bool, shared: str) -> str:
    parameters = (
        f"#define SHARED {shared}\n#define BYTES {4 if dtype == 'float' else 8}\n"
        f"#define EXACT {int(exact)}\n"
    )
    return parameters + inlined({"printed_tiles.h": "\n".join(tiles())})


HIDDEN = '__attribute__((visibility("hidden")))'
"""Visible to the objects it is linked with, and not outside of the library."""
_BODY = re.compile(r"^((?:SHARED|ALONE) [^{;]*?) \{$.*?^\}$\n", re.MULTILINE | re.DOTALL)
"""A function whose body is not needed; the brace that ends it is the first to begin a line."""
