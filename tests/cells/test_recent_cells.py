"""RG-LRU, S4D, S6, ParaGRU, ParaLSTM and CfC, each against a second formulation of its paper's.

And what their docstrings say of the gradient: bounds, and what a start looks like.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import steadygrad as sg
from steadygrad import cells
from steadygrad.cells import Cell
from steadygrad.flow import step_jacobians
from steadygrad.nn import Recurrent
from steadygrad.scan import BackendError

T, B, I, H = 9, 3, 4, 6
F64 = torch.float64


def made(cell: Cell, size: int = H, spread: float = 0.4, **options: Any) -> Recurrent:
    """A layer whose parameters all stand off their start, so that every term shows."""
    torch.manual_seed(1)
    layer = Recurrent(cell, I, size, dtype=F64, backend="eager", **options)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(torch.empty_like(p).uniform_(-spread, spread))
    return layer


def data(steps: int = T) -> Tensor:
    return torch.randn(steps, B, I, dtype=F64)


def unit(layer: Recurrent, name: str) -> Tensor:
    return layer.get_parameter(name + "_l0").detach()


def maps(layer: Recurrent) -> dict[str, nn.Linear]:
    """W and b_ih of every gate as torch's linear layer."""
    own, found = layer.weights(0), {}
    assert own.bias_ih is not None
    parts = own.weight_ih.split(layer.hidden_size), own.bias_ih.split(layer.hidden_size)
    for gate, weight, bias in zip(layer.cell.gates, *parts, strict=True):
        found[gate] = nn.Linear(I, layer.hidden_size, dtype=F64).requires_grad_(False)
        found[gate].weight.copy_(weight)
        found[gate].bias.copy_(bias)
    return found


# RG-LRU ---------------------------------------------------------------------------------------


def test_rg_lru_is_its_equations_in_plain_loops() -> None:
    # De et al. 2024, equations 1 to 4, with a power in place of a logarithm.
    layer, x = made(cells.RGLRU()), data()
    w, a, h = maps(layer), torch.sigmoid(unit(layer, "decay")), torch.zeros(B, H, dtype=F64)
    wanted = []
    for x_t in x:
        r, i = torch.sigmoid(w["recurrence"](x_t)), torch.sigmoid(w["input"](x_t))
        a_t = a ** (8 * r)
        h = a_t * h + torch.sqrt(1 - a_t**2) * (i * w["candidate"](x_t))
        wanted.append(h)
    torch.testing.assert_close(layer(x)[0], torch.stack(wanted))


def test_rg_lru_keeps_at_least_its_bound_and_never_grows() -> None:
    layer, x = made(cells.RGLRU()), 20 * data()
    jacobian = step_jacobians(layer, x)
    kept = jacobian.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(torch.diag_embed(kept), jacobian, rtol=0, atol=0)
    least = torch.sigmoid(unit(layer, "decay")) ** 8
    assert (kept >= least * (1 - 1e-12)).all() and (kept <= 1).all()
    assert kept.max() > 0.999 and (kept / least).min() < 1.001  # and both are reached


def test_rg_lru_starts_with_the_decays_of_the_paper() -> None:
    torch.manual_seed(0)
    layer = Recurrent(cells.RGLRU(), I, 20_000, dtype=F64)
    open_gate = torch.sigmoid(unit(layer, "decay")) ** 8
    assert open_gate.min() >= 0.9 - 1e-9 and open_gate.max() <= 0.999 + 1e-9
    assert abs(float(open_gate.mean()) - (0.9 + 0.999) / 2) < 1e-3
    assert abs(float(unit(layer, "weight_ih").std()) - I**-0.5) < 0.01


@pytest.mark.parametrize("backend", ["eager", "parallel"])
def test_a_closed_recurrence_gate_has_a_finite_gradient(backend: str) -> None:
    # a = 1 exactly: the slope of sqrt(1 - a^2) is infinite there.
    layer = Recurrent(cells.RGLRU(), I, H, backend=backend)
    with torch.no_grad():
        layer.get_parameter("bias_ih_l0")[:H] = -200.0
    x = torch.randn(T, B, I, requires_grad=True)
    out = layer(x)[0]
    out.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and out.abs().max() < 1e-4
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


# ParaGRU and ParaLSTM -------------------------------------------------------------------------


def test_para_gru_is_its_equations_with_diagonal_matrices() -> None:
    # Danieli et al. 2025, equation 3.1a with A = diag(a).
    layer, x = made(cells.ParaGRU()), data()
    w, h = maps(layer), torch.zeros(B, H, dtype=F64)
    a = {g: torch.diag(unit(layer, f"recurrent_{g}")) for g in ("update", "reset", "candidate")}
    wanted = []
    for x_t in x:
        z = torch.sigmoid(h @ a["update"] + w["update"](x_t))
        r = torch.sigmoid(h @ a["reset"] + w["reset"](x_t))
        c = torch.tanh((h * r) @ a["candidate"] + w["candidate"](x_t))
        h = (1 - z) * h + z * c
        wanted.append(h)
    torch.testing.assert_close(layer(x)[0], torch.stack(wanted))


def test_para_lstm_is_its_equations_with_diagonal_matrices() -> None:
    # Danieli et al. 2025, equation 3.1b with A = diag(a), C = diag(p); f before c before o.
    layer, x = made(cells.ParaLSTM()), data()
    w, h = maps(layer), torch.zeros(B, H, dtype=F64)
    a = {g: torch.diag(unit(layer, f"recurrent_{g}")) for g in ("forget", "candidate", "output")}
    p = {g: torch.diag(unit(layer, f"peephole_{g}")) for g in ("forget", "output")}
    c, wanted = h, []
    for x_t in x:
        f = torch.sigmoid(h @ a["forget"] + c @ p["forget"] + w["forget"](x_t))
        g = torch.tanh(h @ a["candidate"] + w["candidate"](x_t))
        c = f * c + (1 - f) * g
        o = torch.sigmoid(h @ a["output"] + c @ p["output"] + w["output"](x_t))
        h = o * torch.tanh(c)
        wanted.append(h)
    torch.testing.assert_close(layer(x)[0], torch.stack(wanted))


def test_the_gradient_of_para_cells_is_diagonal_and_within_its_bound() -> None:
    for spread in (0.5, 3.0):
        gru, x = made(cells.ParaGRU(), spread=spread), 3 * data(40)
        jacobian = step_jacobians(gru, x)
        factor = jacobian.diagonal(dim1=-2, dim2=-1)
        torch.testing.assert_close(torch.diag_embed(factor), jacobian, rtol=0, atol=0)
        az, ar, an = (unit(gru, f"recurrent_{g}").abs() for g in ("update", "reset", "candidate"))
        bound = 1 + az / 2 + an * (1 + ar / 4)
        assert (factor.abs() <= bound).all() and (factor.abs() / bound).max() > 0.3
        lstm = made(cells.ParaLSTM(), spread=spread)
        blocks = step_jacobians(lstm, x)
        for block in (blocks[..., :H, :H], blocks[..., :H, H:], blocks[..., H:, H:]):
            of_units = block.diagonal(dim1=-2, dim2=-1)
            torch.testing.assert_close(torch.diag_embed(of_units), block, rtol=0, atol=0)
        memory = blocks[..., H:, H:].abs().amax((-1, -2, 0, 1))
        assert memory <= 1 + unit(lstm, "peephole_forget").abs().max() / 2


def test_para_cells_start_small_as_in_the_paper() -> None:
    torch.manual_seed(0)
    for cell in (cells.ParaGRU(), cells.ParaLSTM()):
        layer = Recurrent(cell, I, 10_000)
        for name in cell.per_unit:
            assert abs(float(unit(layer, name).std()) * 100 - 1) < 0.05
        assert unit(layer, "bias_ih").abs().max() == 0
        bound = (6 / (1 + 5) / I) ** 0.5  # Kaiming uniform with a slope of sqrt(5)
        assert 0.99 * bound < unit(layer, "weight_ih").abs().max() <= bound


# CfC ------------------------------------------------------------------------------------------


def released_cfc(layer: Recurrent, x: Tensor, cell: cells.CfC) -> Tensor:
    """Hasani et al. 2022 by torch's linear layers over (x, h), as their code has it."""
    own, size = layer.weights(0), layer.hidden_size
    assert own.bias_ih is not None and own.bias_hh is not None
    into, back = own.weight_ih.split(size), own.weight_hh.split(size)
    shift = own.bias_hh.split(size)
    seeing = [
        (torch.cat([w, r], 1), b + c)
        for w, r, b, c in zip(into, back, own.bias_ih.split(size), shift, strict=False)
    ]
    h, out = x.new_zeros(x.shape[1], size), []
    for x_t in x:
        seen = torch.cat([x_t, h], 1)
        if cell.backbone:
            seen = 1.7159 * torch.tanh(0.666 * F.linear(seen, *seeing[0]))
            heads = zip(back[1:], shift[1:], strict=True)
        else:
            heads = iter(seeing)
        g, k, a, b = (F.linear(seen, *head) for head in heads)
        s = torch.sigmoid(a * cell.dt + b)
        if cell.mode == "no_gate":
            h = torch.tanh(g) + s * torch.tanh(k)
        else:
            h = torch.tanh(g) * (1.0 - s) + s * torch.tanh(k)
        out.append(h)
    return torch.stack(out)


@pytest.mark.parametrize("backbone", [True, False])
@pytest.mark.parametrize(("mode", "dt"), [("default", 1.0), ("default", 0.25), ("no_gate", 2.0)])
def test_cfc_is_the_released_cell(backbone: bool, mode: Any, dt: float) -> None:
    cell = cells.CfC(mode, backbone, dt)
    layer, x = made(cell), data()
    torch.testing.assert_close(layer(x)[0], released_cfc(layer, x, cell))


@pytest.mark.parametrize("backbone", [True, False])
@pytest.mark.parametrize("mode", ["default", "no_gate"])
def test_the_gradient_of_a_cfc_is_bounded_by_its_matrices_alone(mode: Any, backbone: bool) -> None:
    cell = cells.CfC(mode, backbone, dt=2.0)
    layer, x = made(cell, spread=0.1), 0.1 * data(20)
    blocks = dict(zip(cell.recurrent, layer.weights(0).weight_hh.split(H), strict=True))
    n = {name: float(torch.linalg.matrix_norm(r.detach(), 2)) for name, r in blocks.items()}
    bound = n["first"] + n["second"] + (2 * n["rate"] + n["shift"]) / 2
    if backbone:
        bound *= 1.7159 * 0.666 * n["backbone"]
    largest = float(torch.linalg.matrix_norm(step_jacobians(layer, x).detach(), 2).max())
    assert 0.05 * bound < largest <= bound
    out = layer(50 * x)[0].abs().max()
    assert out < 1 if mode == "default" else out < 2


def test_cfc_starts_as_xavier_maps_of_input_and_state() -> None:
    torch.manual_seed(0)
    layer = Recurrent(cells.CfC(), I, 60)
    joint, own = (6 / (I + 60 + 60)) ** 0.5, (6 / 120) ** 0.5
    into, back = unit(layer, "weight_ih"), unit(layer, "weight_hh").split(60)
    for part, bound in ((into, joint), (back[0], joint), *((b, own) for b in back[1:])):
        assert 0.95 * bound < part.abs().max() <= bound
    assert unit(layer, "bias_hh")[:60].abs().max() == 0 < unit(layer, "bias_hh")[60:].abs().max()


# S4D ------------------------------------------------------------------------------------------


def s4d_system(layer: Recurrent) -> tuple[Tensor, Tensor, Tensor]:
    """Step size (H,), and A and C (modes, H), complex."""
    every = range(1, layer.cell.modes + 1)  # type: ignore[attr-defined]

    def of(name: str) -> Tensor:
        return torch.stack([unit(layer, f"{name}_{n}") for n in every])

    a = torch.complex(-torch.exp(of("log_decay")), of("frequency"))
    return torch.exp(unit(layer, "log_step")), a, torch.complex(of("c_real"), of("c_imaginary"))


@pytest.mark.parametrize("modes", [1, 3])
def test_s4d_is_a_convolution_with_the_papers_kernel(modes: int) -> None:
    # Gu et al. 2022, section 3.1: K_l = 2 Re sum_n C_n (exp(dA_n) - 1) / A_n exp(l dA_n).
    layer, x = made(cells.S4D(modes)), data(40)
    dt, a, c = s4d_system(layer)
    powers = torch.exp((dt * a)[None] * torch.arange(40, dtype=F64)[:, None, None])
    kernel = 2 * (c * (torch.exp(dt * a) - 1) / a * powers).sum(1).real
    u = maps(layer)["candidate"](x)
    wanted = unit(layer, "skip") * u
    for lag in range(40):
        wanted[lag:] += kernel[lag] * u[: 40 - lag]
    torch.testing.assert_close(layer(x)[0], wanted)


def test_a_mode_of_s4d_shrinks_by_its_own_rate_and_never_grows() -> None:
    layer = made(cells.S4D(2), spread=3.0)
    seen: list[Any] = []
    layer.on_tap = lambda _, __, tap: seen.append(tap)
    layer(data(30)[:, :1])[1][3].sum().backward()  # the real part of the second mode
    both = torch.stack([seen[0].log10_norm[i, :, 0] for i in (3, 4)])
    norms = torch.logsumexp(both * math.log(100), 0) / 2
    dt, a, _ = s4d_system(layer)
    back = torch.arange(29, -1, -1, dtype=F64)[:, None]
    wanted = torch.logsumexp(2 * back * (dt * a[1].real), 1) / 2
    torch.testing.assert_close(norms, wanted)
    assert (norms.diff() > 0).all()


def test_s4d_starts_as_s4d_lin() -> None:
    torch.manual_seed(0)
    layer = Recurrent(cells.S4D(), I, 20_000, dtype=F64)
    dt, a, c = s4d_system(layer)
    assert 0.001 <= dt.min() and dt.max() <= 0.1
    assert abs(float(dt.log().mean()) - math.log(0.01)) < 0.02
    for n in range(4):
        torch.testing.assert_close(a[n], torch.full_like(a[n], complex(-0.5, math.pi * n)))
    assert abs(float(c.abs().square().mean()) - 1) < 0.02


def test_a_short_time_step_of_s4d_costs_no_precision() -> None:
    # exp(dA) - 1 by subtraction would lose three of float32's seven digits here.
    inputs = {"log_step": math.log(1e-4), "log_decay_1": math.log(0.5), "frequency_1": math.pi}
    found = {}
    for dtype in (torch.float32, F64):
        named = cells.Named("unit", {n: torch.tensor(v, dtype=dtype) for n, v in inputs.items()})
        x = cells.Named("x", {"candidate": torch.ones((), dtype=dtype)})
        found[dtype] = cells.S4D(1).linear(x, named)[1][0].to(torch.complex128)
    assert (found[torch.float32] / found[F64] - 1).abs() < 1e-6


# S6 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("memories", "size"), [(1, 6), (4, 6), (5, 3)])
def test_s6_is_the_selective_scan(memories: int, size: int) -> None:
    # Gu and Dao 2023, algorithm 2: state (B, H, N), A (H, N), B and C (B, N) at every step.
    layer, x = made(cells.S6(memories), size), data()
    w = maps(layer)
    a = -torch.exp(torch.stack([unit(layer, f"log_decay_{n}") for n in range(1, memories + 1)], 1))
    pool = torch.zeros(size, memories, dtype=F64)  # a map of N rows, made of those of a gate
    for n in range(memories):
        if size < memories:
            pool[n * size // memories, n] = 1
        else:
            rows = [i for i in range(size) if i * memories // size == n]
            pool[rows, n] = len(rows) ** -0.5
    s = torch.zeros(B, size, memories, dtype=F64)
    wanted = []
    for x_t in x:
        u, dt = w["candidate"](x_t), F.softplus(w["step"](x_t))
        b, c = w["write"](x_t) @ pool, w["read"](x_t) @ pool
        s = torch.exp(torch.einsum("bd,dn->bdn", dt, a)) * s
        s = s + torch.einsum("bd,bn,bd->bdn", dt, b, u)
        wanted.append(torch.einsum("bdn,bn->bd", s, c) + unit(layer, "skip") * u)
    torch.testing.assert_close(layer(x)[0], torch.stack(wanted))


def test_the_memories_of_s6_never_grow_a_gradient_and_h_passes_none_on() -> None:
    layer, x = made(cells.S6(), spread=2.0), 5 * data()
    jacobian = step_jacobians(layer, x)
    assert jacobian[..., :H].abs().max() == 0  # nothing comes from the h before
    memory = jacobian[..., H:, H:]
    kept = memory.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(torch.diag_embed(kept), memory, rtol=0, atol=0)
    assert kept.min() >= 0 and kept.max() <= 1 and kept.max() - kept.min() > 0.9


def test_s6_starts_as_the_released_code() -> None:
    torch.manual_seed(0)
    layer = Recurrent(cells.S6(3), I, 20_000, dtype=F64)
    bias = dict(zip(layer.cell.gates, unit(layer, "bias_ih").chunk(4), strict=True))
    dt = F.softplus(bias["step"])
    assert 0.001 - 1e-9 <= dt.min() and dt.max() <= 0.1 + 1e-9
    assert abs(float(dt.log().mean()) - math.log(0.01)) < 0.02
    assert bias["write"].abs().max() == bias["read"].abs().max() == 0
    for n in (1, 2, 3):
        assert unit(layer, f"log_decay_{n}").exp().unique().tolist() == pytest.approx([n])
    # The share of every memory is a row's worth: as much variance as one row of W has.
    shares = cells.S6(3).constants(7).values()
    torch.testing.assert_close(torch.stack([s.square().sum() for s in shares]), torch.ones(3))


# All of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [cells.LRU(), cells.S4D(2), cells.S6(2)], ids=repr)
def test_complex_and_read_off_memories_run_in_parallel_in_part_and_whole(cell: Cell) -> None:
    layer, x = made(cell), data(20)
    whole, last = layer(x)
    layer.backend = "parallel"
    head, carried = layer(x[:7])
    tail, end = layer(x[7:], carried)
    torch.testing.assert_close(torch.cat([head, tail]), whole)
    torch.testing.assert_close(end, last)
    stream = sg.Stream(layer)
    torch.testing.assert_close(torch.stack([stream.push(sample) for sample in x]), whole)
    with pytest.raises(BackendError, match="need float32 or float64"):
        Recurrent(cell, I, H, backend="parallel").bfloat16()(x.bfloat16())


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        (cells.RGLRU, "a_min", 1.0),
        (cells.RGLRU, "c", 0.0),
        (cells.CfC, "dt", math.inf),
        (cells.S4D, "modes", 0),
        (cells.S6, "memories", 2.5),
    ],
)
def test_options_out_of_range_are_refused(kind: Any, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        kind(**{option: value})
