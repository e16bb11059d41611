"""What is printed around the loops over time: scratch memory, products of many steps, entries.

Scratch memory is one block: panels that all threads read, gradients that threads other than the
first collect, then one room per thread. The file itself says how much it needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Room:
    """A piece of scratch memory.

    Attributes:
        name: Of the C variable.
        size: C expression of its length, in values of type real.
        kind: C type of its elements; a list of pointers takes two values an element.
    """

    name: str
    size: str
    kind: str = "real"

    def line(self) -> str:
        """C that takes the piece from ``work``."""
        return (
            f"    {self.kind}* const {self.name} = ({self.kind}*)work; "
            f"work += UP({self.size}, 16); (void){self.name};"
        )


def total(rooms: Sequence[Room]) -> str:
    """C expression of the size of all."""
    return " + ".join([f"UP({room.size}, 16)" for room in rooms] or ["0"])


def room_function(way: str, word: dict[str, str], shared: list[Room], own: list[Room]) -> list[str]:
    """A function that writes the sizes of both kinds of scratch and returns the whole."""
    return [
        f"word steadygrad_{way}_room(word* a) {{",
        *numbers(word),
        f"    {word['shared_size']} = {total(shared)};",
        f"    {word['work_size']} = {total(own)};",
        f"    return {word['shared_size']} + threads * {word['work_size']};",
        "}",
    ]


def numbers(word: dict[str, str]) -> list[str]:
    """The sizes that expressions of rooms are made of."""
    return [
        f"    const word H = {word['H']}, P = {word['P']}, T = {word['T']}, I = {word['I']}, "
        f"most = {word['most']}, threads = {word['threads']};",
        "    const word cap = MOST(most, DEEP < T * most ? DEEP : T * most);",
        "    (void)H; (void)P; (void)T; (void)I; (void)most; (void)threads; (void)cap;",
    ]


def part_head(way: str, word: dict[str, str], shared: list[Room], own: list[Room]) -> list[str]:
    """The beginning of the function that one thread runs."""
    return [
        f"static void {way}_part(const word* a, word thread) {{",
        *numbers(word),
        f"    const word* const bounds = (const word*){word['bounds']};",
        f"    const span sp = {{(const word*){word['sizes']}, (const word*){word['offsets']}, T, "
        f"{word['B']}, {word['reverse']}, bounds[thread], bounds[thread + 1] - bounds[thread]}};",
        "    const word from = sp.from, rows = sp.rows;",
        f"    real* work = (real*){word['work']};",
        *(room.line() for room in shared),
        f"    work = (real*){word['work']} + {word['shared_size']} + thread * {word['work_size']};",
        *(room.line() for room in own),
    ]


def prepare(
    way: str, word: dict[str, str], shared: list[Room], packs: Sequence[tuple[str, str]]
) -> list[str]:
    """Pack the right factors of all products; ``packs`` are conditions and calls without end."""
    return [
        f"static void {way}_prepare(const word* a, word thread) {{",
        *numbers(word),
        f"    real* work = (real*){word['work']};",
        *(room.line() for room in shared),
        *(f"    if ({when}) {call}, thread, threads);" for when, call in packs),
        "}",
    ]


def entry(way: str, word: dict[str, str], phases: Sequence[tuple[str, str]]) -> list[str]:
    """What is called from outside: phases one after another, each on all threads.

    A team may turn out smaller than asked for; its members then do more than one part each.
    """
    lines = []
    for phase, _ in phases:
        lines += [
            f"static void {way}_{phase}_team(void* p) {{",
            "    const word* const a = (const word*)p;",
            f"    const word team = ((number_t){word['team']})();",
            f"    for (word i = ((number_t){word['number']})(); i < {word['threads']}; i += team)",
            f"        {way}_{phase}(a, i);",
            "}",
        ]
    lines.append(f"void steadygrad_{way}(const word* a) {{")
    for phase, when in phases:
        lines += [
            f"    if ({when}) {{",
            f"        if ({word['threads']} == 1) {way}_{phase}(a, 0);",
            f"        else ((parallel_t){word['parallel']})({way}_{phase}_team, (void*)a, "
            f"(unsigned){word['threads']}, 0);",
            "    }",
        ]
    return [*lines, "}"]
