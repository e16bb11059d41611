"""Loops over time steps and over blocks of units, and matrix products inside them."""

from collections.abc import Sequence

from steadygrad.scan.backends.triton.form import Form

TAB = "    "
BARRIER = "barrier()"


def indented(lines: Sequence[str], depth: int = 1) -> list[str]:
    """Lines, so many levels further in."""
    return [TAB * depth + line for line in lines]


def kernel(name: str, parameters: Sequence[str], body: Sequence[str]) -> str:
    """The text of a kernel of these parameters; sizes of blocks come after them."""
    constants = ", ".join(f"{c}: tl.constexpr" for c in CONSTANTS)
    return "\n".join([f"def {name}({', '.join(parameters)}, {constants}):", *indented(body), ""])


CONSTANTS = ("DT", "PRECISION", "BM", "BN", "BK", "ROW")
"""Dtype and precision of the arithmetic; rows, units and terms of a block, units of a whole row."""


def tile(form: Form) -> list[str]:
    """Which rows a program runs, and distances in memory."""
    return [
        "rows = tl.program_id(0) * BM + tl.arange(0, BM)",
        f"plane = tl.cast(N, tl.int64) * {form.size}",
        f"part = tl.cast(B, tl.int64) * {form.stride}",
    ]


def place(form: Form, turn: str) -> list[str]:
    """Lines that find the rows of a step: ``live``, which there are, and ``at``, where they stand.

    Args:
        form: The form.
        turn: Expression of the step's number in the order of the scan.
    """
    if form.packed:
        return [
            f"live = rows < tl.load(counts + {turn})",
            f"at = tl.load(places + {turn}) + rows",
        ]
    step = f"(T - 1 - ({turn}))" if form.reverse else f"({turn})"
    return ["live = rows < B", f"at = rows.to(tl.int64) + {step} * B"]


def next_place(form: Form) -> list[str]:
    """Lines that find the next step's rows: ``goes_on``, ``after``; and ``ends``, rows without."""
    if form.packed:
        lines = [
            "following = tl.load(counts + step + 1)",
            "goes_on = live & (rows < following)",
            "ends = live & (rows >= following)",
            "after = tl.load(places + step + 1) + rows",
        ]
    else:
        lines = [
            "following = tl.where(step + 1 < T, B, 0)",
            "goes_on = live & (rows < following)",
            "ends = live & (rows >= following)",
            f"after = at {'-' if form.reverse else '+'} B",
        ]
    if form.resets:
        lines.append("begins = tl.load(resets + after, mask=goes_on, other=0) != 0")
    return lines


def units(width: int, step: str, body: Sequence[str]) -> list[str]:
    """A loop over units, whose body finds ``u``; ``um`` and ``m``: which of them there are.

    Args:
        width: Number of units.
        step: Name of the block size; at least ``width`` for bodies that sum over units.
        body: Lines.
    """
    head = [
        f"u = first + tl.arange(0, {step})",
        f"um = u < {width}",
        "m = live[:, None] & um[None, :]",
    ]
    return [f"for first in range(0, {width}, {step}):", *indented([*head, *body])]


def dots(
    sums: Sequence[tuple[str, int]], left: str, depth: int, right: str, width: int
) -> list[str]:
    """Lines that add matrix products to blocks of sums, at a block of units.

    Args:
        sums: Names of the sums, and the column of the right factor at which each begins.
        left: Pointers ``(rows, 1)`` to the first terms of each row.
        depth: Number of terms.
        right: Pointer to the right factor, ``(depth, width)``.
        width: Its columns.
    """
    lines = [
        "k = inner + tl.arange(0, BK)",
        f"km = k < {depth}",
        f"left = tl.load({left} + k[None, :], mask=live[:, None] & km[None, :], other=0.0)",
        f"right = k[:, None] * {width} + u[None, :]",
        "both = km[:, None] & um[None, :]",
    ]
    for name, column in sums:
        lines += [
            f"weight = tl.load({right} + {column} + right, mask=both, other=0.0)",
            f"{name} = add_product(left, weight, {name}, PRECISION)",
        ]
    return [f"for inner in range(0, {depth}, BK):", *indented(lines)]


def zeros(name: str) -> str:
    """A line that begins a sum of products."""
    return f"{name} = tl.zeros((BM, BN), DT)"


def store(rows: str, value: str, mask: str = "m") -> str:
    """A line that writes a block to the rows at these pointers."""
    return f"tl.store({rows} + u[None, :], {value}, mask={mask})"
