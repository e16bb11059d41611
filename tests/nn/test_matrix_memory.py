"""Layers with a matrix as state: every member of the family, against formulations of its own.

A new member is held to all of this by being shown in `steadygrad.nn`.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import steadygrad as sg
from steadygrad import flow
from steadygrad.nn import GLA, M2RNN, RWKV7, DeltaNet, DeltaSteps, GatedDeltaNet, MatrixMemory
from steadygrad.nn.m2rnn import M2RNNSteps

F64 = torch.float64
B, N, T, K, V = 2, 3, 19, 4, 5
I, H = 3, 8
MEMBERS: list[Any] = [
    value
    for value in vars(sg.nn).values()
    if isinstance(value, type) and issubclass(value, MatrixMemory) and value is not MatrixMemory
]
members = pytest.mark.parametrize("kind", MEMBERS, ids=lambda kind: kind.__name__)


def made(kind: Any, **options: Any) -> Any:
    """A layer whose gates are drawn at random, so that no term of its step is constant."""
    torch.manual_seed(5)
    layer = kind(I, H, 2, dtype=F64, **options)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return layer


def data(steps: int = T) -> Tensor:
    return torch.randn(steps, B, I, dtype=F64, generator=torch.Generator().manual_seed(6))


def gradients(layer: Any, x: Tensor, state: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
    leaves = [x, *([] if state is None else [state]), *layer.parameters()]
    output, last = layer(x.requires_grad_(), state)
    weights = torch.linspace(-1, 2, last.numel(), dtype=last.dtype).view_as(last)
    loss = output.square().sum() + (last * weights).sum()
    return [output, last], list(torch.autograd.grad(loss, leaves))


# The family that is linear in its state ----------------------------------------------------------


def terms(decay: str, erases: bool) -> tuple[dict[str, Tensor], DeltaSteps, Tensor]:
    draw = torch.Generator().manual_seed(7)
    width = {"vector": K, "scalar": 1}

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=F64, generator=draw).requires_grad_()

    own = {"q": leaf(B, N, T, K), "k": leaf(B, N, T, K), "v": leaf(B, N, T, V)}
    own |= {"e": leaf(B, N, T, K), "b": leaf(B, N, T, K), "S": leaf(B, N, K, V)}
    log_decay = None
    if decay != "none":
        own["g"] = leaf(B, N, T, width[decay])
        log_decay = F.logsigmoid(2 * own["g"])
    e = F.normalize(own["e"], dim=-1)
    erase = (e, torch.sigmoid(own["b"]) * e) if erases else None
    used = {n: t for n, t in own.items() if erases or n not in "eb"}
    return used, DeltaSteps(own["q"], own["k"], own["v"], log_decay, erase), own["S"]


def by_dense_products(steps: DeltaSteps, state: Tensor) -> tuple[Tensor, Tensor]:
    """The attention form: the weight of step j at step t by the product of dense transitions."""
    a = torch.eye(K, dtype=F64).expand(B, N, T, K, K)
    if steps.log_decay is not None:
        a = steps.log_decay.exp().expand(B, N, T, K).diag_embed()
    if steps.erase is not None:
        a = a - torch.einsum("bnti,bntj->bntij", steps.erase[1], steps.erase[0])
    outputs, now = [], state
    for t in range(T):
        through = torch.eye(K, dtype=F64).expand(B, N, K, K)
        now = torch.zeros(B, N, K, V, dtype=F64)
        for j in reversed(range(t + 1)):
            written = torch.einsum("bni,bnv->bniv", steps.k[:, :, j], steps.v[:, :, j])
            now = now + through @ written
            through = through @ a[:, :, j]
        now = now + through @ state
        outputs.append(torch.einsum("bni,bniv->bnv", steps.q[:, :, t], now))
    return torch.stack(outputs, 2), now


@pytest.mark.parametrize("erases", [False, True], ids=["writes", "erases"])
@pytest.mark.parametrize("decay", ["none", "scalar", "vector"])
def test_chunks_and_steps_are_the_dense_products(decay: str, erases: bool) -> None:
    def told(form: Any) -> list[Tensor]:
        own, steps, state = terms(decay, erases)
        output, last = form(steps, state)
        loss = output.square().sum() + last.sin().sum()
        return [output, last, *torch.autograd.grad(loss, list(own.values()))]

    wanted = told(by_dense_products)
    forms = {"one by one": DeltaSteps.one_by_one, "at once": DeltaSteps.at_once}
    forms |= {f"{c} steps": lambda s, state, c=c: s.in_chunks(state, c) for c in (1, 4, T)}
    for name, form in forms.items():
        for got, want in zip(told(form), wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("low", [-1e3, -math.inf])
@pytest.mark.parametrize("decay", ["scalar", "vector"])
def test_a_decay_of_nothing_begins_anew_in_chunks_too(decay: str, low: float) -> None:
    _, steps, state = terms(decay, True)
    assert steps.log_decay is not None and steps.erase is not None
    log_decay = steps.log_decay.detach().clone()
    log_decay[:, :, 6] = log_decay[:, :, 7] = low
    erase = tuple(part.clone() for part in steps.erase)
    for part in erase:
        part[:, :, 6] = 0
    log_decay.requires_grad_()
    found = []
    for form in ("one_by_one", "at_once"):
        again = DeltaSteps(steps.q, steps.k, steps.v, log_decay, (erase[0], erase[1]))
        output, last = getattr(again, form)(state)
        grads = torch.autograd.grad(output[:, :, 6:].sum() + last.sum(), [log_decay, state])
        found.append([output, last, *grads])
    for one, other in zip(*found, strict=True):
        assert other.isfinite().all()
        torch.testing.assert_close(one, other)
    assert found[0][3].abs().max() == 0  # nothing of the state before comes through


def test_chunks_are_as_exact_as_steps_in_single_precision() -> None:
    """Hard gates: a quotient of running products would overflow, or lose all digits."""
    torch.manual_seed(8)
    shape = (2, 2, 300)
    q, k, v = (torch.randn(*shape, 16, dtype=F64) for _ in range(3))
    e = F.normalize(torch.randn(*shape, 16, dtype=F64), dim=-1)
    g = F.logsigmoid(20 * torch.randn(*shape, 16, dtype=F64))
    exact = DeltaSteps(q, k, v, g, (e, e * torch.rand(*shape, 1)))
    state = torch.zeros(2, 2, 16, 16, dtype=F64)
    wanted = exact.one_by_one(state)[0]
    single = exact.to(torch.float32)
    errors = [
        float((output - wanted).abs().max())
        for output, _ in (single.one_by_one(state.float()), single.at_once(state.float()))
    ]
    assert errors[1] <= 4 * errors[0] + 1e-6


def wave(*shape: int, phase: float) -> Tensor:
    """Numbers that are the same everywhere, from no generator."""
    return torch.sin(torch.arange(math.prod(shape), dtype=F64) * 1.7 + phase).view(shape)


def test_rules_are_those_of_their_authors() -> None:
    """Last column of what the reference loops give, for inputs that `wave` makes.

    Of fla-core 0.6.0: naive_recurrent_gla, delta_rule_recurrence,
    naive_recurrent_gated_delta_rule, dplr_recurrence (as its RWKV-7 calls it), in single precision.
    Of XMA (open-lm-engine/accelerated-model-architectures, 2026): its m2rnn in plain torch.
    """
    b, n, t, k_size, v_size = 1, 2, 9, 3, 2
    q, k = (wave(b, n, t, k_size, phase=p) for p in (0.1, 0.2))
    v = wave(b, n, t, v_size, phase=0.3)
    g, beta = -wave(b, n, t, k_size, phase=0.4).abs(), wave(b, n, t, 1, phase=0.5).abs()
    rate, kk = wave(b, n, t, k_size, phase=0.6).abs(), F.normalize(k, dim=-1)
    r = q * k_size**-0.5  # fla scales what it is given
    one, keep = g[..., :1], wave(b, n, t, 1, phase=0.8).abs()
    rules = {
        "gla": (DeltaSteps(r, k, v, g), [0.21769, -0.35684, 0.76701, -0.16026]),
        "delta": (
            DeltaSteps(r, beta * kk, v, None, (kk, beta * kk)),
            [0.36931, -0.45214, 0.66541, -0.08732],
        ),
        "gated delta": (
            DeltaSteps(r, beta * kk, v, one, (kk, one.exp() * beta * kk)),
            [0.40446, -0.4705, 0.67685, -0.08009],
        ),
        "rwkv7": (
            DeltaSteps(r, k, v, g, (kk, rate * kk)),
            [0.72992, -0.64335, 1.09832, -0.03952],
        ),
        "m2rnn": (
            M2RNNSteps(q, k, v, keep, wave(n, v_size, v_size, phase=0.7)),
            [0.30081, 0.55027, 0.61276, 0.21906],
        ),
    }
    start = torch.zeros(b, n, k_size, v_size, dtype=F64)
    for name, (steps, wanted) in rules.items():
        last = steps.at_once(start)[0][0, :, -1].flatten()
        want = torch.tensor(wanted, dtype=F64)
        torch.testing.assert_close(last, want, rtol=0, atol=1e-5, msg=name)


# Every member -----------------------------------------------------------------------------------


def equations(layer: Any, x: Tensor) -> Tensor:
    """What a member puts out, its paper's equations for one row, head and step at a time."""
    y = torch.zeros(*x.shape[:2], H, dtype=F64)
    size, keys = layer.value_size, layer.key_size

    def decay(x: Tensor, n: int) -> Tensor:
        rate = F.softplus(x @ layer.decay.rate.weight[n] + layer.decay.rate.bias[n])
        return torch.exp(-layer.decay.log_scale[n].exp() * rate)

    def rms(o: Tensor, weight: Tensor) -> Tensor:
        return o / (o.square().mean() + 1e-5).sqrt() * weight

    for row in range(x.shape[1]):
        for n in range(layer.heads):
            s = torch.zeros(keys, size, dtype=F64)
            of_k, of_v = slice(n * keys, (n + 1) * keys), slice(n * size, (n + 1) * size)
            for t in range(len(x)):
                now = x[t, row]
                all_k = layer.heads * keys
                q, k, v = layer.project(now).split([all_k, all_k, H])
                q, k, v = q[of_k], k[of_k], v[of_v]
                if isinstance(layer, GLA):
                    alpha = torch.sigmoid(layer.gate(now)[of_k]) ** (1 / layer.gate_divisor)
                    s = torch.diag(alpha) @ s + torch.outer(k, v)
                    gate = F.silu(layer.output_gate(now))[of_v]
                    y[t, row, of_v] = rms(q @ s / keys**0.5, layer.norm.weight) * gate
                elif isinstance(layer, (DeltaNet, GatedDeltaNet)):
                    q, k = F.silu(q), F.silu(k)
                    q, k = (z / (z @ z + 1e-6).sqrt() for z in (q, k))
                    beta = torch.sigmoid(layer.strength(now))[n]
                    beta = 2 * beta if layer.negative_eigenvalues else beta
                    gated = isinstance(layer, GatedDeltaNet)
                    alpha = decay(now, n) if gated else 1.0
                    eye = torch.eye(keys, dtype=F64)
                    s = alpha * (eye - beta * torch.outer(k, k)) @ s + beta * torch.outer(k, v)
                    y[t, row, of_v] = rms(q @ s, layer.norm.weight)
                    if gated:
                        y[t, row, of_v] *= F.silu(layer.output_gate(now))[of_v]
                elif isinstance(layer, RWKV7):
                    w = torch.exp(-math.exp(-0.5) * torch.sigmoid(layer.decay(now)[of_k]))
                    a = torch.sigmoid(layer.rate(now)[of_k])
                    kappa = k * layer.erase_scale[of_k]
                    kappa = kappa / (kappa @ kappa + 1e-6).sqrt()
                    k = k * (1 + (a - 1) * layer.rate_share[of_k])
                    wkv = s.T @ (torch.diag(w) - torch.outer(kappa, a * kappa)) + torch.outer(v, k)
                    s = wkv.T
                    o = F.layer_norm(wkv @ q, (size,), eps=size * 1e-5)
                    o = o * layer.norm.weight + layer.norm.bias
                    o = o + (q * layer.bonus[of_k] * k).sum() * v
                    y[t, row, of_v] = o * layer.output_gate(now)[of_v]
                elif isinstance(layer, M2RNN):
                    q, k, v = F.silu(q), F.silu(k), F.silu(v)
                    keep = decay(now, n)
                    new = torch.tanh(s @ layer.state_weight[n] + torch.outer(k, v))
                    s = keep * s + (1 - keep) * new
                    o = q @ s + layer.direct[of_v] * v
                    y[t, row, of_v] = o * F.silu(layer.output_gate(now))[of_v]
                else:
                    pytest.fail(f"write down the equations of {type(layer).__name__} here")
    return F.rms_norm(y, (H,), layer.norm.weight, 1e-5) if isinstance(layer, M2RNN) else y


@members
def test_a_member_computes_its_paper(kind: Any) -> None:
    x = data(11)
    torch.testing.assert_close(made(kind)(x)[0], equations(made(kind), x))
    if hasattr(made(kind), "negative_eigenvalues"):
        other = made(kind, negative_eigenvalues=True)
        torch.testing.assert_close(other(x)[0], equations(other, x))


@members
def test_both_forms_agree_and_go_on_from_any_state(kind: Any) -> None:
    state = torch.randn(B, 2, made(kind).key_size, H // 2, dtype=F64)
    found = [gradients(made(kind, form=f), data(), state.clone().requires_grad_())
             for f in ("chunked", "recurrent")]  # fmt: skip
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@members
def test_step_by_step_is_the_whole(kind: Any) -> None:
    layer, x = made(kind, batch_first=True), data().transpose(0, 1)
    whole, last = layer(x)
    for cuts in ([1] * T, [11, 1, 7]):
        outputs, state = [], None
        for part in x.split(cuts, 1):
            output, state = layer(part, state)
            outputs.append(output)
        torch.testing.assert_close(torch.cat(outputs, 1), whole)
        torch.testing.assert_close(state, last)


@members
def test_the_step_jacobian_is_that_of_a_step(kind: Any) -> None:
    layer, x = made(kind), data(6)
    jacobians = flow.step_jacobians(layer, x)
    state = torch.zeros(B, 2, layer.key_size, H // 2, dtype=F64)
    size = state[0].numel()
    for t in range(6):
        whole = torch.autograd.functional.jacobian(lambda s, t=t: layer(x[t : t + 1], s)[1], state)
        for row in range(B):
            want = whole.view(B, size, B, size)[row, :, row]
            torch.testing.assert_close(jacobians[t, row], want)
        state = layer(x[t : t + 1], state)[1].detach()
    # The leading exponent of a product that is formed at full length.
    product = jacobians[0]
    for later in jacobians[1:]:
        product = later @ product
    volume = torch.linalg.slogdet(product)[1].mean() / 6
    torch.testing.assert_close(flow.lyapunov_exponents(layer, x).sum(), volume)
    top = flow.transition(layer, x).log10_norm
    torch.testing.assert_close(top, torch.linalg.matrix_norm(product, 2).log10())
    leading = flow.lyapunov_exponents(layer, x, k=1).sum()
    grads = torch.autograd.grad(leading, list(layer.parameters()), allow_unused=True)
    assert any(g is not None and g.isfinite().all() and g.abs().max() > 0 for g in grads)


@members
def test_it_compiles_without_a_break(kind: Any) -> None:
    layer, x = made(kind), data(9)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    found = []
    for each in (layer, compiled):
        output, last = each(x)
        grads = torch.autograd.grad(output.square().sum() + last.sum(), list(layer.parameters()))
        found.append([output, last, *grads])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


LENGTHS = torch.tensor([T - 6, T])


def marks() -> Tensor:
    """Where segments begin: at a first step, in the middle, and twice in a row."""
    resets = torch.zeros(T, B, dtype=torch.bool)
    for t, row in ((0, 0), (5, 0), (6, 0), (9, 1), (T - 2, 0)):
        resets[t, row] = True
    return resets


def by_segment(layer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Each stretch of each row by itself, without a batch."""
    outputs, last = torch.zeros(T, B, H, dtype=F64), []
    for row, size in enumerate(LENGTHS.tolist()):
        now: Tensor | None = state[row]
        for t in range(size):
            now = None if marks()[t, row] else now
            y, now = layer(x[t : t + 1, row], now)
            outputs[t, row] = y[0]
        last.append(now)
    return outputs, torch.stack(last)


@pytest.mark.parametrize(
    ("kind", "how"),
    [(kind, how) for kind in MEMBERS for how in ("chunked", "recurrent", "packed")]
    + [pytest.param(k, "compiled", marks=pytest.mark.slow) for k in (RWKV7, M2RNN)],
)
def test_rows_of_any_length_and_of_many_segments(kind: Any, how: str) -> None:
    layer = made(kind, form="recurrent" if how == "recurrent" else "chunked")
    x = data()
    x[T - 6 :, 0] = torch.nan  # padding reaches nothing
    state = torch.randn(B, 2, layer.key_size, H // 2, dtype=F64)

    def run(call: Any) -> list[Tensor]:
        leaves = [x.clone().requires_grad_(), state.clone().requires_grad_(), *layer.parameters()]
        output, last = call(layer, *leaves[:2])
        loss = output.square().sum() + last.sin().sum()
        found = torch.autograd.grad(loss, leaves, allow_unused=True)
        return [output, last, *(torch.zeros(1) if g is None else g for g in found)]

    def called(layer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        if how == "packed":
            packed, flags = (
                nn.utils.rnn.pack_padded_sequence(v, LENGTHS, enforce_sorted=False)
                for v in (x, marks())
            )
            output, last = layer(packed, state, resets=flags)
            return nn.utils.rnn.pad_packed_sequence(output)[0], last
        if how == "compiled":
            torch.compiler.reset()  # other members share the code, and count as recompilations
            layer = torch.compile(layer, fullgraph=True, backend="eager")
        return layer(x, state, lengths=LENGTHS, resets=marks())

    for got, want in zip(run(called), run(by_segment), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@members
def test_half_precision_keeps_a_wide_state_and_zeros_have_a_gradient(kind: Any) -> None:
    layer, x = made(kind).to(torch.bfloat16), data().to(torch.bfloat16)
    x[5:] = 0  # padding: keys that are exactly 0
    x.requires_grad_()
    output, state = layer(x)
    assert output.dtype == torch.bfloat16 and state.dtype == torch.float32
    (output.float().square().sum() + state.sum()).backward()
    for grad in (x.grad, *(p.grad for p in layer.parameters())):
        assert grad is not None and grad.isfinite().all() and grad.abs().max() < 1e5
    plain = made(kind).float()
    with torch.autocast("cpu", torch.bfloat16):
        mixed, state = plain(data().float())
    assert state.dtype == torch.float32
    torch.testing.assert_close(mixed.float(), plain(data().float())[0], rtol=0.1, atol=0.1)


@members
def test_what_is_wrong_is_said(kind: Any) -> None:
    name = kind.__name__
    for options, message in (
        ({"heads": 3}, "cannot be cut into 3 heads"),
        ({"form": "parallel"}, "no form 'parallel'; there are: chunked, recurrent"),
    ):
        with pytest.raises(ValueError, match=f"{name}.*{message}"):
            kind(I, H, **options)
    layer = made(kind)
    for bad, message in (
        ((data()[..., :2],), r"expected input \(T, B, 3\).*got \(19, 2, 2\)"),
        ((data(0),), "holds no time step"),
        ((data(), None, [T + 1, 1]), "expected lengths from 1 to 19"),
        ((data()[:, 0], None, [T]), "lengths belong to a padded batch"),
        ((data(), None, None, torch.ones(T, B)), "expected resets of torch.bool"),
        ((data(), torch.zeros(B, 2, 1, 1)), r"expected state \(B, heads, key_size, value_size\)"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(*bad)


# The verdict ------------------------------------------------------------------------------------


class LastStep(nn.Module):
    """Answers from what a layer reads last."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.out = nn.Linear(H, 1, dtype=F64)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x)[0][-1]).square().sum()


def test_a_memory_that_forgets_is_named_and_one_that_keeps_is_healthy() -> None:
    torch.manual_seed(9)
    for bias, verdict in ((-80.0, "vanishing"), (60.0, "healthy")):
        layer = GLA(I, H, 2, dtype=F64)
        with torch.no_grad():
            layer.gate.get_parameter("1.bias").fill_(bias)
        model = LastStep(layer)
        d = sg.diagnose(model, lambda model=model: model(data(40)), lag=30)
        assert d.verdict == verdict
        if verdict == "vanishing":  # alpha is exp(-5)
            rate = -d.flow["layer"].by_lag.log10_ratio[30] / 30
            assert abs(rate - 5 / math.log(10)) < 0.05 and d.findings[0].layer == "layer"


@pytest.mark.parametrize("form", ["lengths", "packed", "resets"])
def test_lags_are_those_of_the_sequences_themselves(form: str) -> None:
    """Rows of several lengths, or many segments in a row, tell what each of them tells alone."""
    torch.manual_seed(9)
    layer = GLA(I, H, 2, dtype=F64)
    with torch.no_grad():
        layer.gate.get_parameter("1.bias").fill_(-8.0)  # alpha is exp(-0.5)
    x, sizes = data(40)[:, :1], (25, 15)
    short = torch.stack([x[:25, 0], F.pad(x[25:, 0], (0, 0, 0, 10), value=torch.nan)], 1)
    head = torch.randn(H, dtype=F64)

    def read(output: Tensor) -> Tensor:
        return (output @ head).square().sum()

    def call() -> Tensor:
        if form == "resets":
            flags = torch.zeros(40, 1, dtype=torch.bool)
            flags[25] = True
            output = layer(x, resets=flags)[0]
            return read(torch.stack([output[24, 0], output[39, 0]]))
        if form == "lengths":
            output = layer(short, lengths=torch.tensor(sizes))[0]
        else:
            output = layer(nn.utils.rnn.pack_padded_sequence(short, torch.tensor(sizes)))[0]
            output = nn.utils.rnn.pad_packed_sequence(output)[0]
        return read(torch.stack([output[24, 0], output[14, 1]]))

    apart = [
        sg.diagnose(layer, lambda part=part: read(layer(part)[0][-1])).flow["gla"].by_lag
        for part in (x[:25], x[25:])
    ]
    found = sg.diagnose(layer, call).flow["gla"].by_lag
    assert found.max_lag == 24
    for lag in range(25):
        known = [10.0 ** (2 * a.log10_ratio[lag]) for a in apart if lag < len(a.log10_ratio)]
        assert min(known) ** 0.5 * 0.99 <= 10 ** found.log10_ratio[lag] <= max(known) ** 0.5 * 1.01


def test_a_nonlinear_state_that_explodes_is_named() -> None:
    torch.manual_seed(9)
    layer = M2RNN(I, H, 2, dtype=F64)
    with torch.no_grad():
        layer.state_weight.mul_(4)
        layer.decay.log_scale.fill_(3.0)
        layer.project.weight.mul_(1e-3)
        layer.project.bias.mul_(1e-3)
    model = LastStep(layer)
    assert sg.diagnose(model, lambda: model(data(40)), lag=8).verdict == "exploding"
