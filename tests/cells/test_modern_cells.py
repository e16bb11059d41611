"""Modern cells against plain loops written from their papers, closed forms and bounds."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_sequence

import steadygrad as sg
from steadygrad.cells import CELLS, Cell, Named
from steadygrad.cells.unitary import permutation
from steadygrad.nn import LRU, MLSTM, Recurrent, Reversible
from steadygrad.scan import BackendError, LoopClip, linear_recurrence

pytestmark = pytest.mark.usefixtures("any_backend")

T, B, I, H = 9, 3, 4, 6
F64 = torch.float64


def made(cell: Cell | str, size: int = H, **options: Any) -> Recurrent:
    """A layer whose parameters all stand off their start, so that every term shows."""
    layer = Recurrent(cell, I, size, dtype=F64, backend="eager", **options)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(torch.empty_like(p).uniform_(-0.4, 0.4))
    return layer


def data(steps: int = T) -> Tensor:
    return torch.randn(steps, B, I, dtype=F64)


def parts(layer: Recurrent) -> tuple[Any, Any, Callable[[str], Tensor]]:
    """W x + b by gate, R by block, and the per-unit parameters by name."""
    own = layer.weights(0)
    w = dict(zip(layer.cell.gates, own.weight_ih.split(layer.hidden_size), strict=True))
    assert own.bias_ih is not None
    bias = dict(zip(layer.cell.gates, own.bias_ih.split(layer.hidden_size), strict=True))
    r, rb = {}, {}
    if layer.cell.recurrent:
        assert own.bias_hh is not None
        r = dict(zip(layer.cell.recurrent, own.weight_hh.split(layer.hidden_size), strict=True))
        rb = dict(zip(layer.cell.recurrent, own.bias_hh.split(layer.hidden_size), strict=True))

    def project(gate: str, x: Tensor) -> Tensor:
        return x @ w[gate].t() + bias[gate]

    def recur(gate: str, h: Tensor) -> Tensor:
        return h @ r[gate].t() + rb[gate]

    return project, recur, lambda name: layer.get_parameter(name + "_l0")


def zeros(size: int = H) -> Tensor:
    return torch.zeros(B, size, dtype=F64)


# Chrono ---------------------------------------------------------------------------------------


def test_chrono_gates_start_with_the_lags_shared_out() -> None:
    # equations.md 12.13: mean sigmoid(b_f) is the mean of tau/(1+tau), tau uniform on [1, lag-1],
    # 1 - ln((1+lag-1)/2)/(lag-2) in closed form; sigmoid(b_i) = 1 - sigmoid(b_f).
    lag = 200.0
    biases = {name: torch.randn(4 * 20_000, dtype=F64) for name in ("bias_ih", "bias_hh")}
    sg.cells.ChronoLSTM(lag=lag).reset_(biases)
    i, f, g, o = biases["bias_ih"].chunk(4)
    wanted = 1 - math.log(lag / 2) / (lag - 2)
    assert abs(float(torch.sigmoid(f).mean()) - wanted) < 1e-3
    torch.testing.assert_close(torch.sigmoid(i), 1 - torch.sigmoid(f))
    assert g.abs().max() == o.abs().max() == biases["bias_hh"].abs().max() == 0
    assert f.exp().min() >= 1 and f.exp().max() <= lag - 1
    layer = Recurrent("lstm-chrono", I, H)
    assert layer.get_parameter("bias_ih_l0")[:H].max() <= 0  # and a layer begins so


def test_a_chrono_lstm_is_an_lstm() -> None:
    # Oracle: torch.nn.LSTM with the same weights.
    layer, x = made("lstm-chrono"), data()
    theirs = nn.LSTM(I, H, dtype=F64)
    theirs.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x)[0], theirs(x)[0])


def test_the_gradient_of_a_chrono_start_comes_back_from_the_lag() -> None:
    x = torch.randn(100, 1, I)
    reached = {}
    for name in ("lstm", "lstm-chrono"):
        torch.manual_seed(0)
        layer = Recurrent(name, I, 32)
        taps: list[Any] = []
        layer.on_tap = lambda _, __, tap, into=taps: into.append(tap)
        layer(x)[0][-1].sum().backward()
        c = taps[0].log10_over_batch("c")
        reached[name] = float(c[0] - c[-2])  # L reaches the last c through h alone
    assert reached["lstm"] < -20 and reached["lstm-chrono"] > -3


# Oscillators ----------------------------------------------------------------------------------


def test_cornn_agrees_with_its_equations_in_plain_loops() -> None:
    # Rusch and Mishra 2021a, equation 3, the explicit form: one unit at a time.
    cell = sg.cells.CoRNN(dt=0.3, gamma=0.7, epsilon=0.4)
    layer, x = made(cell), data()
    project, recur, _ = parts(layer)
    y, z = zeros(), zeros()
    for t in range(T):
        drive = torch.tanh(project("candidate", x[t]) + recur("position", y) + recur("velocity", z))
        z_new = torch.empty_like(z)
        for j in range(H):
            z_new[:, j] = z[:, j] + 0.3 * (drive[:, j] - 0.7 * y[:, j] - 0.4 * z[:, j])
        y, z = y + 0.3 * z_new, z_new
    out, last = layer(x)
    torch.testing.assert_close(out[-1], y)
    torch.testing.assert_close(last[1][0], z)


def test_an_undriven_oscillator_swings_at_its_frequency() -> None:
    # Closed form: y'' = -gamma y - epsilon y', W = V = 0.
    gamma, eps, dt, steps = 2.0, 0.5, 1e-4, 20_000
    cell = sg.cells.CoRNN(dt=dt, gamma=gamma, epsilon=eps)
    unit = Named("unit", {})
    none = Named("x", {"candidate": torch.zeros(1, 1, dtype=F64)})
    still = Named("recur", {n: lambda v: 0 * v for n in cell.recurrent})
    state = (torch.ones(1, 1, dtype=F64), torch.zeros(1, 1, dtype=F64))
    for _ in range(steps):
        state = cell.step(none, still, state, unit)
    t, a, w = steps * dt, eps / 2, math.sqrt(gamma - eps**2 / 4)
    wanted = math.exp(-a * t) * (math.cos(w * t) + a / w * math.sin(w * t))
    assert abs(float(state[0]) - wanted) < 1e-3


def test_cornn_starts_as_one_linear_map_of_all_three() -> None:
    layer = Recurrent("cornn", I, 40)
    bound = (I + 80) ** -0.5
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
        largest = layer.get_parameter(name).abs().max()
        assert 0.8 * bound < largest <= bound
    assert layer.get_parameter("bias_hh_l0").abs().max() == 0


def test_unicornn_agrees_with_its_equations_in_plain_loops() -> None:
    # Rusch and Mishra 2021b, equation 3, neuron by neuron.
    cell = sg.cells.UnICORNN(dt=0.3, alpha=1.7)
    layer, x = made(cell), data()
    project, _, unit = parts(layer)
    w, c = unit("self_weight").detach(), unit("time_scale").detach()
    y, z = zeros(), zeros()
    for t in range(T):
        drive = project("candidate", x[t])
        for j in range(H):
            tau = 0.3 / (1 + math.exp(-float(c[j])))
            z[:, j] -= tau * (torch.tanh(w[j] * y[:, j] + drive[:, j]) + 1.7 * y[:, j]).detach()
            y[:, j] += tau * z[:, j]
    out, last = layer(x)
    torch.testing.assert_close(out[-1], y)
    torch.testing.assert_close(last[1][0], z)


def test_a_unicornn_step_and_its_inverse_cancel() -> None:
    # equations.md 12.11: back to (y, z) within 1e-6, here over 50 steps in float32.
    cell = sg.cells.UnICORNN()
    unit = Named("unit", {"self_weight": torch.rand(H), "time_scale": torch.randn(H)})
    inputs = [Named("x", {"candidate": torch.randn(B, H)}) for _ in range(50)]
    start = (torch.randn(B, H), torch.randn(B, H))
    none: Any = Named("recur", {})
    once = cell.inverse(inputs[0], cell.step(inputs[0], none, start, unit), unit)
    for a, b in zip(once, start, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    state: Any = start
    for x in inputs:
        state = cell.step(x, none, state, unit)
    assert not torch.allclose(state[0], start[0], atol=0.1)
    for x in reversed(inputs):
        state = cell.inverse(x, state, unit)
    for a, b in zip(state, start, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_a_unicornn_step_keeps_volume() -> None:
    # Symplectic: the Jacobian of (y, z) of one unit has determinant one.
    cell = sg.cells.UnICORNN()
    unit = Named("unit", {"self_weight": torch.tensor([0.7]), "time_scale": torch.tensor([0.3])})
    x = Named("x", {"candidate": torch.tensor([0.2])})

    def step(state: Tensor) -> Tensor:
        return torch.cat(cell.step(x, Named("recur", {}), (state[:1], state[1:]), unit))

    jacobian: Any = torch.autograd.functional.jacobian(step, torch.tensor([0.4, -1.3]))
    torch.testing.assert_close(torch.linalg.det(jacobian), torch.tensor(1.0))


def test_unicornn_starts_as_the_released_code() -> None:
    layer = Recurrent("unicornn", I, 4000)
    w, c = layer.get_parameter("self_weight_l0"), layer.get_parameter("time_scale_l0")
    assert 0 <= w.min() and w.max() <= 1 and abs(float(w.detach().mean()) - 0.5) < 0.03
    assert c.abs().max() <= 0.1 and float(c.detach().std()) > 0.05
    bound = math.sqrt(6 / ((1 + 64) * I))
    assert 0.95 * bound < layer.get_parameter("weight_ih_l0").abs().max() <= bound
    assert layer.get_parameter("bias_ih_l0").abs().max() == 0
    assert sum(p.numel() for n, p in layer.named_parameters() if "hh" in n) == 0


def test_a_reversible_layer_is_the_layer_and_keeps_no_states() -> None:
    layer = made("unicornn", num_layers=2)
    x = data(200).requires_grad_()
    start = (torch.randn(2, B, H, dtype=F64), torch.randn(2, B, H, dtype=F64))
    start = tuple(s.requires_grad_() for s in start)
    inputs = [x, *start, *(p for p in layer.parameters() if p.numel())]
    results, kept = [], []
    for run in (layer, Reversible(layer), Reversible(layer)):
        sizes: list[int] = []

        def keep(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out, last = run(x, start)
        loss = out.sin().sum() + last[0].sum() + last[1].square().sum()
        results.append((out, last, torch.autograd.grad(loss, inputs)))
        kept.append(sum(sizes))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])
    assert kept[1] < kept[0] - 2 * 200 * B * H  # at least one state of every step less
    with pytest.raises(TypeError, match="expected a Recurrent of cell unicornn"):
        Reversible(Recurrent("cornn", I, H))
    first = Reversible(made("unicornn", batch_first=True))
    assert first(x.transpose(0, 1))[0].shape == (B, 200, H)


# LEM ------------------------------------------------------------------------------------------


def test_lem_agrees_with_its_equations_in_plain_loops() -> None:
    # Rusch et al. 2022, equation 3, in the order of the paper.
    layer, x = made(sg.cells.LEM(dt=0.6)), data()
    project, recur, _ = parts(layer)
    y, z = zeros(), zeros()
    for t in range(T):
        dt1 = 0.6 * torch.sigmoid(recur("inner_rate", y) + project("inner_rate", x[t]))
        dt2 = 0.6 * torch.sigmoid(recur("rate", y) + project("rate", x[t]))
        z = z + dt1 * (torch.tanh(recur("inner", y) + project("inner", x[t])) - z)
        y = y + dt2 * (torch.tanh(recur("candidate", z) + project("candidate", x[t])) - y)
    torch.testing.assert_close(layer(x)[0][-1], y)


@pytest.mark.parametrize("name", ["lem", "mingru", "minlstm", "slstm"])
def test_states_stay_within_their_bounds(name: str) -> None:
    # equations.md 12.11: LEM within [-1, 1]; minGRU and minLSTM within the hull of the candidates
    # and the start; sLSTM a weighted mean of tanh times a sigmoid.
    layer, x = made(name), 20 * data(50)
    out = layer(x)[0]
    low, high = -1.0, 1.0
    if name.startswith("min"):
        u = parts(layer)[0]("candidate", x).detach()
        g = torch.where(u >= 0, u + 0.5, torch.sigmoid(u))
        low, high = min(0.0, float(g.min())), float(g.max())
    out = out.detach()
    assert float(out.min()) >= low - 1e-12 and float(out.max()) <= high + 1e-12
    assert float(out.abs().max()) > 0.5


# minGRU, minLSTM, the parallel scan -----------------------------------------------------------


def log_space(log_decay: Tensor, log_drive: Tensor) -> Tensor:
    """The paper's appendix B: exp(A + logcumsumexp(log b - A)), A the cumulated log a."""
    a = log_decay.cumsum(0)
    return torch.exp(a + torch.logcumsumexp(log_drive - a, 0))


def log_g(u: Tensor) -> Tensor:
    return torch.where(u >= 0, torch.log(F.relu(u) + 0.5), -F.softplus(-u))


def test_mingru_agrees_with_the_papers_log_space_form() -> None:
    # Feng et al. 2024, appendix B.2.1; their z replaces, so the sign of its pre-activation turns.
    layer, x = made("mingru"), data()
    project, _, _ = parts(layer)
    k = -project("update", x)
    wanted = log_space(-F.softplus(k), -F.softplus(-k) + log_g(project("candidate", x)))
    torch.testing.assert_close(layer(x)[0], wanted)


def test_minlstm_agrees_with_the_papers_log_space_form() -> None:
    # Feng et al. 2024, appendix B.2.2.
    layer, x = made("minlstm"), data()
    project, _, _ = parts(layer)
    diff = F.softplus(-project("forget", x)) - F.softplus(-project("input", x))
    wanted = log_space(-F.softplus(diff), -F.softplus(-diff) + log_g(project("candidate", x)))
    torch.testing.assert_close(layer(x)[0], wanted)


@pytest.mark.parametrize("name", ["mingru", "minlstm"])
@pytest.mark.parametrize("steps", [1, 2, 9, 100])
def test_all_steps_at_once_are_the_steps_one_by_one(name: str, steps: int) -> None:
    layer = made(name, num_layers=2, bidirectional=True)
    x, start = data(steps).requires_grad_(), torch.randn(4, B, H, dtype=F64, requires_grad=True)
    inputs = [x, start, *(p for p in layer.parameters() if p.numel())]
    weight = torch.randn(steps, B, 2 * H, dtype=F64)
    results = []
    for backend in ("eager", "parallel", "parallel"):
        layer.backend = backend
        out, last = layer(x, start)  # a start of either sign
        loss = (out * weight).sum() + (last * last).sum()
        results.append((out, last, torch.autograd.grad(loss, inputs)))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


@pytest.mark.parametrize("name", ["mingru", "minlstm"])
def test_a_cut_sequence_and_packed_rows_in_parallel(name: str) -> None:
    layer, x = made(name, bidirectional=True), data()
    rows = pack_sequence([x[:k, 0] for k in (9, 4, 4, 1)])
    results = []
    for backend in ("eager", "parallel"):
        layer.backend = backend
        taps: list[Any] = []
        layer.on_tap = lambda _, __, tap, into=taps: into.append(tap)
        out, last = layer(rows)
        out.data.square().sum().backward()
        results.append((out.data, last, taps))
    torch.testing.assert_close(results[1][:2], results[0][:2])
    by_direction = [{t.reverse: t for t in taps} for _, _, taps in results]
    for reverse in (False, True):
        ours, theirs = by_direction[1][reverse], by_direction[0][reverse]
        for what in ("log10_norm", "log10_gate", "nonfinite", "present"):
            torch.testing.assert_close(getattr(ours, what), getattr(theirs, what))
    one = made(name)
    one.backend = "parallel"
    whole, head = one(x), one(x[:5])
    tail = one(x[5:], head[1])
    torch.testing.assert_close(torch.cat([head[0], tail[0]]), whole[0])
    torch.testing.assert_close(tail[1], whole[1])


def test_a_parallel_layer_streams_and_is_diagnosed() -> None:
    layer = Recurrent("mingru", I, H, backend="parallel")
    x = torch.randn(T, B, I)
    stream = sg.Stream(layer)
    pushed = torch.stack([stream.push(sample) for sample in x])
    torch.testing.assert_close(pushed, layer(x)[0])
    d = sg.diagnose(layer, lambda: layer(x)[0][-1].square().sum())
    assert (next(iter(d.flow.values())).log10_grad > -12).all()


def test_what_cannot_be_parallel_is_refused_with_a_reason() -> None:
    x = torch.randn(T, B, I)
    with pytest.raises(BackendError, match="LSTM here: its step is not linear in its state"):
        Recurrent("lstm", I, H, backend="parallel")(x)
    layer = Recurrent("mingru", I, H, backend="parallel")
    layer.loop_clip = LoopClip(1.0)
    with pytest.raises(BackendError, match="needs the loop"):
        layer(x)
    layer.backend = None
    layer(x)


@pytest.mark.parametrize("dtype", [F64, torch.complex128])
@pytest.mark.parametrize("steps", [1, 2, 8, 9, 17, 64, 100])
def test_a_linear_recurrence_is_its_loop(steps: int, dtype: torch.dtype) -> None:
    decay, drive = torch.randn(2, steps, 3, dtype=dtype)
    start = torch.randn(3, dtype=dtype)
    states, s = [], start
    for t in range(steps):
        s = decay[t] * s + drive[t]
        states.append(s)
    torch.testing.assert_close(linear_recurrence(decay, drive, start), torch.stack(states))
    torch.testing.assert_close(
        linear_recurrence(decay, drive), linear_recurrence(decay, drive, 0 * start)
    )


@pytest.mark.parametrize("dtype", [F64, torch.complex128])
def test_the_gradient_of_a_linear_recurrence(dtype: torch.dtype) -> None:
    decay, drive = (torch.randn(11, 2, dtype=dtype, requires_grad=True) for _ in range(2))
    start = torch.randn(2, dtype=dtype, requires_grad=True)
    assert torch.autograd.gradcheck(linear_recurrence, (decay, drive, start))
    assert torch.autograd.gradgradcheck(linear_recurrence, (decay, drive, start))


def test_a_linear_recurrence_says_what_is_wrong() -> None:
    one = torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"one shape \(T, ...\), T at least 1, got \(3, 2\)"):
        linear_recurrence(one, one[:2])
    with pytest.raises(ValueError, match=r"initial state \(2,\), got \(3,\)"):
        linear_recurrence(one, one, torch.ones(3))


# LRU ------------------------------------------------------------------------------------------


def test_the_lru_cell_is_a_complex_recurrence() -> None:
    # Orvieto et al. 2023, equation 5 onwards, in complex numbers.
    layer, x = made("lru"), data()
    project, _, unit = parts(layer)
    lam = torch.exp(-torch.exp(unit("nu")) + 1j * torch.exp(unit("theta")))
    s = zeros().to(torch.complex128)
    for t in range(T):
        bx = torch.complex(project("real", x[t]), project("imaginary", x[t]))
        s = lam * s + torch.exp(unit("gamma")) * bx
    out, last = layer(x)
    torch.testing.assert_close(out[-1], s.real)
    torch.testing.assert_close(last[1][0], s.imag)


@pytest.mark.parametrize("steps", [1, 7, 40])
def test_the_lru_layer_is_the_papers(steps: int) -> None:
    layer = LRU(I, H, 5, dtype=F64)
    x = torch.randn(steps, B, I, dtype=F64)
    b, c, d = (layer.get_parameter(n) for n in "BCD")
    lam = torch.exp(
        -torch.exp(layer.get_parameter("nu")) + 1j * torch.exp(layer.get_parameter("theta"))
    )
    s = torch.randn(B, H, dtype=torch.complex128)
    out, last = layer(x, s)
    for t in range(steps):
        bx = x[t].to(s.dtype) @ torch.complex(b[0], b[1]).t()
        s = lam * s + torch.exp(layer.get_parameter("gamma")) * bx
        y = (s @ torch.complex(c[0], c[1]).t()).real + x[t] @ d.t()
        torch.testing.assert_close(out[t], y)
    torch.testing.assert_close(last, s)
    head, carried = layer(x[: steps // 2 + 1])
    if steps > 1:
        tail, end = layer(x[steps // 2 + 1 :], carried)
        whole, last = layer(x)
        torch.testing.assert_close(torch.cat([head, tail]), whole)
        torch.testing.assert_close(end, last)


def test_the_lru_starts_on_its_ring_and_never_leaves_the_circle() -> None:
    layer = LRU(I, 20_000, r_min=0.9, r_max=0.99, max_phase=0.5, dtype=F64)
    lam = layer.eigenvalues().detach()
    assert 0.9 - 1e-6 <= lam.abs().min() and lam.abs().max() <= 0.99 + 1e-6
    # uniform on the ring: |lambda|^2 is uniform, its mean the middle
    assert abs(float(lam.abs().square().mean()) - (0.9**2 + 0.99**2) / 2) < 2e-3
    assert 0 <= lam.angle().min() and lam.angle().max() <= 0.5
    gamma = layer.get_parameter("gamma").detach()
    torch.testing.assert_close(gamma.exp(), (1 - lam.abs().square()).sqrt())
    with torch.no_grad():
        for name in ("nu", "theta"):
            layer.get_parameter(name).normal_(std=5.0)
    assert layer.eigenvalues().abs().max() <= 1
    whole = Recurrent(sg.cells.LRU(), I, 1000)
    for name in ("nu_l0", "theta_l0", "gamma_l0"):
        assert whole.get_parameter(name).isfinite().all()


def test_the_lru_layer_trains_and_says_what_is_wrong() -> None:
    layer = LRU(I, H, dtype=F64, batch_first=True)
    x = torch.randn(B, T, I, dtype=F64, requires_grad=True)
    y, _ = layer(x)
    assert y.shape == (B, T, I)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())
    with pytest.raises(ValueError, match=r"expected input \(B, T, 4\), got \(3, 9\)"):
        layer(x[..., 0])
    with pytest.raises(ValueError, match="r_min <= r_max"):
        LRU(I, H, r_min=0.9, r_max=0.5)
    torch.testing.assert_close(layer.get_parameter("D").detach().triu(1).abs().sum().item(), 0.0)


# xLSTM ----------------------------------------------------------------------------------------


def slstm_without_stabiliser(layer: Recurrent, x: Tensor) -> Tensor:
    """Beck et al. 2024, equations 8 to 14: exponentials as they stand."""
    project, recur, _ = parts(layer)
    h, c, n = zeros(), zeros(), zeros()
    outputs = []
    for x_t in x:
        pre = {g: project(g, x_t) + recur(g, h) for g in layer.cell.gates}
        i, f = torch.exp(pre["input"]), torch.sigmoid(pre["forget"])
        c, n = f * c + i * torch.tanh(pre["candidate"]), f * n + i
        h = torch.sigmoid(pre["output"]) * c / n
        outputs.append(h)
    return torch.stack(outputs)


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_slstm_is_the_same_without_its_stabiliser(heads: int) -> None:
    # equations.md 12.12
    layer, x = made(sg.cells.SLSTM(heads=heads)), data(30)
    torch.testing.assert_close(layer(x)[0], slstm_without_stabiliser(layer, x))


@pytest.mark.parametrize("pre", [80.0, 800.0, -80.0, -800.0])
@pytest.mark.parametrize("gate", [0, 1])
def test_slstm_stays_finite_where_exponentials_overflow(gate: int, pre: float) -> None:
    # equations.md 12.12: exp(80) is near the end of float32, exp(800) beyond that of float64.
    layer = Recurrent("slstm", I, H)
    with torch.no_grad():
        layer.get_parameter("bias_ih_l0").view(4, H)[gate] = pre
    x = torch.randn(50, B, I, requires_grad=True)
    out = layer(x)[0]
    out.sum().backward()
    assert x.grad is not None and out.isfinite().all() and x.grad.isfinite().all()
    assert (out.abs() < 1).all() and out.abs().max() > 0


def test_slstm_heads_do_not_see_each_other() -> None:
    layer = made(sg.cells.SLSTM(heads=3))
    for block in layer.weights(0).weight_hh.detach().split(H):
        mask = torch.block_diag(*[torch.ones(2, 2, dtype=F64)] * 3)
        assert (block * (1 - mask)).abs().sum() == 0 and (block[mask > 0] != 0).all()
    layer(data())[0].sum().backward()
    grad = layer.get_parameter("weight_hh_l0").grad
    assert grad is not None and grad.view(4, H, H)[:, 0, 2:].abs().sum() == 0


def test_slstm_starts_as_the_released_code() -> None:
    for heads, size in ((1, 6), (2, 3)):
        layer = Recurrent(sg.cells.SLSTM(heads), I, H, dtype=F64)
        i, f, g, o = layer.get_parameter("bias_ih_l0").detach().chunk(4)
        wanted = [-(-5 + 12 * (j / (size - 1)) ** 0.3) for j in range(size)] * heads
        torch.testing.assert_close(f, torch.tensor(wanted, dtype=F64))
        assert i.abs().sum() + g.abs().sum() + o.abs().sum() == 0
        assert layer.get_parameter("weight_hh_l0").abs().max() == 0
    linear = Recurrent(sg.cells.SLSTM(forget_bias="linspace"), I, H)
    f = linear.get_parameter("bias_ih_l0").detach().chunk(4)[1]
    torch.testing.assert_close(f, torch.linspace(3, 6, H))


def drawn_mlstm(heads: int, form: Any) -> MLSTM:
    torch.manual_seed(3)
    layer = MLSTM(I, H, heads, form, dtype=F64)
    nn.init.normal_(layer.gates.weight)
    return layer


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_both_forms_of_mlstm_are_its_equations_without_stabiliser(heads: int) -> None:
    # Beck et al. 2024, equations 19 to 27, unstabilised: max(|n q|, 1) with plain exponentials.
    x, d = data(12), H // heads
    layer = drawn_mlstm(heads, "parallel")
    q, k, v, o = layer.project(x).view(12, B, 4, heads, d).unbind(2)
    i, f = layer.gates(x).view(12, B, 2, heads).unbind(2)
    c = torch.zeros(B, heads, d, d, dtype=F64)
    n = torch.zeros(B, heads, d, dtype=F64)
    wanted = []
    for t in range(12):
        it, ft = torch.exp(i[t])[..., None], torch.sigmoid(f[t])[..., None]
        kt = k[t] / math.sqrt(d)
        c = ft[..., None] * c + it[..., None] * torch.einsum("bnv,bnk->bnvk", v[t], kt)
        n = ft * n + it * kt
        size = torch.einsum("bnk,bnk->bn", n, q[t]).abs().clamp(min=1)
        h = torch.einsum("bnvk,bnk->bnv", c, q[t]) / size[..., None]
        wanted.append((torch.sigmoid(o[t]) * h).flatten(1))
    for form in ("parallel", "recurrent"):
        torch.testing.assert_close(drawn_mlstm(heads, form)(x)[0], torch.stack(wanted))


@pytest.mark.parametrize("cut", [1, 5, 8])
def test_both_forms_of_mlstm_carry_their_memory(cut: int) -> None:
    x = data()
    whole, last = drawn_mlstm(2, "parallel")(x)
    for first, second in (("parallel", "recurrent"), ("recurrent", "parallel")):
        head, memory = drawn_mlstm(2, first)(x[:cut])
        tail, end = drawn_mlstm(2, second)(x[cut:], memory)
        torch.testing.assert_close(torch.cat([head, tail]), whole)
        torch.testing.assert_close(end, last)


def test_both_forms_of_mlstm_have_one_gradient() -> None:
    x = data()
    grads = []
    for form in ("parallel", "recurrent"):
        layer = drawn_mlstm(2, form)
        layer(x)[0].square().sum().backward()
        grads.append([p.grad for p in layer.parameters()])
    torch.testing.assert_close(grads[0], grads[1])
    layer = drawn_mlstm(1, "parallel")
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], (x[:4, :1].requires_grad_(),))


@pytest.mark.parametrize("form", ["parallel", "recurrent"])
@pytest.mark.parametrize("pre", [80.0, 800.0, -80.0, -800.0])
def test_mlstm_stays_finite_where_exponentials_overflow(form: Any, pre: float) -> None:
    layer = MLSTM(I, H, 2, form)
    with torch.no_grad():
        layer.gates.bias[:2] = pre
    x = torch.randn(20, B, I, requires_grad=True)
    out = layer(x)[0]
    out.sum().backward()
    assert x.grad is not None and out.isfinite().all() and x.grad.isfinite().all()


def test_mlstm_starts_as_the_released_code_and_says_what_is_wrong() -> None:
    layer = MLSTM(I, 64, 4, batch_first=True)
    assert layer.gates.weight.abs().max() == 0
    torch.testing.assert_close(layer.gates.bias[4:].detach(), torch.tensor([3.0, 4.0, 5.0, 6.0]))
    assert layer(torch.randn(B, T, I))[0].shape == (B, T, 64)
    with pytest.raises(ValueError, match="cannot be cut into 5 heads"):
        MLSTM(I, 64, 5)
    with pytest.raises(ValueError, match="no form 'chunked'"):
        MLSTM(I, 64, form="chunked")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected input \(B, T, 4\)"):
        layer(torch.randn(B, T, 3))


# Unitary --------------------------------------------------------------------------------------


def urnn_factors(layer: Recurrent) -> Tensor:
    """Arjovsky et al. 2016, equation 6, with each factor a matrix of its own."""
    w1, w2, w3, *v = layer.get_parameter("weight_hh_l0").detach()
    one = torch.eye(H, dtype=torch.complex128)
    rows = torch.arange(H, dtype=F64)
    fourier = torch.exp(-2j * math.pi * torch.outer(rows, rows) / H) / math.sqrt(H)

    def turn(w: Tensor) -> Tensor:
        return torch.diag(torch.exp(1j * w))

    def mirror(re: Tensor, im: Tensor) -> Tensor:
        u = torch.complex(re, im)
        return one - 2 * torch.outer(u, u.conj()) / u.abs().square().sum()

    swap = one[permutation(H, 0)]
    inverse = fourier.conj().t()
    r1, r2 = mirror(v[0], v[1]), mirror(v[2], v[3])
    return turn(w3) @ r2 @ inverse @ turn(w2) @ swap @ r1 @ fourier @ turn(w1)


def test_urnn_is_the_product_of_its_factors_in_complex_numbers() -> None:
    layer, x = made("urnn"), data()
    layer.get_parameter("bias_hh_l0").data.zero_()
    project, _, unit = parts(layer)
    u, b = urnn_factors(layer), unit("mod_bias").detach()
    s = zeros().to(torch.complex128)
    for t in range(T):
        z = s @ u.t() + torch.complex(project("real", x[t]), project("imaginary", x[t]))
        s = torch.relu(z.abs() + b) * z / z.abs()
    out, last = layer(x)
    torch.testing.assert_close(out[-1], s.real)
    torch.testing.assert_close(last[1][0], s.imag)


def test_the_urnn_matrix_stays_unitary_and_its_gradient_never_grows() -> None:
    layer = Recurrent("urnn", I, H, backend="eager")
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    x, wanted = torch.randn(5, B, I), torch.randn(5, B, H)
    for _ in range(200):
        optimizer.zero_grad()
        (layer(x)[0] - wanted).square().mean().backward()
        optimizer.step()
    re, im = layer.weights(0).weight_hh.detach().split(H)
    u = torch.complex(re, im)
    assert torch.linalg.matrix_norm(u.mH @ u - torch.eye(H)) < 1e-5
    # The paper's bound; a positive bias would stretch what is across z.
    layer.get_parameter("mod_bias_l0").data.clamp_(max=0)
    taps: list[Any] = []
    layer.on_tap = lambda _, __, tap: taps.append(tap)
    layer(torch.randn(300, 1, I))[0][-1].sum().backward()
    norms = torch.logsumexp(taps[0].log10_norm[:, :, 0] * math.log(100), 0)  # of both parts
    assert (norms.diff() >= -1e-3).all()


def test_urnn_at_zero_has_a_finite_gradient() -> None:
    layer = Recurrent("urnn", I, H, backend="eager")
    x = torch.zeros(T, B, I, requires_grad=True)
    out = layer(x)[0]
    out.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and out.abs().max() == 0


# All of them ----------------------------------------------------------------------------------

MODERN = ["lstm-chrono", "cornn", "unicornn", "lem", "lru", "mingru", "minlstm", "slstm", "urnn"]


@pytest.mark.parametrize("name", MODERN)
def test_options_out_of_range_are_refused(name: str) -> None:
    bad: dict[str, dict[str, Any]] = {
        "lstm-chrono": {"lag": 2.0},
        "cornn": {"dt": 0.0},
        "unicornn": {"alpha": math.inf},
        "lem": {"dt": 1.5},
        "lru": {"r_max": 1.5},
        "slstm": {"heads": 0},
    }
    if name in bad:
        with pytest.raises(ValueError, match=next(iter(bad[name]))):
            CELLS[name](**bad[name])
