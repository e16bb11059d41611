"""The loop of 1997 in ``benchmarks``, in C, against the same network as a layer of ours."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pytest
import torch
from benchmarks.papers.lstm_1997.__main__ import sequences
from benchmarks.papers.lstm_1997.network import Network, Shape
from torch import Tensor, sigmoid
from torch.func import functional_call

import steadygrad as sg
from steadygrad.cells.base import Cell, Gates, PerUnit, Recur, State
from steadygrad.tasks import Adding, TemporalOrder
from tests.helpers.marks import needs_compiler

pytestmark = needs_compiler
GATES, SOURCES = ("input", "candidate", "output"), ("h", "i", "o")
TASKS = {
    "order": (TemporalOrder(20, form="hochreiter"), Shape(8, 4, 2, 2), [-2.0, -4.0]),
    "adding": (Adding(20, "hochreiter"), Shape(2, 1, 2, 2), [-3.0, -6.0]),
    "adding, linear": (Adding(20, "hochreiter"), Shape(2, 1, 2, 2, True), [-3.0, -6.0]),
    "three in a block": (Adding(20, "hochreiter"), Shape(2, 1, 2, 3), [-1.0, 0.0]),
}


@final
@dataclass(frozen=True)
class FullyConnected(Cell):
    """`steadygrad.cells.LSTM1997` with gates that every unit sees at the next step."""

    name: ClassVar[str] = "lstm-1997-fully-connected"
    gates: ClassVar[tuple[str, ...]] = GATES
    states: ClassVar[tuple[str, ...]] = ("h", "c", "i", "o")
    truncated: bool = True

    @property
    def recurrent(self) -> tuple[str, ...]:
        return tuple(f"{gate}_{source}" for gate in GATES for source in SOURCES)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c, i, o = state
        before = dict(zip(SOURCES, (h, i, o), strict=True))
        seen = {n: v.detach() for n, v in before.items()} if self.truncated else before

        def net(gate: str) -> Tensor:
            return getattr(x, gate) + sum(getattr(recur, f"{gate}_{s}")(seen[s]) for s in SOURCES)

        i, o = sigmoid(net("input")), sigmoid(net("output"))
        c = c + i * (4 * sigmoid(net("candidate")) - 2)
        return o * (2 * sigmoid(c) - 1), c, i, o


def answer(weights: Tensor, shape: Shape, x: Tensor, truncated: bool) -> Tensor:
    """The network with all its weights in one vector, as a layer whose gates share their rows."""
    blocks, size, units, sees = shape.blocks, shape.size, shape.units, shape.sees
    ends = [blocks * sees, blocks * sees, units * sees, shape.outputs * (units + 1)]
    w_in, w_out, w_cell, head = weights.split(ends)
    per_cell = [w.view(blocks, sees).repeat_interleave(size, 0) for w in (w_in, w_out)]
    rows = [per_cell[0], w_cell.view(units, sees), per_cell[1]]
    recurrent: list[Tensor] = []
    for row in rows:
        from_cells, *from_gates = row[:, shape.inputs : -1].split([units, blocks, blocks], 1)
        recurrent.append(from_cells)
        for gates in from_gates:  # the gate of a block stands in the columns of its first cell
            wide = torch.zeros(units, units, dtype=row.dtype)
            recurrent.append(wide.index_copy(1, torch.arange(0, units, size), gates))
    layer = sg.Recurrent(
        FullyConnected(truncated), shape.inputs, units, dtype=torch.float64, backend="eager"
    )
    given = {
        "weight_ih_l0": torch.cat(rows)[:, : shape.inputs],
        "weight_hh_l0": torch.cat(recurrent),
        "bias_ih_l0": torch.cat(rows)[:, -1],
        "bias_hh_l0": torch.zeros(9 * units, dtype=torch.float64),
    }
    hidden = functional_call(layer, given, (x,))[0][-1]
    head = head.view(shape.outputs, units + 1)
    net = head[:, :-1] @ hidden + head[:, -1]
    return net if shape.linear else sigmoid(net)


@pytest.mark.parametrize(("inputs", "outputs", "weights"), [(8, 4, 156), (2, 1, 93)])
def test_it_has_as_many_weights_as_the_paper_says(inputs: int, outputs: int, weights: int) -> None:
    """Tables 7 and 9."""
    assert Shape(inputs, outputs, 2, 2).weights == weights


@pytest.mark.parametrize("truncated", [True, False])
@pytest.mark.parametrize("kind", TASKS)
def test_a_step_is_that_of_the_truncated_gradient(kind: str, truncated: bool) -> None:
    task, shape, input_bias = TASKS[kind]
    network = Network(shape, 0.5, input_bias, np.random.default_rng(0))
    weights = torch.from_numpy(network.weights.copy()).requires_grad_()
    for x, target in next(sequences(task, 0))[:8]:
        network.learn([(x, target)], rate=0.5, tolerance=0.1)
        told = answer(weights, shape, torch.from_numpy(x).double(), truncated)
        loss = (told - torch.from_numpy(target)).square().sum() / 2
        (gradient,) = torch.autograd.grad(loss, weights)
        weights = (weights - 0.5 * gradient).detach().requires_grad_()
    difference = (weights.detach() - torch.from_numpy(network.weights)).abs().max()
    assert difference < 1e-12 if truncated else difference > 1e-6


def test_it_stops_after_so_many_right_ones_and_goes_on_counting() -> None:
    task, shape, input_bias = TASKS["adding"]
    network = Network(shape, 0.1, input_bias, np.random.default_rng(0))
    stream = next(sequences(task, 0))
    assert len(network.learn(stream[:30], 0.0, tolerance=2.0, window=50)) == 30
    assert len(network.learn(stream[30:], 0.0, tolerance=2.0, window=50)) == 20
    before = network.weights.copy()
    errors = network.learn(stream[:5], 0.0, tolerance=0.0)
    assert network.streak.value == 0 and errors.shape == (5, 1)
    np.testing.assert_array_equal(network.weights, before)  # a rate of 0 only answers
