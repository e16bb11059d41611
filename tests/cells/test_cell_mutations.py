"""Cells broken on purpose: each break has to be caught by the cell's own oracle.

A mutation is one replacement in the text of the step: a swapped gate, a dropped state, a wrong
sign, a term left out. One that no oracle notices is a hole in the tests, not in the cell.
"""

import inspect
import sys
import textwrap
from dataclasses import fields
from typing import Any

import pytest

from steadygrad import cells
from steadygrad.cells import Cell
from tests.cells.test_cell_oracles import ORACLES, agrees

OUTPUT = ("return o * tanh(c), c", "return o * c, c")
MUTATIONS: dict[Cell, list[tuple[str, str]]] = {
    cells.Elman(): [
        ("recur.candidate(h)", "recur.candidate(h * h)"),
        ("x.candidate + recur", "x.candidate - recur"),
        ("x.candidate + recur.candidate(h)", "x.candidate"),
    ],
    cells.IRNN(): [
        ("relu(", "abs("),
        ("x.candidate + recur", "x.candidate - recur"),
        ("x.candidate + recur.candidate(h)", "recur.candidate(h)"),
    ],
    cells.LSTM(): [
        ("c = f * c + i * g", "c = i * c + f * g"),
        ("c = f * c + i * g", "c = i * g"),
        ("c = f * c + i * g", "c = f * c - i * g"),
        OUTPUT,
    ],
    cells.LSTM1997(): [
        ("c = c + i * g", "c = i * g"),
        ("c = c + i * g", "c = c + o * g"),
        ("4 * sigmoid(x.candidate", "2 * sigmoid(x.candidate"),
        ("(2 * sigmoid(c) - 1)", "(2 * sigmoid(c) + 1)"),
    ],
    cells.LSTMPeephole(): [
        ("unit.peephole_output * seen", "unit.peephole_output * state[1]"),  # the old memory
        ("unit.peephole_input * seen", "unit.peephole_forget * seen"),
        ("recur.forget(h) + unit", "recur.forget(h) - unit"),
        ("c = f * c + i * g", "c = i * g"),
    ],
    cells.LSTMCoupled(): [
        ("c = (1 - i) * c + i * g", "c = i * c + (1 - i) * g"),
        ("c = (1 - i) * c + i * g", "c = c + i * g"),
        ("c = (1 - i) * c + i * g", "c = (1 + i) * c + i * g"),
    ],
    cells.LSTMGreff(): [
        ("c = z * i + c * f", "c = z * f + c * i"),
        ('o = guard("output", c)', 'o = guard("output", state[1])'),
        ("recur, gate)(h)", "recur, gate)(-h)"),
    ],
    cells.LSTMGreff("FGR"): [
        ("(h, c, i, f, o) if", "(h, c, f, i, o) if"),
        ('f"{gate}_from_{of}"', 'f"{of}_from_{gate}"'),
        ("net = net + getattr(recur", "net = net - getattr(recur"),
    ],
    cells.LSTMZoneout(0.3, 0.2): [
        ("x.keep_h * h + (1 - x.keep_h)", "x.keep_c * h + (1 - x.keep_c)"),
        ("x.keep_c * c + (1 - x.keep_c) * new_c", "new_c"),
        ("o * tanh(new_c)", "o * tanh(c)"),
    ],
    cells.LSTMDropout(): [
        ("x.kept / (1 - self.drop)", "x.kept"),  # evaluation would not be the plain LSTM
        ("c = f * c + i * (", "c = f * c * mask * 0.5 + i * ("),
        ("recur.output(seen)", "recur.output(-seen)"),
    ],
    cells.LSTMLayerNorm(): [
        ("self._normalise([getattr(recur", "list([getattr(recur"),
        ("sigmoid(f) * c + sigmoid(i) * tanh(g)", "sigmoid(i) * c + sigmoid(f) * tanh(g)"),
        ("unit.gain_c * normalise(c)[0]", "unit.gain_c * c"),
        ("return sigmoid(o) * tanh(out), c", "return sigmoid(o) * tanh(out), out"),
    ],
    cells.GRU(): [
        ("(1 - z) * n + z * h", "z * n + (1 - z) * h"),
        ("r * recur.candidate(h)", "z * recur.candidate(h)"),
        ("r * recur.candidate(h)", "recur.candidate(r * h)"),  # the other GRU
    ],
    cells.GRUOriginal(): [
        ("recur.candidate(r * h)", "r * recur.candidate(h)"),  # the other GRU
        ("recur.candidate(r * h)", "recur.candidate(h)"),
        ("(1 - z) * n + z * h", "(1 - z) * n - z * h"),
    ],
    cells.GRUZoneout(0.3): [
        ("x.keep * h + (1 - x.keep) *", "(1 - x.keep) * h + x.keep *"),
        ("x.keep * h + (1 - x.keep) *", "(1 - x.keep) *"),
        ("(1 - z) * n + z * h", "z * n + (1 - z) * h"),
    ],
    cells.GRULayerNorm(): [
        ("sigmoid(uz + vz)", "sigmoid(uz - vz)"),
        ("sigmoid(ur + vr) * vn", "vn"),
        ("(1 - z) * n + z * h", "z * n + (1 - z) * h"),
    ],
    cells.MGU(): [
        ("recur.candidate(f * h)", "recur.candidate(h)"),
        ("(1 - f) * h + f * g", "f * h + (1 - f) * g"),
        ("(1 - f) * h + f * g", "f * g"),
    ],
    cells.MUT1(): [
        ("tanh(x.candidate)", "x.candidate"),
        ("sigmoid(x.update)", "sigmoid(-x.update)"),
        ("recur.candidate(r * h)", "recur.candidate(h)"),
    ],
    cells.MUT2(): [
        ("z * n + (1 - z) * h", "z * h + (1 - z) * n"),
        ("recur.update(h)", "recur.reset(h)"),
        ("recur.candidate(r * h)", "r * recur.candidate(h)"),
    ],
    cells.MUT3(): [
        ("recur.update(tanh(h))", "recur.update(h)"),
        ("recur.reset(h)", "recur.reset(tanh(h))"),
        ("z * n + (1 - z) * h", "z * n + (1 + z) * h"),
    ],
    cells.IndRNN(): [
        ("u * h", "h"),
        ("x.candidate + u * h", "x.candidate - u * h"),
        ("x.candidate + u * h", "x.candidate"),
    ],
    cells.Clockwork(3): [
        ("rests * h + (1 - rests) * new", "new"),
        ("k > 0, k - 1, unit.period - 1", "k > 0, k - 1, unit.period"),
        ("recur.candidate(h)", "recur.candidate((1 - torch.sign(k)) * h)"),
    ],
}


def mutated(cell: Cell, old: str, new: str) -> Cell:
    """The cell with one text in its step replaced."""
    kind: Any = type(cell)
    source = textwrap.dedent(inspect.getsource(kind.step))
    assert old in source, f"{old!r} is not in the step of {kind.__name__}"
    names = dict(vars(sys.modules[kind.__module__]))
    exec(source.replace(old, new), names)
    options = {f.name: getattr(cell, f.name) for f in fields(kind)}
    return type(f"Broken{kind.__name__}", (kind,), {"step": names["step"]})(**options)


@pytest.mark.parametrize(
    ("cell", "old", "new"),
    [
        pytest.param(cell, old, new, marks=[pytest.mark.slow] * (k > 0))  # one of each by default
        for cell, pairs in MUTATIONS.items()
        for k, (old, new) in enumerate(pairs)
    ],
    ids=lambda v: repr(v) if isinstance(v, Cell) else str(v),
)
def test_a_broken_step_is_caught(cell: Cell, old: str, new: str) -> None:
    assert not agrees(mutated(cell, old, new), ORACLES[cell])


def test_every_family_has_three_mutations() -> None:
    assert {type(c) for c in MUTATIONS} == {type(c) for c in ORACLES}
    assert all(len(pairs) >= 3 for pairs in MUTATIONS.values())


def test_a_cell_that_is_not_broken_is_not_caught() -> None:
    cell = cells.LSTM()
    assert agrees(mutated(cell, "f * c + i * g", "i * g + f * c"), ORACLES[cell])
