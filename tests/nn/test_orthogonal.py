"""Matrices that keep their form while they learn: the form is measured, not believed."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import steadygrad as sg
from steadygrad.cells.mod_relu import mod_relu
from steadygrad.nn import Recurrent, free_, orthogonal_, rebase_, spectral_margin_

pytestmark = pytest.mark.usefixtures("any_backend")

H, I, B, T = 6, 3, 4, 5


def layers() -> list[nn.Module]:
    return [
        nn.RNN(I, H),
        nn.LSTM(I, H, num_layers=2, bidirectional=True),
        nn.GRU(I, H),
        nn.LSTMCell(I, H),
        Recurrent("elman", I, H),
        Recurrent("lstm", I, H, num_layers=2, bidirectional=True),
        Recurrent("gru-original", I, H),
    ]


ALL = range(len(layers()))


def blocks(layer: Any) -> Tensor:
    """All recurrent blocks of a layer as it uses them, (N, H, H)."""
    names = nn.utils.parametrize.is_parametrized(layer) and list(layer.parametrizations)
    names = names or [n for n, _ in layer.named_parameters() if n.startswith("weight_hh")]
    return torch.cat([getattr(layer, n).detach().view(-1, H, H) for n in names])


def defect(r: Tensor) -> float:
    """Largest ||R^T R - I||_F."""
    eye = torch.eye(r.shape[-1], dtype=r.dtype)
    return float(torch.linalg.matrix_norm(r.mT @ r - eye).max())


def run(layer: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(layer, nn.RNNCellBase):
        return layer(x)[0]
    state: Any = None
    for sample in x[:3]:
        state = layer(sample, state)
    return state[0]


def train(layer: nn.Module, steps: int, lr: float = 0.01) -> None:
    """Optimiser steps on a loss that pulls hard at the recurrent matrix."""
    optimizer = torch.optim.Adam(layer.parameters(), lr=lr)
    x, wanted = torch.randn(T, B, I), None
    for _ in range(steps):
        optimizer.zero_grad()
        out = run(layer, x)
        wanted = torch.randn_like(out) if wanted is None else wanted
        (out - wanted).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("map", ["matrix_exp", "cayley"])
@pytest.mark.parametrize("index", ALL)
def test_every_block_is_orthogonal_before_and_after_training(index: int, map: Any) -> None:
    layer = orthogonal_(layers()[index], map)
    before = blocks(layer)
    assert defect(before) < 1e-5
    train(layer, 20)
    after = blocks(layer)
    assert defect(after) < 1e-5
    assert (after - before).abs().amax((1, 2)).min() > 1e-3  # and it learned
    assert (torch.linalg.det(after).sign() == torch.linalg.det(before).sign()).all()


@pytest.mark.parametrize("map", ["matrix_exp", "cayley"])
def test_hundreds_of_optimiser_steps_leave_it_orthogonal(map: Any) -> None:
    # equations.md 12.10: ||W^T W - I||_F < 1e-5 in float32
    layer = orthogonal_(Recurrent("elman", I, H), map)
    train(layer, 300, lr=0.05)
    assert defect(blocks(layer)) < 1e-5


@pytest.mark.parametrize("name", ["exprnn", "scornn"])
def test_hundreds_of_steps_of_a_cell_orthogonal_by_construction(name: str) -> None:
    layer = Recurrent(name, I, H)
    sign = torch.linalg.det(layer.weights(0).weight_hh).sign()
    train(layer, 300, lr=0.05)
    r = layer.weights(0).weight_hh.detach()
    assert defect(r) < 1e-5
    # exp(skew) is a rotation; the sign of a scaled Cayley transform is that of D: (-1)^3 here
    assert torch.linalg.det(r).sign() == sign == (1 if name == "exprnn" else -1)


@pytest.mark.parametrize("map", ["matrix_exp", "cayley"])
def test_one_block_agrees_with_torchs_own_parametrisation(map: Any) -> None:
    # Oracle: torch.nn.utils.parametrizations.orthogonal, which writes the maps on its own.
    start = nn.init.orthogonal_(torch.empty(H, H, dtype=torch.float64))
    a = Recurrent("elman", I, H, dtype=torch.float64)
    with torch.no_grad():
        a.get_parameter("weight_hh_l0").copy_(start)
    b = copy.deepcopy(a)
    orthogonal_(a, map)
    parametrizations.orthogonal(b, "weight_hh_l0", map)
    torch.testing.assert_close(a.weight_hh_l0, b.weight_hh_l0)
    for layer in (a, b):
        held: Any = layer.parametrizations
        with torch.no_grad():
            held.weight_hh_l0.original.copy_(torch.arange(H * H).view(H, H).sin())
    held: Any = b.parametrizations
    # Both take the lower triangle; torch's base stands on the left, as ours.
    torch.testing.assert_close(a.weight_hh_l0, b.weight_hh_l0)


def test_the_cells_matrices_agree_with_torchs_maps() -> None:
    stored = torch.randn(H, H, dtype=torch.float64)
    a = stored.tril(-1) - stored.tril(-1).t()
    eye = torch.eye(H, dtype=torch.float64)
    exp = sg.cells.ExpRNN().recurrent_matrix(stored)
    torch.testing.assert_close(exp, torch.linalg.matrix_exp(a))
    d = torch.diag(torch.tensor([-1.0, -1, -1, 1, 1, 1], dtype=torch.float64))
    sco = sg.cells.ScoRNN().recurrent_matrix(stored)
    torch.testing.assert_close(sco, torch.linalg.inv(eye + a) @ (eye - a) @ d)
    assert not torch.allclose(sco, sg.cells.ScoRNN(negative=0.0).recurrent_matrix(stored))


@pytest.mark.parametrize("index", ALL)
def test_it_starts_at_the_nearest_orthogonal_matrix_and_can_be_undone(index: int) -> None:
    layer = layers()[index]
    plain = blocks(layer)
    held = {id(p) for p in layer.parameters()}
    u, _, v = torch.linalg.svd(plain.double())
    orthogonal_(layer)
    torch.testing.assert_close(blocks(layer), (u @ v).float(), atol=1e-5, rtol=0)
    assert {id(p) for p in layer.parameters()} == held  # an optimiser made before holds them
    train(layer, 3)
    x = torch.randn(T, B, I)
    out, kept = run(layer, x).detach(), blocks(layer)
    assert free_(layer) is layer
    assert not nn.utils.parametrize.is_parametrized(layer)
    assert {id(p) for p in layer.parameters()} == held
    torch.testing.assert_close(blocks(layer), kept, rtol=0, atol=0)
    torch.testing.assert_close(run(layer, x), out)
    train(layer, 20)
    assert defect(blocks(layer)) > 1e-3


@pytest.mark.parametrize("index", ALL)
def test_its_state_is_saved_and_loaded_and_copied(index: int) -> None:
    layer = orthogonal_(layers()[index])
    train(layer, 3)
    x = torch.randn(T, B, I)
    other = orthogonal_(layers()[index])
    other.load_state_dict(layer.state_dict(), strict=True)
    torch.testing.assert_close(run(other, x), run(layer, x), rtol=0, atol=0)
    torch.testing.assert_close(run(copy.deepcopy(layer), x), run(layer, x), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_torchs_layer_and_ours_train_alike(kind: str) -> None:
    theirs = getattr(nn, kind)(I, H).double()
    ours = getattr(sg, kind)(I, H, dtype=torch.float64, backend="eager")
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(T, B, I, dtype=torch.float64)
    for layer in (theirs, ours):
        orthogonal_(layer)
        layer(x)[0].square().sum().backward()
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_moving_the_base_changes_no_value_and_no_later_form() -> None:
    layer = orthogonal_(Recurrent("gru", I, H))
    train(layer, 10)
    x = torch.randn(T, B, I)
    before = run(layer, x)
    rebase_(layer)
    torch.testing.assert_close(run(layer, x), before, atol=1e-5, rtol=0)
    held: Any = layer.parametrizations
    assert held.weight_hh_l0.original.abs().max() == 0
    train(layer, 10)
    assert defect(blocks(layer)) < 1e-5


@pytest.mark.parametrize(
    "margin", [0.1, *(pytest.param(m, marks=pytest.mark.slow) for m in (0.0, 0.5))]
)
@pytest.mark.parametrize("index", ALL)
def test_singular_values_stay_within_the_margin(index: int, margin: float) -> None:
    layer = spectral_margin_(layers()[index], margin)
    before = torch.linalg.svdvals(blocks(layer))
    train(layer, 30, lr=0.05)
    after = torch.linalg.svdvals(blocks(layer))
    for s in (before, after):
        assert (s - 1).abs().max() <= margin + 1e-5
    if margin:
        assert (after - before).abs().max() > 1e-3


def test_a_matrix_inside_the_margin_is_kept() -> None:
    layer = Recurrent("elman", I, H, dtype=torch.float64)
    u, _, v = torch.linalg.svd(torch.randn(H, H, dtype=torch.float64))
    inside = (u * torch.linspace(0.7, 1.4, H, dtype=torch.float64)) @ v
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0").copy_(inside)
    spectral_margin_(layer, 0.5)
    torch.testing.assert_close(layer.weights(0).weight_hh.detach(), inside)


def trained_linear(name: str) -> Tensor:
    """R of an orthogonal layer after 100 training steps."""
    layer = Recurrent(name, I, 32) if "rnn" in name else orthogonal_(Recurrent(name, I, 32))
    train(layer, 30, lr=0.05)
    assert isinstance(layer, Recurrent)
    return layer.weights(0).weight_hh.detach().split(32)[-1]


@pytest.mark.parametrize("name", ["exprnn", "scornn", "elman", "gru"])
def test_a_linear_signal_keeps_its_norm_over_a_thousand_steps(name: str) -> None:
    # The linear recurrence h_t = R h_{t-1} with the trained matrix, and its gradient R^T delta.
    r = trained_linear(name)
    for matrix in (r, r.t()):
        h = torch.randn(32, 8)
        start = h.norm(dim=0)
        for _ in range(1000):
            h = matrix @ h
        torch.testing.assert_close(h.norm(dim=0), start, rtol=1e-4, atol=0)


def test_the_layer_itself_keeps_the_gradient_over_a_thousand_steps() -> None:
    # equations.md 12.2, through the product: with b = 0 an exprnn is linear.
    layer = Recurrent("exprnn", I, H)
    train(layer, 100)
    with torch.no_grad():
        layer.get_parameter("mod_bias_l0").zero_()
    seen = []
    layer.on_tap = lambda layer, reverse, tap: seen.append(tap)
    layer(torch.randn(1000, 1, I))[0][-1].sum().backward()
    norms = seen[0].log10_over_batch()
    assert norms.shape == (1000,)
    torch.testing.assert_close(norms, norms[-1].expand(1000), rtol=0, atol=1e-4)


def test_what_cannot_be_orthogonal_is_refused_with_a_reason() -> None:
    with pytest.raises(TypeError, match="expected a steadygrad layer"):
        orthogonal_(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="proj_size"):
        orthogonal_(sg.LSTM(3, 6, proj_size=2))
    with pytest.raises(ValueError, match="ScoRNN has a form of its own"):
        orthogonal_(Recurrent("scornn", 3, 4))
    with pytest.raises(ValueError, match="no map 'qr'"):
        orthogonal_(nn.RNN(3, 4), "qr")  # type: ignore[arg-type]
    layer = orthogonal_(nn.RNN(3, 4))
    with pytest.raises(ValueError, match="parametrised already"):
        spectral_margin_(layer)
    with pytest.raises(ValueError, match="not parametrised"):
        free_(nn.RNN(3, 4))
    with pytest.raises(ValueError, match="not orthogonal by construction"):
        rebase_(nn.RNN(3, 4))
    with pytest.raises(ValueError, match="margin must be"):
        spectral_margin_(nn.RNN(3, 4), 1.0)


def test_a_stream_follows_an_orthogonal_layer() -> None:
    layer = orthogonal_(Recurrent("gru", I, H))
    stream = sg.Stream(layer)
    x = torch.randn(T, B, I)
    for _ in range(2):
        stream.reset()
        pushed = torch.stack([stream.push(sample) for sample in x])
        torch.testing.assert_close(pushed, layer(x)[0])
        train(layer, 2)


@pytest.mark.parametrize("start", ["torus", "cayley"])
def test_exprnn_starts_with_rotations_of_pairs(start: Any) -> None:
    r = sg.cells.ExpRNN(start)
    layer = Recurrent(r, I, 200, dtype=torch.float64)
    angles = torch.linalg.eigvals(layer.weights(0).weight_hh.detach()).angle()
    paired = angles.sort().values
    torch.testing.assert_close(paired, -paired.flip(0))  # conjugate pairs
    # torus: uniform up to pi; cayley: tan(t/2), t below pi/2, used as an angle: below 1
    assert (angles.abs().max() > 2.8) if start == "torus" else (0.9 < angles.abs().max() < 1)


def test_scornn_starts_with_rotations_up_to_a_quarter_turn() -> None:
    # Helfrich et al. 2018: the blocks of A are made so that the Cayley transform turns by t.
    layer = Recurrent(sg.cells.ScoRNN(negative=0.0), I, 200, dtype=torch.float64)
    angles = torch.linalg.eigvals(layer.weights(0).weight_hh.detach()).angle().abs()
    assert 1.5 < angles.max() <= torch.pi / 2
    assert abs(float(angles.mean()) - torch.pi / 4) < 0.1
    assert layer.get_parameter("weight_ih_l0").abs().max() <= 0.01


def test_mod_relu_keeps_the_sign_and_moves_the_size() -> None:

    z = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])
    torch.testing.assert_close(mod_relu(z, torch.tensor(0.0)), z)
    torch.testing.assert_close(mod_relu(z, torch.tensor(-2.0)), torch.tensor([-1.0, 0, 0, 0, 1]))
    torch.testing.assert_close(mod_relu(z, torch.tensor(1.0)), torch.tensor([-4.0, -2, 0, 2, 4]))


@pytest.mark.parametrize("name", ["antisymmetric", "antisymmetric-gated"])
def test_the_eigenvalues_of_an_antisymmetric_matrix_stay_imaginary(name: str) -> None:
    layer = Recurrent(name, I, H)
    train(layer, 50)
    r = layer.weights(0).weight_hh.detach()
    assert torch.equal(r, -r.t())
    assert torch.linalg.eigvals(r.double()).real.abs().max() < 1e-6


def test_antisymmetric_cells_agree_with_plain_loops_of_the_paper() -> None:
    # Second formulation: Chang et al. 2019, equations 10 to 12, W - W^T - gamma I written out.
    eps, gamma = 0.3, 0.2
    x = torch.randn(T, B, I, dtype=torch.float64)
    for gated in (False, True):
        cell = (sg.cells.GatedAntisymmetric if gated else sg.cells.Antisymmetric)(eps, gamma)
        layer = Recurrent(cell, I, H, bias=False, dtype=torch.float64)
        w, v = layer.get_parameter("weight_hh_l0"), layer.get_parameter("weight_ih_l0")
        m = w - w.t() - gamma * torch.eye(H)
        h = torch.zeros(B, H, dtype=torch.float64)
        for t in range(T):
            step = torch.tanh(h @ m.t() + x[t] @ v[-H:].t())
            h = h + eps * step * (torch.sigmoid(h @ m.t() + x[t] @ v[:H].t()) if gated else 1)
        torch.testing.assert_close(layer(x)[0][-1], h)


@pytest.mark.parametrize("start", ["orthogonal", "identity"])
def test_a_linear_transition_carries_what_the_input_left(start: Any) -> None:
    # Closed form: h_T = sum_t R^(T-t) phi(W x_t + b).
    cell = sg.cells.LinearTransition(start, "tanh")
    layer = Recurrent(cell, I, H, dtype=torch.float64)
    r = layer.weights(0).weight_hh.detach()
    assert defect(r) < 1e-12 and (start == "orthogonal" or torch.equal(r, torch.eye(H).double()))
    x = torch.randn(T, B, I, dtype=torch.float64)
    own = layer.weights(0)
    assert own.bias_ih is not None
    parts = torch.tanh(x @ own.weight_ih.t() + own.bias_ih)
    wanted = sum(p @ torch.linalg.matrix_power(r.t(), T - 1 - t) for t, p in enumerate(parts))
    torch.testing.assert_close(layer(x)[0][-1], wanted)
    relu = Recurrent(sg.cells.LinearTransition(start), I, H, dtype=torch.float64)
    relu.load_state_dict(layer.state_dict())
    assert not torch.allclose(relu(x)[0], layer(x)[0])


def test_henaffs_unit_adds_in_closed_form() -> None:
    # Henaff et al. 2016: one unit with U = [1 1], b = -1, V = 1 and ReLU solves adding exactly.
    layer = Recurrent(sg.cells.LinearTransition("identity"), 2, 1)
    for name, value in (("weight_ih_l0", 1.0), ("weight_hh_l0", 1.0), ("bias_ih_l0", -1.0)):
        nn.init.constant_(layer.get_parameter(name), value)
    nn.init.zeros_(layer.get_parameter("bias_hh_l0"))
    values, marks = torch.rand(50), torch.zeros(50)
    marks[[7, 33]] = 1
    out = layer(torch.stack([values, marks], 1).unsqueeze(1))[0]
    torch.testing.assert_close(out[-1, 0, 0], values[7] + values[33])


def test_options_out_of_range_are_refused() -> None:
    cells: Any = sg.cells
    with pytest.raises(ValueError, match="epsilon must be a finite number above 0, got -1"):
        cells.Antisymmetric(epsilon=-1)
    with pytest.raises(ValueError, match="negative must be a share"):
        cells.ScoRNN(negative=2)
    with pytest.raises(ValueError, match="Select from torus, cayley"):
        cells.ExpRNN("x")
    with pytest.raises(ValueError, match="Unknown start 'x'"):
        cells.LinearTransition("x")
    with pytest.raises(ValueError, match="Unknown nonlinearity 'x'"):
        cells.LinearTransition(nonlinearity="x")
