"""ConvLSTM, multidimensional LSTM and CNN-LSTM against plain loops and closed forms."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn, sigmoid, tanh

import steadygrad as sg
from steadygrad.flow import step_gradients
from steadygrad.nn import CNNLSTM, MDLSTM, ConvLSTM
from steadygrad.nn.md_cells import MD_CELLS

T, B, I, H = 4, 2, 3, 5


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# ---- ConvLSTM


def conv_lstm(size: tuple[int, ...] = (4, 6), **options: Any) -> ConvLSTM:
    layer = ConvLSTM(I, H, size, dtype=torch.float64, **options)
    for name, parameter in layer.named_parameters():
        if name.startswith("peephole"):
            nn.init.normal_(parameter)
    return layer


def peephole_lstm(layer: Any, x: Tensor, at: tuple[int, ...]) -> Tensor:
    """A peephole LSTM over single pixels, written from Graves 2013, weights of one pixel."""
    w, r = layer.weight_ih_l0.flatten(1), layer.weight_hh_l0.flatten(1)
    p = layer.peephole_l0[(slice(None), slice(None), *at)]
    h = c = x.new_zeros(x.shape[1], H)
    out = []
    for x_t in x:
        i, f, g, o = (x_t @ w.T + h @ r.T + layer.bias_l0).chunk(4, 1)
        c_new = sigmoid(f + p[1] * c) * c + sigmoid(i + p[0] * c) * tanh(g)
        h, c = sigmoid(o + p[2] * c_new) * tanh(c_new), c_new
        out.append(h)
    return torch.stack(out)


@pytest.mark.parametrize("size", [(1,), (1, 1), (1, 1, 1)])
def test_a_conv_lstm_over_one_pixel_is_a_peephole_lstm(size: tuple[int, ...]) -> None:
    layer = conv_lstm(size, kernel_size=1)
    x = drawn(T, B, I)
    got = layer(x.view(T, B, I, *size))[0].flatten(3)[..., 0]
    torch.testing.assert_close(got, peephole_lstm(layer, x, (0,) * len(size)))


def test_a_kernel_of_one_leaves_pixels_alone_each_with_its_own_peepholes() -> None:
    layer = conv_lstm((2, 3), kernel_size=1)
    x = drawn(T, B, I, 2, 3)
    got = layer(x)[0]
    for y in range(2):
        for z in range(3):
            want = peephole_lstm(layer, x[..., y, z], (y, z))
            torch.testing.assert_close(got[..., y, z], want)


def test_the_convolution_is_the_one_of_the_definition() -> None:
    """With gates shut but the candidate's path open one step is tanh of a hand-made sum."""
    layer: Any = conv_lstm((4, 6), peephole=False)
    with torch.no_grad():
        layer.bias_l0.copy_(torch.tensor([50.0, -50.0, 0.0, 50.0]).repeat_interleave(H))
    x = drawn(1, 1, I, 4, 6)
    got = layer(x)[0][0, 0]
    kernel = layer.weight_ih_l0[2 * H : 3 * H]
    want = torch.zeros(H, 4, 6, dtype=torch.float64)
    for y in range(4):
        for z in range(6):
            for a in (-1, 0, 1):
                for b in (-1, 0, 1):
                    if 0 <= y + a < 4 and 0 <= z + b < 6:
                        pixel = x[0, 0, :, y + a, z + b]
                        want[:, y, z] += kernel[:, :, a + 1, b + 1] @ pixel
    torch.testing.assert_close(got, want.tanh().tanh(), rtol=1e-6, atol=1e-8)


def test_cutting_time_carries_both_states_of_all_layers() -> None:
    layer = conv_lstm(num_layers=2)
    x = drawn(T, B, I, 4, 6)
    whole, last = layer(x)
    head, carried = layer(x[:1])
    tail, end = layer(x[1:], carried)
    torch.testing.assert_close(torch.cat([head, tail]), whole)
    torch.testing.assert_close(end, last)


def test_conv_lstm_gradients_rows_and_batch_first() -> None:
    layer = ConvLSTM(1, 2, (2, 3), dtype=torch.float64)
    x = drawn(2, 2, 1, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], (x,))
    torch.testing.assert_close(layer(x[:, 1:])[0], layer(x)[0][:, 1:])
    turned = ConvLSTM(1, 2, (2, 3), batch_first=True, dtype=torch.float64)
    turned.load_state_dict(layer.state_dict())
    torch.testing.assert_close(turned(x.transpose(0, 1))[0], layer(x)[0].transpose(0, 1))


def test_peepholes_bias_and_kernel_change_the_result() -> None:
    x = drawn(T, B, I, 4, 6)
    outs = []
    changes: list[dict[str, Any]] = [{}, {"peephole": False}, {"bias": False}, {"kernel_size": 5}]
    for options in changes:
        torch.manual_seed(0)
        outs.append(conv_lstm(**options)(x)[0])
    assert all(not torch.allclose(a, b) for i, a in enumerate(outs) for b in outs[:i])


# ---- multidimensional LSTM


def plain_double_loop(layer: Any, x: Tensor, direction: int) -> tuple[Tensor, Tensor]:
    """One direction, pixel by pixel: h and c as ``(B, H, Y, X)``."""
    w, r = layer.weight_ih[direction], layer.weight_hh[direction]
    b = layer.bias[direction]
    rows, cols = x.shape[2:]
    ys = range(rows) if direction in (0, 1) else range(rows - 1, -1, -1)
    xs = range(cols) if direction in (0, 2) else range(cols - 1, -1, -1)
    zero = x.new_zeros(x.shape[0], H)
    h: dict[tuple[int, int], Tensor] = {}
    c: dict[tuple[int, int], Tensor] = {}
    for y in ys:
        for z in xs:
            above = (y - (1 if direction in (0, 1) else -1), z)
            left = (y, z - (1 if direction in (0, 2) else -1))
            a = x[:, :, y, z] @ w.T + b
            a = a + h.get(above, zero) @ r[:, :H].T + h.get(left, zero) @ r[:, H:].T
            g = dict(zip(layer.gates, a.chunk(len(layer.gates), 1), strict=True))
            cy, cx = c.get(above, zero), c.get(left, zero)
            h[y, z], c[y, z] = by_equations(layer.cell, g, cy, cx)

    def grid(values: dict[tuple[int, int], Tensor]) -> Tensor:
        return torch.stack(
            [torch.stack([values[y, z] for z in range(cols)], -1) for y in range(rows)], -2
        )

    return grid(h), grid(c)


def by_equations(cell: str, g: dict[str, Tensor], cy: Tensor, cx: Tensor) -> tuple[Tensor, Tensor]:
    s = {name: sigmoid(value) for name, value in g.items()}
    z = tanh(g["candidate"])
    if cell == "lstm":
        c = s["input"] * z + s["forget_y"] * cy + s["forget_x"] * cx
        return s["output"] * tanh(c), c
    old = s["mix"] * cy + (1 - s["mix"]) * cx
    if cell == "stable":
        c = s["input"] * z + s["forget"] * old
        return s["output"] * tanh(c), c
    c = (1 - s["forget"]) * z + s["forget"] * old
    if cell == "leaky":
        return s["output"] * c, c
    return tanh(s["output"] * c + s["output_before"] * old), c


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (1, 4), (4, 1)])
@pytest.mark.parametrize("cell", list(MD_CELLS))
def test_the_wavefront_is_the_double_loop(cell: str, shape: tuple[int, int]) -> None:
    layer: Any = MDLSTM(I, H, cell=cell, dtype=torch.float64)
    x = drawn(B, I, *shape)
    hidden, memory = layer.sweep(x)
    wanted = [plain_double_loop(layer, x, d) for d in range(4)]
    for d, (h, c) in enumerate(wanted):
        torch.testing.assert_close(hidden[d], h)
        torch.testing.assert_close(memory[d], c)
    torch.testing.assert_close(layer(x), torch.cat([h for h, _ in wanted], 1))
    ends = [wanted[0][0][..., -1, -1], wanted[1][0][..., -1, 0]]
    ends += [wanted[2][0][..., 0, -1], wanted[3][0][..., 0, 0]]
    torch.testing.assert_close(layer.corners(layer(x)), torch.cat(ends, 1))


@pytest.mark.parametrize("cell", list(MD_CELLS))
def test_md_lstm_gradients(cell: str) -> None:
    layer = MDLSTM(1, 2, cell=cell, dtype=torch.float64)
    x = drawn(1, 1, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))


def gain(cell: str) -> Tensor:
    """∂c(y, x)/∂c(0, 0), with R = 0 and the forget gates open, by ratio of input gradients."""
    layer: Any = MDLSTM(1, 1, cell=cell, directions=1, dtype=torch.float64)
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
        for name in ("forget_y", "forget_x", "forget"):
            if name in layer.gates:
                layer.bias[0, layer.gates.index(name)] = 60.0 if cell != "leaky" else 3.0
        layer.weight_ih[0, layer.gates.index("candidate")] = 1.0
    x = drawn(1, 1, 6, 6).requires_grad_()
    memory = layer.sweep(x)[1][0, 0, 0]
    found = torch.stack([torch.autograd.grad(m, x, retain_graph=True)[0] for m in memory.flatten()])
    return (found[:, 0, 0, 0, 0] / found[0, 0, 0, 0, 0]).view(6, 6)


def test_open_forget_gates_count_the_paths() -> None:
    """Equations.md 12 number 17: ∂c(y,x)/∂c(0,0) = binom(y + x, x)."""
    want = [[float(math.comb(y + x, x)) for x in range(6)] for y in range(6)]
    torch.testing.assert_close(gain("lstm"), torch.tensor(want, dtype=torch.float64))


@pytest.mark.parametrize("cell", ["stable", "leaky"])
def test_the_cells_of_leifert_gain_at_most_one(cell: str) -> None:
    found = gain(cell)
    assert float(found.max()) <= 1 + 1e-9
    assert float(found[1, 1]) > 0.4  # and are not simply shut


@pytest.mark.parametrize("cell", ["leaky", "leaky-lp"])
def test_leaky_memories_stay_within_one(cell: str) -> None:
    layer = MDLSTM(I, H, cell=cell, dtype=torch.float64)
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(20)
    memory = layer.sweep(10 * drawn(B, I, 8, 8))[1].detach()
    assert float(memory.abs().max()) <= 1
    wild = MDLSTM(I, H, forget_bias=5.0, dtype=torch.float64)
    assert (
        float(wild.sweep(10 * drawn(B, I, 8, 8))[1].detach().abs().max()) > 10
    )  # the plain one does not


def test_options_of_md_lstm_change_the_result() -> None:
    x = drawn(B, I, 3, 4)
    layer = MDLSTM(I, H, dtype=torch.float64)
    added = MDLSTM(I, H, combine="sum", dtype=torch.float64)
    mean = MDLSTM(I, H, combine="mean", dtype=torch.float64)
    for other in (added, mean):
        other.load_state_dict(layer.state_dict())
    parts = torch.stack(layer(x).chunk(4, 1))
    torch.testing.assert_close(added(x), parts.sum(0))
    torch.testing.assert_close(mean(x), parts.mean(0))
    assert MDLSTM(I, H, directions=2).output_size == 2 * H
    opened = MDLSTM(I, H, forget_bias=2.0).bias
    assert opened is not None
    assert opened.view(4, 5, H)[:, 1:3].mean() > 1.5 and opened.view(4, 5, H)[:, 0].mean() < 0.5


# ---- CNN-LSTM


def test_cnn_lstm_is_convolution_then_recurrence() -> None:
    layer: Any = CNNLSTM(I, H, channels=(4, 6), kernel_size=3, pool=2).double()
    x = drawn(13, B, I)
    y = x.permute(1, 2, 0)
    for conv in layer.convs:
        y = nn.functional.max_pool1d(
            nn.functional.conv1d(y, conv.weight, conv.bias, padding=1).relu(), 2
        )
    lstm = nn.LSTM(6, H).double()
    lstm.load_state_dict(layer.rnn.state_dict())
    torch.testing.assert_close(layer(x)[0], lstm(y.permute(2, 0, 1))[0])


def test_causal_convolutions_do_not_see_the_future() -> None:
    for causal in (True, False):
        layer = CNNLSTM(I, H, pool=1, causal=causal).double()
        x = drawn(12, B, I).requires_grad_()
        layer(x)[0][5].sum().backward()
        assert x.grad is not None
        assert (float(x.grad[6:].abs().sum()) == 0) is causal
        assert float(x.grad[5].abs().sum()) > 0


def test_frames_are_seen_one_by_one() -> None:
    layer = CNNLSTM(I, H, channels=(4,), dims=2).double()
    x = drawn(T, B, I, 6, 6)
    turned = CNNLSTM(I, H, channels=(4,), dims=2, batch_first=True).double()
    turned.load_state_dict(layer.state_dict())
    torch.testing.assert_close(turned(x.transpose(0, 1))[0].transpose(0, 1), layer(x)[0])
    again = x.clone()
    again[2:] = 0
    torch.testing.assert_close(layer(again)[0][:2], layer(x)[0][:2])
    assert layer.features(x).shape == (T, B, 4)
    torch.testing.assert_close(layer(x[:, 1:])[0], layer(x)[0][:, 1:])


def test_diagnose_sees_the_recurrence_inside() -> None:
    model = CNNLSTM(I, H, cell="gru", num_layers=2)
    x = torch.randn(20, B, I)
    found = sg.diagnose(model, lambda: model(x)[0][-1].sum())
    assert sorted(found.flow) == ["rnn.l0", "rnn.l1"]
    assert found.flow["rnn.l0"].time_steps == 10


# ---- what the gradient does inside


def test_step_gradients_of_a_conv_lstm_are_those_of_autograd() -> None:
    layer = conv_lstm()
    x = drawn(T, B, I, 4, 6)
    found = step_gradients(layer, lambda: layer(x)[0][-1].square().sum())["convlstm"]
    assert sorted(found) == ["c_l0", "h_l0"]
    head, (h, c) = layer(x[:2])
    h, c = h.detach().requires_grad_(), c.detach().requires_grad_()
    layer(x[2:], (h, c))[0][-1].square().sum().backward()
    assert h.grad is not None and c.grad is not None
    assert found["h_l0"][1] == pytest.approx(float(h.grad.norm().log10()))
    assert layer.on_step_gradient is None and layer.weight_hh_l0.grad is not None
    assert head.shape[0] == 2


def test_step_gradients_of_an_md_lstm_are_per_diagonal() -> None:
    layer = MDLSTM(I, H, dtype=torch.float64)
    x = drawn(B, I, 3, 4)
    found = step_gradients(layer, lambda: layer.corners(layer(x)).sum())["mdlstm"]
    assert found["h"].shape == (6,)
    assert found["h"][-1] == pytest.approx(math.log10(math.sqrt(4 * B * H)))  # ones at the end
    with pytest.raises(ValueError, match="holds no layer"):
        step_gradients(nn.Linear(2, 2), lambda: torch.zeros(()))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConvLSTM(1, 2, (4,), kernel_size=2), "kernel_size must be odd"),
        (lambda: ConvLSTM(1, 2, ()), "size must be one to three"),
        (lambda: ConvLSTM(0, 2, (4,)), "at least 1"),
        (lambda: ConvLSTM(1, 2, (4,))(torch.zeros(2, 1, 1, 5)), r"\(T, B, 1, 4\)"),
        (
            lambda: ConvLSTM(1, 2, (4,))(torch.zeros(2, 1, 1, 4), (torch.zeros(1),) * 2),
            "expected h",
        ),
        (lambda: MDLSTM(1, 2, cell="gru"), "cell must be one of"),
        (lambda: MDLSTM(1, 2, directions=3), "1, 2 or 4"),
        (lambda: MDLSTM(1, 2, combine="max"), "concat, sum or mean"),
        (lambda: MDLSTM(1, 2)(torch.zeros(1, 2, 3, 3)), r"\(B, 1, Y, X\)"),
        (lambda: CNNLSTM(1, 2, kernel_size=4), "must be odd"),
        (lambda: CNNLSTM(1, 2, dims=3), "dims must be 1"),
        (lambda: CNNLSTM(1, 2, dims=2, causal=True), "causal is for series"),
        (lambda: CNNLSTM(1, 2, pool=4)(torch.zeros(3, 1, 1)), "fewer than one pooled step"),
        (lambda: CNNLSTM(1, 2)(torch.zeros(3, 1, 2)), r"\(T, B, 1\)"),
    ],
)
def test_what_cannot_be_done_is_said(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
