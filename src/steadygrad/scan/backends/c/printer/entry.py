"""What is printed around the loops over time: scratch memory, products of many steps, entries.

Scratch memory is one block: panels that all threads read and gradients that threads other than the
first collect; then what products read and write, one room per thread, or one for all where they
share every product; then one room per thread. The file itself says how much it needs.
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
        at: C expression of where in the piece the thread begins.
    """

    name: str
    size: str
    kind: str = "real"
    at: str = "0"

    def line(self) -> str:
        """C that takes the piece from ``work``."""
        return (
            f"    {self.kind}* const {self.name} = ({self.kind}*)work + {self.at}; "
            f"work += UP({self.size}, 16); (void){self.name};"
        )


@dataclass(frozen=True)
class Rooms:
    """All scratch memory of one way.

    Attributes:
        shared: Of all threads.
        joint: Rows that enter or leave products; of all threads where products are shared.
        own: Of one thread.
    """

    shared: list[Room]
    joint: list[Room]
    own: list[Room]


def total(rooms: Sequence[Room]) -> str:
    """C expression of the size of all."""
    return " + ".join([f"UP({room.size}, 16)" for room in rooms] or ["0"])


def room_function(way: str, word: dict[str, str], rooms: Rooms) -> list[str]:
    """A function that writes the sizes of all kinds of scratch and returns the whole."""
    return [
        f"word steadygrad_{way}_room(word* a) {{",
        *numbers(word),
        f"    {word['shared_size']} = {total([GATE, *rooms.shared])};",
        f"    {word['joint_size']} = {total(rooms.joint)};",
        f"    {word['work_size']} = {total(rooms.own)};",
        f"    return {word['shared_size']} + (together ? 1 : threads) * {word['joint_size']}",
        f"        + threads * {word['work_size']};",
        "}",
    ]


def numbers(word: dict[str, str]) -> list[str]:
    """The sizes that expressions of rooms are made of."""
    return [
        f"    const word H = {word['H']}, P = {word['P']}, T = {word['T']}, I = {word['I']}, "
        f"most = {word['most']}, threads = {word['threads']}, together = {word['together']};",
        "    const word cap = MOST(most, DEEP < T * most ? DEEP : T * most);",
        "    (void)H; (void)P; (void)T; (void)I; (void)most; (void)threads; (void)cap; "
        "(void)together;",
    ]


GATE = Room("gate", "32")
"""Where threads count who has arrived, within a part and between phases: a cache line each."""


def part_head(way: str, word: dict[str, str], rooms: Rooms) -> list[str]:
    """The beginning of the function that one thread runs, one of ``team_size``.

    Rows of a joint room begin with the thread's own (`skip` says how far in that is).
    """
    return [
        f"static void {way}_part(const word* a, word thread, word team_size) {{",
        *numbers(word),
        f"    const word* const bounds = (const word*){word['bounds']};",
        "    const int alone = team_size < threads;",
        "    const word from = alone ? 0 : bounds[thread];",
        f"    const word rows = (alone ? {word['B']} : bounds[thread + 1]) - from;",
        f"    const span sp = {{(const word*){word['sizes']}, (const word*){word['offsets']}, T, "
        f"{word['B']}, {word['reverse']}, from, rows}};",
        f"    real* work = (real*){word['work']};",
        *(room.line() for room in [GATE, *rooms.shared]),
        "    const word skip = together ? from : 0;",
        f"    work = (real*){word['work']} + {word['shared_size']} + "
        f"(together ? 0 : thread) * {word['joint_size']};",
        *(room.line() for room in rooms.joint),
        f"    work = (real*){word['work']} + {word['shared_size']} + "
        f"(together ? 1 : threads) * {word['joint_size']} + thread * {word['work_size']};",
        *(room.line() for room in rooms.own),
        "    team_t team = {(word*)gate, together ? thread : 0, together ? team_size : 1, skip, "
        "rows, 0};",
        "    (void)skip;",
    ]


def prepare(
    way: str, word: dict[str, str], shared: list[Room], packs: Sequence[tuple[str, str]]
) -> list[str]:
    """Pack the right factors of all products; ``packs`` are conditions and calls without end."""
    return [
        f"static void {way}_prepare(const word* a, word thread) {{",
        *numbers(word),
        f"    real* work = (real*){word['work']};",
        *(room.line() for room in [GATE, *shared]),
        *(f"    if ({when}) {call}, thread, threads);" for when, call in packs),
        "}",
    ]


def entry(way: str, word: dict[str, str], packs: str, join: str = "0") -> list[str]:
    """What is called from outside: threads are started once, and meet between phases.

    A team may turn out smaller than asked for; then its first member does the parts of all.

    Args:
        way: ``"forward"`` or ``"backward"``.
        word: C expressions of all argument words.
        packs: When right factors have to be packed.
        join: When there are sums to be joined.
    """
    joined = (f"if ({join}) ", f"{way}_add_shares(a, i);") if join != "0" else ("", "")
    threads = word["threads"]
    return [
        f"static void {way}_alone(const word* a) {{",
        f"    const word threads = {threads}, together = {word['together']};",
        f"    if ({packs}) for (word i = 0; i < threads; i++) {way}_prepare(a, i);",
        f"    if (together) {way}_part(a, 0, 1);",
        f"    else for (word i = 0; i < threads; i++) {way}_part(a, i, threads);",
        *(
            (f"    {joined[0]}for (word i = 0; i < threads; i++) {joined[1]}",)
            if join != "0"
            else ()
        ),
        "}",
        f"static void {way}_team(void* p) {{",
        "    const word* const a = (const word*)p;",
        f"    const word i = ((number_t){word['number']})(), threads = {threads};",
        f"    team_t phases = {{(word*){word['work']} + 8, i, threads, 0, 0, 0}};",
        f"    if (((number_t){word['team']})() < threads) {{",
        f"        if (i == 0) {way}_alone(a);",
        "        return;",
        "    }",
        f"    if ({packs}) {{",
        f"        {way}_prepare(a, i);",
        "        wait_for_all(&phases);",
        "    }",
        f"    {way}_part(a, i, threads);",
        *((f"    {joined[0]}{{ wait_for_all(&phases); {joined[1]} }}",) if join != "0" else ()),
        "}",
        f"void steadygrad_{way}(const word* a) {{",
        f"    word* const gates = (word*){word['work']};  /* no thread has arrived yet */",
        "    gates[0] = gates[8] = 0;",
        f"    if ({threads} == 1) {way}_alone(a);",
        f"    else ((parallel_t){word['parallel']})({way}_team, (void*)a, (unsigned){threads}, 0);",
        "}",
    ]
