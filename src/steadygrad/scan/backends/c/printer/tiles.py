"""The innermost loops of matrix products, printed with one variable for each register.

A tile is a few rows times a few vectors of columns. Held in an array it would be zeroed, and read
back, through memory: for a hundred terms of a sum that costs as much as five of them.
"""

SUMS = "sums{}(word k, const real* a, const real* b, word n, int add, real* to)"
DOTS = "dots_of_several(word k, const real* a, const real* b, const real* start, real* to)"
SEVERAL = 8
"""Rows of a right factor that is read as it is stored, at once: a register for each."""


def _tile(name: str, rows: int, vectors: int, transposed: bool) -> list[str]:
    """One function: ``rows`` of a left factor times ``vectors`` of a packed right one."""
    own = [[f"s{i}_{v}" for v in range(vectors)] for i in range(rows)]
    lines = [
        f"ALONE {name}(TERMS, PLACE{', word rows' if transposed else ''}) {{",
        *(f"    vec {', '.join(f'{s} = {{0}}' for s in row)};" for row in own),
    ]
    if transposed:  # the result is far away: on its way while the sum is formed
        lines += [
            f"    for (word i = 0; add && i < {rows} && i < rows; i++)",
            f"        for (int v = 0; v < {vectors}; v++)",
            "            __builtin_prefetch(row_of(c, i0 + i) + j + v * VL, 1);",
        ]
    # One pointer for three rows, two more by the index: a register for each row would be too many.
    thirds = [] if transposed else [f"a{i}" for i in range(0, rows, 3)]
    lines += [f"    const real* {name} = a + {name[1:]} * lead;" for name in thirds]
    lines += [f'    __asm__("" : "+r"({name}));' for name in thirds]
    step = ", ".join(["q++", "p += NR", *(f"{name}++" for name in thirds)])
    lines.append(f"    for (word q = 0; q < k; {step}) {{")
    lines += [
        f"        const vec b{v} = *(const vec*)(p + {v // 2} * panel + {v % 2} * VL);"
        for v in range(vectors)
    ]
    for i in range(rows):
        at = f"a[{i} + q * MR]" if transposed else f"a{i // 3 * 3}[{i % 3} * lead]"
        lines.append(
            f"        {{ const real x = {at}; "
            + " ".join(f"{s} += x * b{v};" for v, s in enumerate(own[i]))
            + " }"
        )
    lines.append("    }")
    if not transposed:  # the usual case without a question for every vector
        lines += [
            f"    if (!c.list && !start && !add && left >= {vectors} * VL) {{",
            "        real* to = c.at + i0 * c.lead + j;",
            *(
                "        "
                + " ".join(f"*(vec*)(to + {v} * VL) = {s};" for v, s in enumerate(row))
                + " to += c.lead;"
                for row in own
            ),
            "        return;",
            "    }",
        ]
    for i, row in enumerate(own):
        lines += [
            *((f"    if ({i} >= rows) return;",) if transposed and i else ()),
            f"    {{ real* const to = row_of(c, i0 + {i}) + j;",
            f"    if (left >= {vectors} * VL) {{ "
            + " ".join(
                f"store(to + {v} * VL, {s}, start ? start + j + {v} * VL : 0, add);"
                for v, s in enumerate(row)
            )
            + " }",
            f"    else {{ const vec s[] = {{{', '.join(row)}}}; "
            "store_some(to, s, start ? start + j : 0, add, left); } }",
        ]
    return [*lines, "    (void)lead; (void)panel;", "}"]


def _heights(name: str, most: int, vectors: int) -> list[str]:
    """Tiles of 1 to ``most`` rows; half as many where the registers are half as many."""
    lines: list[str] = []
    for half, (low, high) in enumerate(((1, most // 2), (most // 2 + 1, most))):
        lines += ["#if MR > 6"] if half else []
        for rows in range(low, high + 1):
            lines += _tile(f"{name}{rows}", rows, vectors, transposed=False)
        lines += ["#endif"] if half else []
    return lines


def _choice(name: str, most: int) -> list[str]:
    """The tile of so many rows as there are."""
    lines = [f"INLINE void {name}(word mr, TERMS, PLACE) {{", "    switch (mr) {"]
    for rows in range(1, most + 1):
        lines += ["#if MR > 6"] if rows == most // 2 + 1 else []
        lines.append(
            f"    case {rows}: {name}{rows}(k, a, lead, p, panel, start, add, c, i0, j, left); "
            "break;"
        )
    return [*lines, "#endif", "    }", "}"]


def _dots() -> list[str]:
    """One row times a few rows of a right factor as it is stored, ``(n, k)``."""
    sums = [f"s{i}" for i in range(SEVERAL)]
    return [
        f"ALONE {DOTS} {{",
        f"    vec {', '.join(f'{s} = {{0}}' for s in sums)};",
        "    word q = 0;",
        "    for (; q + VL <= k; q += VL) {",
        "        const vec x = *(const vec*)(a + q);",
        *(f"        {s} += x * *(const vec*)(b + {i} * k + q);" for i, s in enumerate(sums)),
        "    }",
        *(f"    quad t{i} = across({', '.join(sums[i : i + 4])});" for i in range(0, SEVERAL, 4)),
        "    for (; q < k; q++) {",
        *(
            f"        t{i}[{j}] += a[q] * b[{i + j} * k + q];"
            for i in range(0, SEVERAL, 4)
            for j in range(4)
        ),
        "    }",
        *(f"    if (start) t{i} += *(const quad*)(start + {i});" for i in range(0, SEVERAL, 4)),
        *(f"    *(quad*)(to + {i}) = t{i};" for i in range(0, SEVERAL, 4)),
        "}",
    ]


def _sums(vectors: int) -> list[str]:
    """One row times some vectors of columns of a right factor as it is stored, ``(k, n)``."""
    sums = [f"s{v}" for v in range(vectors)]
    return [
        f"ALONE {SUMS.format(vectors)} {{",
        f"    vec {', '.join(f'{s} = {{0}}' for s in sums)};",
        "    for (word q = 0; q < k; q++, b += n) {",
        "        const real x = a[q];",
        *(f"        {s} += x * *(const vec*)(b + {v} * VL);" for v, s in enumerate(sums)),
        "    }",
        *(f"    store(to + {v} * VL, {s}, 0, add);" for v, s in enumerate(sums)),
        "}",
    ]


def tiles() -> list[str]:
    """Lines of C, which ``runtime/tiles.h`` includes as ``printed_tiles.h``."""
    return [
        *_tile("wide", 1, 8, transposed=False),
        *_heights("broad", 6, 4),
        *_heights("narrow", 12, 2),
        *_choice("broad", 6),
        *_choice("narrow", 12),
        "#if MR > 6",
        *_tile("outer_tile", 12, 2, transposed=True),
        "#else",
        *_tile("outer_tile", 6, 2, transposed=True),
        "#endif",
        f"#define SEVERAL {SEVERAL}",
        *_dots(),
        *_sums(8),
        *_sums(4),
        *_sums(1),
    ]
