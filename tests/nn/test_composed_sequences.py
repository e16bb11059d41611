"""BiLSTM, encoder-decoder, NARX, deep nets and fuzzy LSTM against hand-made recursions."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import steadygrad as sg
from steadygrad.flow import gradient_through_depth
from steadygrad.nn import (
    NARX,
    BiLSTM,
    DeepNet,
    Delays,
    EncoderDecoder,
    LuongAttention,
    Recurrent,
    fit_narx,
    levenberg_marquardt,
    reverse_in_time,
)
from steadygrad.tasks import FuzzySets

T, B, I, H = 7, 3, 4, 5


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# ---- BiLSTM


def test_the_ends_are_each_directions_last_state() -> None:
    layer = BiLSTM(I, H, 2, dtype=torch.float64)
    theirs = nn.LSTM(I, H, 2, bidirectional=True, dtype=torch.float64)
    theirs.load_state_dict(layer.state_dict())
    x = drawn(T, B, I)
    output, last = layer(x)
    torch.testing.assert_close(output, theirs(x)[0])
    want = torch.cat([output[-1, :, :H], output[0, :, H:]], 1)
    torch.testing.assert_close(layer.ends(last), want)
    assert not torch.allclose(layer.ends(last), output[-1])  # the trap


def test_the_ends_of_packed_sequences_are_where_each_ends() -> None:
    layer = BiLSTM(I, H, dtype=torch.float64)
    x = drawn(T, B, I)
    lengths = [3, 7, 5]
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    ends = layer.ends(layer(packed)[1])
    for row, length in enumerate(lengths):
        alone, _ = layer(x[:length, row])
        torch.testing.assert_close(ends[row], torch.cat([alone[-1, :H], alone[0, H:]]))


def test_bilstm_refuses_what_it_is_not() -> None:
    with pytest.raises(ValueError, match="runs both ways"):
        BiLSTM(I, H, bidirectional=True)
    with pytest.raises(ValueError, match="with 4 rows of h"):
        BiLSTM(I, H, 2).ends((torch.zeros(2, B, H), torch.zeros(2, B, H)))
    layer, x = BiLSTM(I, H), torch.randn(T, B, I)
    assert len(sg.diagnose(layer, lambda: layer(x)[0].sum()).flow) == 2  # a layer like any


# ---- encoder-decoder and attention


def test_reversal_turns_each_sequence_within_its_length() -> None:
    x = torch.arange(1, 6)[:, None] + torch.tensor([[0, 10]])
    lengths = torch.tensor([5, 3])
    turned = reverse_in_time(x, lengths)
    assert turned.T.tolist() == [[5, 4, 3, 2, 1], [13, 12, 11, 14, 15]]
    assert torch.equal(reverse_in_time(turned, lengths), x)
    assert torch.equal(reverse_in_time(x), x.flip(0))


def test_attention_by_hand() -> None:
    layer = LuongAttention(H, I).double()
    query, memory = drawn(2, B, H), drawn(T, B, I)
    lengths = torch.tensor([7, 2, 4])
    result, weights = layer(query, memory, lengths)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, B, dtype=torch.float64))
    for t in range(2):
        for b in range(B):
            scores = [
                float((query[t, b] @ layer.score.weight @ memory[s, b]).detach())
                for s in range(int(lengths[b]))
            ]
            exps = [math.exp(s) for s in scores]
            want = [e / sum(exps) for e in exps] + [0.0] * (T - len(exps))
            assert weights[t, b].tolist() == pytest.approx(want)
            context = sum(w * memory[s, b] for s, w in enumerate(want))
            joined = torch.cat([torch.as_tensor(context), query[t, b]])
            torch.testing.assert_close(result[t, b], (layer.combine.weight @ joined).tanh())


def seq2seq(**options: Any) -> EncoderDecoder:
    torch.manual_seed(0)
    return EncoderDecoder(9, 8, H, **options).double()


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_encoder_decoder_is_two_torch_lstms(reverse: bool, attention: bool) -> None:
    model: Any = seq2seq(reverse_source=reverse, attention=attention)
    source, target = torch.randint(9, (T, B)), torch.randint(8, (4, B))
    twins = []
    for layer in (model.encoder, model.decoder):
        twin = nn.LSTM(H, H).double()
        twin.load_state_dict(layer.state_dict())
        twins.append(twin)
    read = source.flip(0) if reverse else source
    memory, state = twins[0](model.source_embedding(read))
    hidden, _ = twins[1](model.target_embedding(target), state)
    if attention:
        hidden, _ = model.attention(hidden, memory)
    torch.testing.assert_close(model(source, target), model.readout(hidden))


def test_padding_of_the_source_is_not_seen() -> None:
    source, target = torch.randint(9, (T, B)), torch.randint(8, (4, B))
    lengths = torch.tensor([7, 3, 5])
    for attention in (False, True):
        model = seq2seq(attention=attention)
        whole = model(source, target, lengths)
        for row in range(B):
            alone = model(source[: lengths[row], row : row + 1], target[:, row : row + 1])
            torch.testing.assert_close(whole[:, row : row + 1], alone)


def test_what_is_written_is_the_likeliest_continuation_of_itself() -> None:
    model = seq2seq(attention=True, num_layers=2)
    source = torch.randint(9, (T, B))
    written = model.write(source, 5, start=0)
    fed = torch.cat([torch.zeros(1, B, dtype=torch.long), written[:-1]])
    assert torch.equal(model(source, fed).argmax(-1), written)


def test_diagnose_sees_encoder_and_decoder() -> None:
    model = EncoderDecoder(9, 9, H)
    tokens = torch.randint(9, (T, B))
    found = sg.diagnose(model, lambda: model(tokens, tokens)[-1].square().mean())
    assert sorted(found.flow) == ["decoder", "encoder"]


# ---- NARX


def narx() -> NARX:
    return NARX(2, 3, 4, (0, 2), (1, 3)).double()


def recursion(net: Any, u: Tensor, y: Tensor, closed_from: int) -> Tensor:
    """One step at a time; from ``closed_from`` on its own answers are fed back."""
    past = y.clone()
    out = []
    for t in range(net.longest_delay, len(u)):
        taps = torch.cat([past[t - 1], past[t - 3], u[t], u[t - 2]], -1)
        hidden = (taps @ net.hidden.weight.T + net.hidden.bias).tanh()
        out.append(hidden @ net.readout.weight.T + net.readout.bias)
        if t >= closed_from:
            past = torch.cat([past[:t], out[-1][None], past[t + 1 :]])
    return torch.stack(out)


def test_open_and_closed_loop_against_a_hand_recursion() -> None:
    net = narx()
    u, y = drawn(12, B, 2), drawn(12, B, 3)
    opened, delays = net(u[:8], y[:8])
    closed, _ = net.free_run(u[8:], delays)
    torch.testing.assert_close(opened, recursion(net, u, y, 99)[:5])
    torch.testing.assert_close(closed, recursion(net, u, y, 8)[5:])
    assert not torch.allclose(closed, recursion(net, u, y, 99)[5:])


def test_the_loops_agree_where_past_outputs_are_the_true_ones() -> None:
    net = narx()
    u, y = drawn(12, B, 2), drawn(12, B, 3)
    made = net.free_run(u[3:], net.delays(u[:3], y[:3]))[0]
    true = torch.cat([y[:3], made])
    torch.testing.assert_close(net(u, true)[0], made)


def test_a_run_can_be_cut_anywhere() -> None:
    net = narx()
    u, y = drawn(12, B, 2), drawn(12, B, 3)
    start = net.delays(u[:3], y[:3])
    whole, end = net.free_run(u[3:], start)
    first, middle = net.free_run(u[3:4], start)  # shorter than the delay lines
    second, last = net.free_run(u[4:], middle)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(last, end)
    opened, _ = net(u[3:], y[3:], start)
    torch.testing.assert_close(opened, net(u, y)[0])


def test_the_closed_loop_has_a_gradient_through_time() -> None:
    net = narx()
    u, y = drawn(6, 1, 2).requires_grad_(), drawn(3, 1, 3)
    assert torch.autograd.gradcheck(
        lambda u: net.free_run(u, Delays(drawn_zeros(3, 2), y))[0], (u,)
    )
    net.free_run(u, Delays(drawn_zeros(3, 2), y))[0][-1].sum().backward()
    assert u.grad is not None and float(u.grad[0].abs().sum()) > 0


def drawn_zeros(steps: int, width: int) -> Tensor:
    return torch.zeros(steps, 1, width, dtype=torch.float64)


def test_a_net_without_inputs_runs_on() -> None:
    net = NARX(0, 1, 4, output_delays=(1, 2)).double()
    nothing = torch.zeros(5, B, 0, dtype=torch.float64)
    opened, delays = net(nothing, drawn(5, B, 1))
    assert opened.shape == (3, B, 1)
    assert net.free_run(nothing, delays)[0].shape == (5, B, 1)


def test_levenberg_marquardt_solves_a_linear_problem_in_a_step() -> None:
    """With a linear model and no damping the step is the least squares solution."""
    model = nn.Linear(4, 2).double()
    x, y = drawn(30, 4), drawn(30, 2)
    fit = levenberg_marquardt(model, lambda call: call(x) - y, steps=3, damping=1e-12)
    ones = torch.cat([x, torch.ones(30, 1, dtype=torch.float64)], 1)
    want = torch.linalg.lstsq(ones, y).solution
    torch.testing.assert_close(torch.cat([model.weight.T, model.bias[None]]), want)
    assert fit.losses == sorted(fit.losses, reverse=True)


def teacher(steps: int = 300) -> tuple[NARX, Tensor, Tensor]:
    torch.manual_seed(1)
    net = NARX(1, 1, 3, (1,), (1, 2)).double()
    u = drawn(steps, 1, 1)
    start = Delays(u[:2], torch.zeros(2, 1, 1, dtype=torch.float64))
    y = torch.cat([start.outputs, net.free_run(u[2:], start)[0]]).detach()
    return net, u, y


@pytest.mark.parametrize("loop", ["open", "closed"])
def test_levenberg_marquardt_finds_a_teacher(loop: Any) -> None:
    _, u, y = teacher()
    torch.manual_seed(5)
    net = NARX(1, 1, 4, (1,), (1, 2)).double()
    variance = float(y.var())
    fit = fit_narx(net, u, y, loop="open", steps=60)
    if loop == "closed":
        fit = fit_narx(net, u, y, loop="closed", steps=30, horizon=20)
    assert fit.losses[-1] < 1e-5 * variance
    free = net.free_run(u[2:], net.delays(u[:2], y[:2]))[0]
    assert float((free - y[2:]).detach().square().mean()) < 1e-4 * variance


def test_training_closed_takes_away_the_bias_of_noisy_outputs() -> None:
    """Least squares on noisy regressors shrinks a pole of 0.9; own outputs have no such noise."""
    u = 0.2 * drawn(600, 1, 1)
    y = torch.zeros_like(u)
    for t in range(1, 600):
        y[t] = 0.9 * y[t - 1] + u[t - 1]
    noisy = y + 0.5 * y.std() * drawn(*y.shape)
    torch.manual_seed(5)
    net = NARX(1, 1, 3, (1,), (1,)).double()

    def error() -> float:
        free = net.free_run(u[1:], net.delays(u[:1], y[:1]))[0]
        return float(((free - y[1:]).square().mean() / y.var()).detach())

    fit_narx(net, u, noisy, steps=30)
    opened = error()
    fit_narx(net, u, noisy, loop="closed", steps=20, horizon=100)
    assert error() < 0.2 * opened


def test_adam_lowers_the_loss_and_options_are_checked() -> None:
    _, u, y = teacher()
    net = NARX(1, 1, 4, (1,), (1, 2)).double()
    for loop in ("open", "closed"):
        fit = fit_narx(net, u, y, loop=loop, method="adam", steps=30)
        assert fit.losses[-1] < fit.losses[0]
    bad: Any = "half"
    with pytest.raises(ValueError, match="restarts"):
        fit_narx(net, u, y, restarts=-1)
    with pytest.raises(ValueError, match="'open' or 'closed'"):
        fit_narx(net, u, y, loop=bad)
    with pytest.raises(ValueError, match="horizon must be 1 to 298"):
        fit_narx(net, u, y, loop="closed", horizon=299)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NARX(1, output_delays=(0, 1)), "output_delays must be different"),
        (lambda: NARX(1, input_delays=(1, 1)), "input_delays must be different"),
        (lambda: NARX(1)(torch.zeros(2, 1, 1), torch.zeros(2, 1, 1)), "more than 2 steps"),
        (lambda: NARX(1)(torch.zeros(5, 1, 2), torch.zeros(5, 1, 1)), r"u \(T, B, 1\)"),
        (lambda: NARX(1)(torch.zeros(5, 2, 1), torch.zeros(5, 1, 1)), "same steps and rows"),
        (
            lambda: NARX(1).free_run(
                torch.zeros(5, 1, 1), Delays(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
            ),
            "expected delays of shape",
        ),
        (lambda: DeepNet(1, 1, 1, 0), "depth 0"),
        (lambda: LuongAttention(3)(torch.zeros(2, 3), torch.zeros(2, 3)), "with one B"),
        (lambda: EncoderDecoder(3, 3, 4, bidirectional=True), "not offered"),
        (lambda: EncoderDecoder(3, 3, 4)(torch.zeros(2, 2), torch.zeros(2, 2)), "int64"),
        (lambda: FuzzySets(0.0, 0.0, 3), "positive width"),
        (lambda: FuzzySets.fit(torch.ones(4)), "nothing to partition"),
        (lambda: FuzzySets.fit(torch.tensor([1.0, math.nan])), "finite"),
    ],
)
def test_what_cannot_be_done_is_said(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


# ---- the deep net: fading in depth


def slopes(net: DeepNet) -> list[float]:
    x = torch.randn(32, H)
    found = gradient_through_depth(net, lambda: net(x).square().mean())
    rows = [found[f"layers.{l}"] for l in range(len(net.layers))]
    return [b - a for a, b in pairwise(rows)]


def test_a_logistic_layer_loses_what_the_bound_says() -> None:
    torch.manual_seed(0)
    net: Any = DeepNet(H, 16, 1, 20)
    norms = [float(torch.linalg.svdvals(l.weight.detach())[0]) for l in net.layers]
    for loss, norm in zip(slopes(net), norms[1:], strict=True):
        assert loss >= math.log10(4 / norm) - 1e-5
    assert sum(slopes(net)) > 10  # decades over 20 layers


def test_an_orthogonal_linear_net_keeps_the_norm_and_residuals_a_path() -> None:
    net: Any = DeepNet(H, 16, 1, 12, activation="identity")
    for layer in net.layers:
        nn.init.orthogonal_(layer.weight)
    assert slopes(net) == pytest.approx([0.0] * 11, abs=1e-5)
    torch.manual_seed(0)
    assert abs(sum(slopes(DeepNet(H, 16, 1, 20, residual=True)))) < 1.5


def test_gradient_through_depth_is_autograds() -> None:
    net: Any = DeepNet(H, 6, 2, 3, activation="tanh").double()
    x = drawn(4, H)
    found = gradient_through_depth(net, lambda: net(x).square().sum())
    a = net.layers[1](net.layers[0](x).tanh()).detach().requires_grad_()
    net.readout(net.layers[2](a.tanh()).tanh()).square().sum().backward()
    assert a.grad is not None
    assert found["layers.1"] == pytest.approx(float(a.grad.norm().log10()))
    with pytest.raises(ValueError, match="no layer of kind LSTM"):
        gradient_through_depth(net, lambda: net(x).sum(), (nn.LSTM,))


# ---- fuzzy: the cell and the transform


@pytest.mark.parametrize("bound", ["sigmoid", "clip"])
def test_the_fuzzy_gate_against_the_definition(bound: Any) -> None:
    """Memberships as Gaussians, as the source writes them, and plain Python for the rules."""
    cell = sg.cells.FuzzyLSTM(bound, width=0.75)
    layer: Any = Recurrent(cell, I, H, dtype=torch.float64).requires_grad_(False)
    x = drawn(3, 1, I)
    h = c = torch.zeros(H, dtype=torch.float64)
    names = list(cell.gates)
    w, r = layer.weight_ih_l0.detach(), layer.weight_hh_l0.detach()
    b = (layer.bias_ih_l0 + layer.bias_hh_l0).detach()
    for t in range(3):
        z = dict(zip(names, (w @ x[t, 0] + r @ h + b).chunk(4), strict=True))
        gates = {}
        for name in ("input", "forget", "output"):
            values = []
            for j in range(H):
                v, mean = float(z[name][j]), float(c.mean())
                low, high = (math.exp(-((v - m) ** 2) / (2 * 0.75**2)) for m in (-1, 1))
                y = [
                    float(getattr(layer, f"slope_{k}_{name}_l0")[j]) * v
                    + float(getattr(layer, f"context_{k}_{name}_l0")[j]) * mean
                    + float(getattr(layer, f"offset_{k}_{name}_l0")[j])
                    for k in ("low", "high")
                ]
                answer = (low * y[0] + high * y[1]) / (low + high)
                values.append(
                    1 / (1 + math.exp(-answer)) if bound == "sigmoid" else min(max(answer, 0), 1)
                )
            gates[name] = torch.tensor(values, dtype=torch.float64)
        c = gates["forget"] * c + gates["input"] * z["candidate"].tanh()
        h = gates["output"] * c.tanh()
        torch.testing.assert_close(layer(x[: t + 1])[0][-1, 0], h)


def test_fuzzy_sets_go_there_and_back() -> None:
    series = torch.randn(100).double()
    sets = FuzzySets.fit(series, count=9, margin=0.2)
    members = sets.fuzzify(series)
    torch.testing.assert_close(members.sum(-1), torch.ones(100).double())
    assert int((members > 0).sum(-1).max()) == 2
    torch.testing.assert_close(sets.defuzzify(members), series)
    by_number = sets.centres[sets.subscript(series)]
    assert float((by_number - series).abs().max()) <= sets.width / 2 + 1e-9
    far = sets.fuzzify(torch.tensor([1e9, -1e9]))
    assert far.tolist() == [[0.0] * 8 + [1.0], [1.0] + [0.0] * 8]
    span = float(series.max() - series.min())
    assert float(sets.centres[-1] - sets.centres[0]) == pytest.approx(1.4 * span)


@pytest.mark.parametrize("method", ["lm", "adam"])
def test_narx_is_left_where_the_validation_part_was_fitted_best(
    method: Any,
) -> None:
    """Of noise alone there is nothing to learn: the fit must end early, at its best validation."""
    torch.manual_seed(5)
    u, y = torch.randn(2, 160, 1, 1)
    net = NARX(1, 1, 12, (0, 1, 2), (1, 2))
    kept = (u[100:], y[100:])
    fit = fit_narx(
        net, u[:100], y[:100], method=method, steps=200, validation=kept, patience=3, restarts=1
    )
    assert len(fit.validation) < 200
    with torch.no_grad():
        error = (net(*kept)[0] - kept[1][2:]).square().mean()
    assert float(error) == pytest.approx(min(fit.validation), rel=1e-5)
