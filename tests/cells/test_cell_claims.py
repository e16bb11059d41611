"""What the cells' docstrings claim, measured: the carousel, limits, equalities, noise.

Each claim names its paper; a closed form, an exact limit or another cell is the oracle.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from steadygrad import cells
from steadygrad.cells import Cell
from steadygrad.nn import Recurrent
from steadygrad.scan import Tap

pytestmark = pytest.mark.usefixtures("any_backend")

F64 = torch.float64
B, I, H = 3, 4, 6


def made(cell: Cell, scale: float = 1.0, hidden: int = H, **options: Any) -> Recurrent:
    torch.manual_seed(0)
    options.setdefault("backend", "eager")
    layer = Recurrent(cell, I, hidden, dtype=F64, **options)
    with torch.no_grad():
        for p in layer.parameters():
            p.uniform_(-scale, scale)
    return layer


def rows(layer: Recurrent, kind: str, gate: str) -> Tensor:
    """Rows of one gate in a weight or bias, to be written into."""
    names = layer.cell.gates if kind.endswith("ih") else layer.cell.recurrent
    parameter = layer.get_parameter(f"{kind}_l0").data
    return parameter.split(layer.hidden_size)[names.index(gate)]


def gradient_norms(layer: Recurrent, x: Tensor, state: str) -> Tensor:
    """``(T, B)``: log10 of the gradient at every step, the loss being at the last."""
    seen: list[Tap] = []
    layer.on_tap = lambda _, __, tap: seen.append(tap)
    output = layer(x)[0]
    (output[-1] * torch.linspace(1, 2, output.shape[-1], dtype=F64)).sum().backward()
    return seen[0].log10_norm[layer.cell.states.index(state)]


# equations.md section 12, oracle 1: Hochreiter and Schmidhuber 1997, appendix A.1.


def carousel(truncated: bool, steps: int) -> Tensor:
    """dc_T / dc_0 of one sequence, ``(H, H)``."""
    layer = made(cells.LSTM1997(truncated=truncated), scale=2.0)
    x = torch.randn(steps, 1, I, dtype=F64)
    h = torch.zeros(1, 1, H, dtype=F64)

    def final(c: Tensor) -> Tensor:
        return layer(x, (h, c))[1][1].flatten()

    return jacobian(final, torch.zeros(1, 1, H, dtype=F64)).view(H, H)


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_1_the_truncated_memory_hands_its_error_back_unchanged(steps: int) -> None:
    torch.testing.assert_close(carousel(True, steps), torch.eye(H, dtype=F64), rtol=0, atol=0)


def test_1_with_the_full_gradient_it_does_not() -> None:
    off = (carousel(False, 20) - torch.eye(H, dtype=F64)).abs().max()
    assert off > 0.1


@pytest.mark.parametrize("truncated", [False, True])
def test_gates_forced_shut_carry_the_error_over_ten_thousand_steps(truncated: bool) -> None:
    layer = made(cells.LSTM1997(truncated=truncated), hidden=4, backend="auto")
    for gate in ("input", "output"):
        rows(layer, "bias_ih", gate).fill_(-80.0)
    rows(layer, "weight_ih", "input").zero_()
    rows(layer, "weight_hh", "input").zero_()
    # The output gate opens at the last step alone: the reading of the memory.
    rows(layer, "weight_ih", "output").zero_()
    rows(layer, "weight_ih", "output")[:, 0] = 90.0
    x = torch.randn(10_000, 2, I, dtype=F64)
    x[:, :, 0] = 0
    x[-1, :, 0] = 1
    norms = gradient_norms(layer, x, "c")[:-1]  # at the last step itself nothing comes from later
    assert norms.isfinite().all()
    ratio = 10 ** (norms - norms[-1])
    assert (ratio - 1).abs().max() < 1e-6


def test_the_memory_of_1997_drifts_and_the_forget_gate_stops_it() -> None:
    """Gers, Schmidhuber and Cummins 2000, section 2: why the forget gate came."""
    x = torch.ones(3000, 1, I, dtype=F64)
    old, new = made(cells.LSTM1997()), made(cells.LSTM())
    assert old(x)[1][1].abs().max() > 100
    assert new(x)[1][1].abs().max() < 100


# Section 12, oracles 2 and 3: Pascanu, Mikolov and Bengio 2013, section 2.


@pytest.mark.parametrize("factor", [1.0, 0.9, 1.05])
def test_2_a_linear_net_multiplies_the_gradient_by_a_at_each_step(factor: float) -> None:
    layer = made(cells.Elman("identity"), hidden=16)
    nn.init.orthogonal_(layer.weight_hh_l0, gain=factor)  # type: ignore[arg-type]
    norms = gradient_norms(layer, torch.randn(1001, B, I, dtype=F64), "h")
    steps = norms.diff(dim=0)
    wanted = torch.full_like(steps, -math.log10(factor))
    torch.testing.assert_close(steps, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("phi", "slope"), [("tanh", 1.0), ("sigmoid", 0.25)])
def test_3_the_gradient_shrinks_at_least_by_the_bound(phi: Any, slope: float) -> None:
    layer = made(cells.Elman(phi))
    with torch.no_grad():
        layer.weight_hh_l0.mul_(0.9 / torch.linalg.matrix_norm(layer.weight_hh_l0, 2))  # type: ignore[operator, arg-type]
    norms = gradient_norms(layer, torch.randn(30, B, I, dtype=F64), "h")
    ratio = 10 ** norms.diff(dim=0).neg()  # of a step to the one after it
    assert ratio.max() <= 0.9 * slope * (1 + 1e-9)
    assert ratio.max() > 0.1 * slope  # and not by something else altogether


# Oracle 9: invariance of layer normalisation to the scale of R and W (Ba et al. 2016, table 1).


@pytest.mark.parametrize("kind", [cells.LSTMLayerNorm, cells.GRULayerNorm])
@pytest.mark.parametrize("joint", [False, True])
def test_9_normalised_gates_do_not_see_the_scale_of_the_weights(kind: Any, joint: bool) -> None:
    layer = made(kind(joint=joint), bias=False)
    x = torch.randn(8, B, I, dtype=F64)
    before = layer(x)[0]
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0").mul_(1000)
        layer.get_parameter("weight_ih_l0").mul_(30)
    torch.testing.assert_close(layer(x)[0], before, rtol=1e-3, atol=1e-4)  # epsilon is not scaled
    plain = made(cells.LSTM(), bias=False)
    before = plain(x)[0]
    with torch.no_grad():
        plain.get_parameter("weight_hh_l0").mul_(1000)
    assert (plain(x)[0] - before).abs().max() > 0.1


# Oracle 14: zoneout (Krueger et al. 2016).

PLAIN: dict[str, tuple[Callable[[float], Cell], Cell]] = {
    "lstm": (lambda p: cells.LSTMZoneout(p, p), cells.LSTM()),
    "gru": (lambda p: cells.GRUZoneout(p), cells.GRU()),
}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("training", [False, True])
def test_14_zoneout_of_zero_is_the_plain_cell_and_of_one_freezes(name: str, training: bool) -> None:
    zoned, plain = PLAIN[name]
    x = torch.randn(7, B, I, dtype=F64)
    state: Any = tuple(torch.randn(1, B, H, dtype=F64) for _ in plain.states)
    state = state if len(state) > 1 else state[0]
    wanted = made(plain)(x, state)
    torch.testing.assert_close(made(zoned(0.0)).train(training)(x, state), wanted)
    torch.testing.assert_close(made(zoned(1.0)).train(training)(x, state)[1], state)


@pytest.mark.parametrize("name", PLAIN)
def test_14_in_training_a_unit_keeps_or_updates_and_evaluation_is_the_mean(name: str) -> None:
    zoned, plain = PLAIN[name]
    rows = 4000
    x = torch.randn(1, 1, I, dtype=F64).expand(1, rows, I)
    old: Any = tuple(torch.randn(1, 1, H, dtype=F64).expand(1, rows, H) for _ in plain.states)
    old = old if len(old) > 1 else old[0]
    new = made(plain)(x, old)[1]
    layer = made(zoned(0.3))
    drawn, mean = layer(x, old)[1], layer.eval()(x, old)[1]
    four = [s if isinstance(s, tuple) else (s,) for s in (old, new, drawn, mean)]
    for o, n, d, m in zip(*four, strict=True):
        kept = d == o
        assert torch.where(kept, o, n).allclose(d)
        assert abs(float(kept.double().mean()) - 0.3) < 0.01  # 24,000 draws: 3.4 deviations
        torch.testing.assert_close(m, 0.3 * o + 0.7 * n)


# Recurrent dropout: Semeniuta et al. 2016 (candidate), Gal and Ghahramani 2016 (hidden, shared).


def test_dropout_of_the_candidate_leaves_the_memory_alone() -> None:
    layer, plain = made(cells.LSTMDropout(0.4)), made(cells.LSTM())
    rows = 4000
    x = torch.randn(1, 1, I, dtype=F64).expand(1, rows, I)
    h = torch.zeros(1, rows, H, dtype=F64)
    written = plain(x, (h, h))[1][1]  # c from nothing is i * g
    kept = plain(x, (h, h + 1))[1][1] - written  # f * 1
    share = ((layer(x, (h, h + 1))[1][1] - kept) / written * 0.6).detach()  # the mask
    assert torch.allclose(share, share.round(), atol=1e-9)
    assert set(share.round().unique().tolist()) == {0.0, 1.0}
    assert abs(float(share.mean()) - 0.6) < 0.011


@pytest.mark.parametrize("shared", [True, False])
def test_a_shared_mask_holds_for_the_sequence(shared: bool) -> None:
    layer = made(cells.LSTMDropout(0.5, "hidden", shared))
    rows(layer, "weight_hh", "candidate").copy_(torch.eye(H))  # the mask of each unit, visible
    for gate in ("input", "forget", "output"):
        rows(layer, "weight_hh", gate).zero_()
        rows(layer, "bias_ih", gate).fill_({"forget": -80.0}.get(gate, 80.0))
    rows(layer, "weight_ih", "candidate").zero_()
    h = layer(torch.zeros(12, B, I, dtype=F64), (torch.ones(1, B, H, dtype=F64),) * 2)[0]
    bias = rows(layer, "bias_ih", "candidate") + rows(layer, "bias_hh", "candidate")
    dropped = torch.isclose(h, bias.tanh().tanh().expand_as(h))
    same = (dropped == dropped[0]).all(0)
    assert bool(same.all()) is shared
    assert 0 < dropped[0].double().mean() < 1


# Oracle 16, and cells that are others in disguise.


def test_16_coupled_gates_are_an_lstm_whose_forget_gate_is_one_minus_the_input_gate() -> None:
    coupled, plain = made(cells.LSTMCoupled()), made(cells.LSTM())
    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        for gate in ("input", "candidate", "output"):
            rows(plain, kind, gate).copy_(rows(coupled, kind, gate))
        rows(plain, kind, "forget").copy_(-rows(coupled, kind, "input"))  # s(-a) = 1 - s(a)
    x = torch.randn(9, B, I, dtype=F64)
    torch.testing.assert_close(plain(x), coupled(x))
    assert coupled(10 * x)[1][1].abs().max() <= 1  # an average of candidates


def test_16_reset_after_and_before_coincide_where_nothing_is_reset() -> None:
    after, before = made(cells.GRU()), made(cells.GRUOriginal())
    x = torch.randn(9, B, I, dtype=F64)
    assert not torch.allclose(after(x)[0], before(x)[0])
    for layer in (after, before):
        rows(layer, "bias_ih", "reset").fill_(80.0)
        rows(layer, "bias_hh", "candidate").zero_()
    torch.testing.assert_close(after(x), before(x))


def test_greff_without_peepholes_is_the_lstm_and_with_them_graves() -> None:
    x = torch.randn(9, B, I, dtype=F64)
    torch.testing.assert_close(made(cells.LSTMGreff("NP"))(x), made(cells.LSTM())(x))
    torch.testing.assert_close(made(cells.LSTMGreff())(x), made(cells.LSTMPeephole())(x))


def test_mut2_is_the_original_gru_with_the_sign_of_the_update_gate_turned() -> None:
    gru, mut = made(cells.GRUOriginal()), made(cells.MUT2())
    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        rows(mut, kind, "update").neg_()
    x = torch.randn(9, B, I, dtype=F64)
    torch.testing.assert_close(mut(x), gru(x))


def test_peepholes_without_gradient_have_the_values_and_the_memory_of_a_plain_lstm() -> None:
    """Gers et al. 2002: dc_t / dc_{t-1} = f, whatever the peepholes."""
    x = torch.randn(1, 1, I, dtype=F64)
    h, c = torch.zeros(1, 1, H, dtype=F64), torch.randn(1, 1, H, dtype=F64)
    jacobians = {}
    for through in (True, False):
        layer = made(cells.LSTMPeephole(through))
        jacobians[through] = jacobian(lambda c, m=layer: m(x, (h, c))[1][1].flatten(), c)
    layer = made(cells.LSTMPeephole())
    net = rows(layer, "weight_ih", "forget") @ x.flatten()
    net = net + rows(layer, "bias_ih", "forget") + rows(layer, "bias_hh", "forget")
    f = (net + layer.get_parameter("peephole_forget_l0") * c.flatten()).sigmoid().detach()
    torch.testing.assert_close(jacobians[False].view(H, H), torch.diag(f))
    assert not torch.allclose(jacobians[True].view(H, H), torch.diag(f))


def test_blocks_of_cells_that_share_their_gates_are_tied_rows() -> None:
    """The memory cell blocks of 1997: one scalar gate a block, two cells in each."""
    size, count = 2, H // 2
    layer = made(cells.LSTM1997())
    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        for gate in ("input", "output"):
            tied = rows(layer, kind, gate)
            tied.copy_(tied[::size].repeat_interleave(size, 0))
    x = torch.randn(7, 1, I, dtype=F64)
    w, r = layer.get_parameter("weight_ih_l0"), layer.get_parameter("weight_hh_l0")
    bias = layer.get_parameter("bias_ih_l0") + layer.get_parameter("bias_hh_l0")
    y, s = torch.zeros(count, size, dtype=F64), torch.zeros(count, size, dtype=F64)
    for x_t in x[:, 0]:
        net = (w @ x_t + r @ y.flatten() + bias).view(3, count, size)
        y_in, y_out = net[0, :, 0].sigmoid(), net[2, :, 0].sigmoid()  # (blocks,)
        s = s + y_in[:, None] * (4 * net[1].sigmoid() - 2)
        y = y_out[:, None] * (2 * s.sigmoid() - 1)
    torch.testing.assert_close(layer(x)[0][-1, 0], y.flatten())


# IRNN, IndRNN, Clockwork.


def test_an_irnn_starts_as_a_sum() -> None:
    """Le, Jaitly and Hinton 2015: with R = I an open unit adds up its inputs."""
    layer = Recurrent("irnn", I, H, dtype=F64, backend="eager")
    assert layer.get_parameter("weight_ih_l0").std() < 0.002
    with torch.no_grad():
        layer.get_parameter("weight_ih_l0").abs_()
    x = torch.rand(50, B, I, dtype=F64)
    sums = (x @ layer.get_parameter("weight_ih_l0").t()).cumsum(0)
    torch.testing.assert_close(layer(x)[0], sums)
    norms = gradient_norms(layer, x, "h")
    torch.testing.assert_close(norms, norms[-1].expand_as(norms))
    half = Recurrent(cells.IRNN(0.5), I, H).get_parameter("weight_hh_l0")
    torch.testing.assert_close(half.data, torch.eye(H) / 2)


def test_the_gradient_of_an_open_ind_rnn_unit_is_a_power_of_u() -> None:
    """Li et al. 2018, equation 4: u to the power of the distance, on open units."""
    layer = made(cells.IndRNN())
    u = torch.linspace(0.5, 1.1, H, dtype=F64)
    with torch.no_grad():
        layer.get_parameter("u_l0").copy_(u)
        layer.get_parameter("weight_ih_l0").abs_()
        layer.get_parameter("bias_ih_l0").abs_()
    h = torch.zeros(1, 1, H, dtype=F64)
    x = torch.rand(40, 1, I, dtype=F64)
    found = jacobian(lambda h: layer(x, h)[1].flatten(), h).view(H, H)
    torch.testing.assert_close(found, torch.diag(u**40))


def test_a_bounded_ind_rnn_stays_below_its_bound_and_still_learns() -> None:
    layer = made(cells.IndRNN("relu", bound=0.8))
    with torch.no_grad():
        layer.get_parameter("u_l0").fill_(5.0)
        layer.get_parameter("weight_ih_l0").abs_()
        layer.get_parameter("bias_ih_l0").abs_()
    x = torch.rand(60, 1, I, dtype=F64)
    norms = gradient_norms(layer, x, "h")
    ratio = 10 ** norms.diff(dim=0).neg()
    assert ratio.max() <= 0.8 + 1e-9
    grad = layer.get_parameter("u_l0").grad
    assert grad is not None and (grad.abs() > 0).all()
    fresh = Recurrent(cells.IndRNN(bound=0.8), I, 200).get_parameter("u_l0")
    used = 0.8 * (fresh / 0.8).tanh()
    assert used.min() >= 0 and used.max() < 0.8 and 0.3 < used.mean() < 0.5


def test_a_clockwork_copies_value_and_gradient_where_it_rests() -> None:
    """Koutník et al. 2014, section 3; eight units in four modules, periods 1, 2, 4, 8."""
    layer = made(cells.Clockwork(4), hidden=8)
    x = torch.randn(8, 1, I, dtype=F64)
    h = layer(x)[0][:, 0]
    for unit in range(8):
        period = 2 ** (unit // 2)
        moved = (h[1:, unit] != h[:-1, unit]).nonzero().flatten() + 1
        assert moved.tolist() == list(range(period, 8, period))
    # From the first step to the last the slowest module rests: its gradient is handed on.
    state = (torch.zeros(1, 1, 8, dtype=F64), torch.full((1, 1, 8), 7.0, dtype=F64))
    start, k = state
    slow = jacobian(lambda s: layer(x[1:], (s, k))[1][0].flatten(), start).view(8, 8)
    torch.testing.assert_close(slow, torch.eye(8, dtype=F64))  # k = 7: all rest for seven steps


def test_a_clockwork_stays_block_triangular_in_training() -> None:
    layer = made(cells.Clockwork(3))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(6, B, I, dtype=F64))[0].square().sum().backward()
        optimizer.step()
    used = layer.weights(0).weight_hh.detach()
    module = torch.arange(H) * 3 // H
    assert (used[module[:, None] > module] == 0).all()
    assert (used[module[:, None] <= module] != 0).all()
