"""Clips on parameter gradients: against torch, their properties, scalers, groups, and state."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

import steadygrad as sg
from steadygrad import remedies
from steadygrad.remedies import REMEDIES, Remedy
from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.parameters import Parameters
from steadygrad.remedies.percentile import percentile
from steadygrad.remedies.spam_clip import _clamp_

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SHAPES = [(64, 3), (64, 3), (7,), (7,), (), (2, 3, 4), (200, 100), (5, 1), (64, 3)]
CLIPS = [name for name, remedy in REMEDIES.items() if remedy().acts_on_gradients]


def made(
    shapes: list[tuple[int, ...]] = SHAPES, dtype: torch.dtype = torch.float32, scale: float = 1.0
) -> nn.ParameterList:
    """Parameters of all kinds of shapes, some alike, with gradients."""
    source = torch.Generator().manual_seed(0)
    model = nn.ParameterList(torch.randn(shape, generator=source).to(dtype) for shape in shapes)
    for parameter in model:
        parameter.grad = (scale * torch.randn(parameter.shape, generator=source)).to(dtype)
    return model


def grads(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


# Against torch.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 30.0, 1e6])
def test_clip_norm_is_torchs(dtype: torch.dtype, norm_type: float, max_norm: float) -> None:
    ours, theirs = made(dtype=dtype), made(dtype=dtype)
    for model in (ours, theirs):
        model.append(nn.Parameter(torch.zeros(3)))  # one without a gradient
    for _ in range(2):  # the second call knows the batches
        report = remedies.ClipNorm(max_norm, norm_type=norm_type).begin(ours)()
        norm = clip_grad_norm_(theirs.parameters(), max_norm, norm_type)
        torch.testing.assert_close(report["grad_norm"], norm, rtol=1e-6, atol=0)
        torch.testing.assert_close(grads(ours), grads(theirs), rtol=1e-6, atol=0)
        assert bool(report["clipped"]) == bool(norm > max_norm)


@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_value_is_torchs(dtype: torch.dtype) -> None:
    ours, theirs = made(dtype=dtype), made(dtype=dtype)
    remedies.ClipValue(0.5).begin(ours)()
    clip_grad_value_(theirs.parameters(), 0.5)
    torch.testing.assert_close(grads(ours), grads(theirs), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norms_of_sixteen_bits_are_taken_in_thirty_two(dtype: torch.dtype) -> None:
    model = made(dtype=dtype, scale=800.0)  # the norm of all, 117 000, is beyond float16
    true = math.sqrt(sum(float(g.double().square().sum()) for g in grads(model)))
    report = remedies.ClipNorm(1.0).begin(model)()
    assert report["grad_norm"].dtype == torch.float32
    assert float(report["grad_norm"]) == pytest.approx(true, rel=1e-5)
    after = math.sqrt(sum(float(g.double().square().sum()) for g in grads(model)))
    assert after == pytest.approx(1.0, rel=3e-2)


def test_kinds_may_be_mixed_and_an_empty_model_is_fine() -> None:
    model = nn.ParameterList([*made([(3, 2), (4,)]), *made([(3, 2), (4,)], torch.float64)])
    for parameter in model:
        parameter.grad = torch.ones_like(parameter)
    assert float(remedies.ClipNorm(2.0).begin(model)()["grad_norm"]) == pytest.approx(20**0.5)
    torch.testing.assert_close(grads(model)[0], torch.full((3, 2), 2 / 20**0.5))
    for name in CLIPS:
        empty = nn.Linear(2, 2)  # no gradient yet
        report = REMEDIES[name]().begin(empty)()
        assert not any(bool(report[k]) for k in ("clipped", "skipped", "nonfinite") if k in report)


def test_a_sparse_gradient_is_clipped_as_the_dense_one() -> None:
    models = [nn.Embedding(9, 4, sparse=sparse) for sparse in (True, False)]
    models[1].load_state_dict(models[0].state_dict())
    for step in range(3):  # another number of rows at every step
        for model in models:
            model.zero_grad()
            index = torch.tensor([1, 2, 2, 5][: step + 2])
            (model(index).square().sum() * 100).backward()
            remedies.ClipNorm(0.7).begin(model)()
        sparse, dense = (model.weight.grad for model in models)
        assert sparse is not None and dense is not None
        torch.testing.assert_close(sparse.to_dense(), dense)
    with pytest.raises(TypeError, match="weight is sparse"):
        remedies.AGC(clip_embeddings=True).begin(models[0])()


# Scopes, by a second formulation.


@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf")])
@pytest.mark.parametrize("scope", ["group", "layer", "parameter"])
def test_each_scope_is_torchs_clip_of_its_parameters(scope: Any, norm_type: float) -> None:
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        model = nn.ModuleDict(
            {"lstm": nn.LSTM(3, 4, 2, bidirectional=True), "head": nn.Linear(8, 2)}
        )
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        models.append(model)
    groups = [[p for n, p in models[1].named_parameters() if n.startswith(k)] for k in ("h", "l")]
    parts: dict[str, list[nn.Parameter]] = {}
    for name, parameter in models[1].named_parameters():
        suffix = next((s for s in ("_l0_reverse", "_l1_reverse", "_l0", "_l1") if s in name), "")
        parts.setdefault(name.partition(".")[0] + suffix, []).append(parameter)
    expected = {
        "group": groups,
        "layer": list(parts.values()),
        "parameter": [[p] for p in models[1].parameters()],
    }[scope]
    assert len(parts) == 5
    norms = [float(clip_grad_norm_(part, 0.8, norm_type)) for part in expected]
    heads = [p for n, p in models[0].named_parameters() if n.startswith("h")]
    rest = [p for n, p in models[0].named_parameters() if n.startswith("l")]
    optimizer = torch.optim.SGD([{"params": heads}, {"params": rest}])
    treatment = remedies.ClipNorm(0.8, scope, norm_type).begin(models[0], optimizer)
    report = treatment()
    torch.testing.assert_close(grads(models[0]), grads(models[1]), rtol=1e-6, atol=0)
    assert sorted(report["norms"].tolist()) == pytest.approx(sorted(norms))
    assert len(treatment.parameters.labels(scope)) == len(norms)
    if scope == "layer":
        assert "lstm.l1_reverse" in treatment.parameters.labels(scope)


def test_an_optimizer_chooses_the_parameters() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    outside = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([*second.parameters(), outside])
    for p in (*first.parameters(), *second.parameters(), outside):
        p.grad = torch.ones_like(p)
    treatment = remedies.ClipNorm(0.1).begin(nn.Sequential(first, second), optimizer)
    treatment()
    assert treatment.parameters.names == ("1.weight", "1.bias", "group0.2")
    torch.testing.assert_close(grads(first), [torch.ones(2, 2), torch.ones(2)], rtol=0, atol=0)
    assert outside.grad is not None and float(outside.grad.sum()) < 0.2


# Properties (Pascanu's algorithm 1: the direction stays; AGC: the bound goes with the weights).

numbers = st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=6)


@given(numbers, st.floats(1e-3, 1e3))
def test_a_global_norm_clip_keeps_the_direction_and_never_lengthens(
    g: list[float], bound: float
) -> None:
    model = nn.ParameterList([torch.zeros(len(g))])
    model[0].grad = torch.tensor(g)
    remedies.ClipNorm(bound).begin(model)()
    before, after = np.array(g), grads(model)[0].double().numpy()
    long, short = float(np.linalg.norm(before)), float(np.linalg.norm(after))
    assert short <= long * (1 + 1e-6) and short <= max(bound, 0) * (1 + 1e-5)
    if long > 1e-3:
        np.testing.assert_allclose(
            after * long, before * short, rtol=1e-3, atol=1e-5 * long * short
        )


def test_a_clip_by_value_can_turn_the_gradient() -> None:
    model = nn.ParameterList([torch.zeros(2)])
    model[0].grad = torch.tensor([10.0, 0.1])
    remedies.ClipValue(0.1).begin(model)()
    torch.testing.assert_close(grads(model)[0], torch.tensor([0.1, 0.1]))  # from 0.6 to 45 degrees


@given(st.floats(1e-2, 1e2))
def test_the_bound_of_agc_goes_with_the_weights(scale: float) -> None:
    model = nn.ParameterList([torch.tensor([[3.0, 4.0], [0.3, 0.4]]) * scale, torch.zeros(1, 2)])
    for parameter in model:
        parameter.grad = torch.full_like(parameter, 1e4)
    remedies.AGC(0.01).begin(model)()
    rows = [float(row.norm()) for g in grads(model) for row in g]
    # A row of zeros is bounded as one of norm 1e-3.
    assert rows == pytest.approx([0.05 * scale, 0.005 * scale, 1e-5], rel=1e-4)


def test_agc_takes_a_filter_and_a_bias_as_a_unit() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 4), nn.Conv1d(3, 2, 1))
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 100
    remedies.AGC(0.1).begin(model)()
    for parameter in model.parameters():
        dims = tuple(range(1, parameter.dim())) or (0,)
        assert parameter.grad is not None
        own, weight = (torch.linalg.vector_norm(t, dim=dims) for t in (parameter.grad, parameter))
        torch.testing.assert_close(own, 0.1 * weight.detach(), rtol=1e-4, atol=1e-7)


@given(st.integers(1, 40), st.floats(0, 100), st.integers(0, 10))
def test_percentiles_are_numpys(count: int, percent: float, seed: int) -> None:
    rows = np.random.default_rng(seed).lognormal(size=(3, count))
    found = percentile(torch.from_numpy(rows), percent)
    np.testing.assert_allclose(found, np.percentile(rows, percent, axis=1), rtol=1e-9)


def test_auto_clip_with_a_long_history_and_one_that_is_full() -> None:
    norms = np.random.default_rng(0).lognormal(size=300)
    for history in (40, 250):  # the second is read anew at every second step from the hundredth on
        model = nn.ParameterList([torch.zeros(2)])
        treatment = remedies.AutoClip(50.0, history).begin(model)
        for step, norm in enumerate(norms):
            model[0].grad = torch.tensor([norm, 0.0], dtype=torch.float32)
            bound = float(treatment()["threshold"])
            read = step if step < 100 or step % max(1, history // 100) == 0 else step - 1
            seen = norms[max(0, read + 1 - history) : read + 1]
            assert bound == pytest.approx(np.percentile(seen, 50), rel=1e-5)


def test_z_clip_follows_its_published_code() -> None:
    """Retold from the description in the paper's code, in plain floats."""
    norms = [*np.random.default_rng(3).lognormal(sigma=0.3, size=60)]
    norms[40] *= 20
    norms[50] *= 5
    for target in ("adaptive", "mean", "bound"):
        model = nn.ParameterList([torch.zeros(1)])
        treatment = remedies.ZClip(z=2.0, warmup=10, max_norm=4.0, target=target).begin(model)
        mean = variance = 0.0
        for step, norm in enumerate(norms):
            model[0].grad = torch.tensor([norm], dtype=torch.float32)
            treatment()
            bound = math.inf
            if step >= 10:
                z = (norm - mean) / (math.sqrt(variance) + 1e-6)
                if z > 2.0:
                    spread = 2.0 * math.sqrt(variance)
                    bound = {
                        "adaptive": mean + spread / (z / 2.0),
                        "mean": mean,
                        "bound": mean + spread,
                    }[target]
                left = min(norm, bound)
                mean = 0.97 * mean + 0.03 * left
                variance = 0.97 * variance + 0.03 * (left - mean) ** 2
            elif step == 9:
                mean, variance = float(np.mean(norms[:10])), float(np.var(norms[:10]))
            assert float(grads(model)[0]) == pytest.approx(min(norm, bound, 4.0), rel=1e-4)


def test_spam_clip_reads_adams_own_squares() -> None:
    results = []
    for kept_by in ("adam", "us"):
        torch.manual_seed(0)
        model = nn.ParameterList([torch.zeros(30, 2), torch.zeros(30, 2), torch.zeros(200, 100)])
        adam = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
        remedy = remedies.SpamClip(threshold=3.0, beta2=0.99, warmup=3)
        treatment = remedy.begin(model, adam if kept_by == "adam" else None)
        assert (len(treatment.memory) == 1) == (kept_by == "adam")
        before: list[Tensor] = []
        for _ in range(6):
            for parameter in model:
                parameter.grad = torch.randn_like(parameter)
            before = grads(model)
            treatment()
            adam.step()
        assert any(not torch.equal(a, b) for a, b in zip(before, grads(model), strict=True))
        results.append(grads(model))
    torch.testing.assert_close(results[0], results[1])


# What is not finite.


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["auto-clip", "z-clip", "ada-gc", "skip-spike"])
def test_a_broken_gradient_does_not_enter_what_is_remembered(name: str, bad: float) -> None:
    options = {} if name == "auto-clip" else {"warmup": 4}
    thresholds = []
    for broken in (None, 2, 8):  # in the warm-up, and after it
        model = nn.ParameterList([torch.zeros(3), torch.zeros(3)])
        treatment = REMEDIES[name](**options).begin(model)
        source = torch.Generator().manual_seed(0)
        for step in range(12):
            for parameter in model:
                parameter.grad = torch.randn(3, generator=source)
            if step == broken:
                model[0].grad[0] = bad  # pyright: ignore[reportOptionalSubscript]
            report = treatment()
            assert bool(report["nonfinite"]) == (step == broken)
        assert treatment.counts["nonfinite"] == (broken is not None)
        thresholds.append([t.clone() for t in treatment.memory.values()])
        assert all(t.isfinite().all() for t in treatment.memory.values() if t.dim() == 0)
        after = grads(model)
        assert all(g.isfinite().all() for g in after)


def test_a_broken_entry_does_not_stay_in_our_running_squares() -> None:
    model = nn.ParameterList([torch.zeros(2)])
    treatment = remedies.SpamClip(threshold=4.0, beta2=0.5, warmup=2).begin(model)
    for value in (1.0, 1.0, float("nan"), float("inf"), 1.0):
        model[0].grad = torch.tensor([value, 1.0])
        treatment()
        last = grads(model)[0]
        assert last[0].isnan() == math.isnan(value) and not last.isinf().any()
    assert last.tolist() == [1.0, 1.0]


def test_steps_are_counted() -> None:
    model = nn.ParameterList([torch.zeros(2)])
    chain = [r.begin(model) for r in (remedies.Nonfinite("zero"), remedies.ClipNorm(1.0))]
    for value in (0.1, 3.0, float("nan"), 5.0):
        model[0].grad = torch.tensor([value, 0.0])
        for treatment in chain:
            treatment()
    assert chain[0].counts == {"steps": 4, "clipped": 0, "skipped": 0, "nonfinite": 1}
    assert chain[1].counts == {"steps": 4, "clipped": 2, "skipped": 0, "nonfinite": 0}


# In a training: accumulation, autocast, scalers.


def batch(seed: int) -> Tensor:
    return torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(seed))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.LSTM(3, 5)


@pytest.mark.parametrize("name", CLIPS)
def test_accumulated_batches_are_one_batch(name: str) -> None:
    outcomes = []
    for parts in (1, 4):
        model = network()
        treatment = REMEDIES[name]().begin(model)
        for step in range(3):
            model.zero_grad()
            x = batch(step)
            for part in x.chunk(parts, dim=1):
                (model(part)[0].square().sum() * 20).backward()
            treatment()
        outcomes.append(grads(model))
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("unscale", ["by us", "by hand"])
def test_scaled_gradients_are_never_clipped(name: str, unscale: str) -> None:
    outcomes = []
    for scale in (1.0, 1024.0):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
        treatment = REMEDIES[name]().begin(model, optimizer, scaler)
        for step in range(4):
            optimizer.zero_grad()
            scaler.scale(model(batch(step))[0].square().sum() * 20).backward()
            if unscale == "by hand":
                scaler.unscale_(optimizer)
            treatment()
            scaler.step(optimizer)
            scaler.update()
        outcomes.append([*grads(model), *(p.detach() for p in model.parameters())])
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", CLIPS)
def test_an_overflow_under_a_scaler_is_skipped_and_forgotten(name: str) -> None:
    outcomes = []
    for overflow in (False, True):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=1000)
        # Also one that is told to raise leaves an overflow to the scaler.
        options = {"action": "raise"} if name == "nonfinite" else {}
        treatment = REMEDIES[name](**options).begin(model, optimizer, scaler)
        for step in range(5):
            if overflow and step == 3:  # a batch more, whose scaled loss is infinite
                optimizer.zero_grad()
                scaler.scale(model(batch(9))[0].sum() * 1e38 * 1e3).backward()
                treatment()
                scaler.step(optimizer)
                scaler.update()
            optimizer.zero_grad()
            scaler.scale(model(batch(step))[0].square().sum() * 20).backward()
            treatment()
            scaler.step(optimizer)
            scaler.update()
        assert scaler.get_scale() == (32.0 if overflow else 64.0)
        outcomes.append([p.detach() for p in model.parameters()])
        if name == "nonfinite":
            assert treatment.counts["nonfinite"] == overflow
    tolerance = 1e-4 if name != "auto-clip" else 1e-2  # its percentile stands twice in the history
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=tolerance, atol=1e-5)


@pytest.mark.parametrize("name", CLIPS)
def test_bfloat16_autocast_differs_by_its_rounding_alone(name: str) -> None:
    outcomes = []
    for enabled in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 16), nn.Linear(16, 2))
        treatment = REMEDIES[name]().begin(model)
        report: Any = {}
        for step in range(3):
            model.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                loss = model(batch(step)).float().square().sum() * 20
            loss.backward()
            report = treatment()
        outcomes.append(torch.cat([g.flatten() for g in grads(model)]))
        assert report.get("grad_norm", torch.ones(())).dtype == torch.float32
    ratio = float((outcomes[0] - outcomes[1]).norm() / outcomes[0].norm())
    assert 0 < ratio < 0.03


def test_a_scaler_needs_its_optimizer() -> None:
    with pytest.raises(ValueError, match="give begin"):
        remedies.ClipNorm().begin(network(), scaler=torch.amp.GradScaler("cpu"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 300, (1 << 18) + 7])
@pytest.mark.parametrize("odd", [0.0, 1e-30, 1.5, 2.1, float("inf"), float("nan")])
def test_spam_clip_leaves_out_only_what_would_change_nothing(
    dtype: torch.dtype, size: int, odd: float
) -> None:
    """Against the clamp of every entry, bit for bit; the odd entry is the last."""
    grad, square = torch.ones(size, dtype=dtype), torch.ones(size, dtype=dtype)
    grad[-1:] = odd
    square[-1:] = float(odd != 1e-30)
    bound = square.sqrt() * 2.0
    expected = grad.clamp(-bound, bound)
    is_changed = _clamp_(grad, square, 4.0, {})
    torch.testing.assert_close(grad, expected, rtol=0, atol=0, equal_nan=True)
    assert is_changed == (not size or odd not in (0.0, 1.5))


# State.


def stateful(name: str) -> Remedy:
    return REMEDIES[name](**({"warmup": 3} if "warmup" in REMEDIES[name]().options else {}))


@pytest.mark.parametrize("name", CLIPS)
def test_a_restored_treatment_goes_on_bit_for_bit(name: str) -> None:
    def train(steps: range, state: Any = None) -> tuple[Any, list[Tensor]]:
        model = network()
        treatment = stateful(name).begin(model)
        if state is not None:
            treatment.load_state_dict(state)
        for step in steps:
            model.zero_grad()
            (model(batch(step))[0].square().sum() * (500 if step % 4 == 3 else 1)).backward()
            treatment()
        return treatment, grads(model)

    whole, expected = train(range(12))
    first, _ = train(range(7))
    state = first.state_dict()
    again, found = train(range(7, 12), state)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(
        again.state_dict(), whole.state_dict(), rtol=0, atol=0, equal_nan=True
    )
    torch.testing.assert_close(state, first.state_dict(), rtol=0, atol=0, equal_nan=True)
    assert again.counts["steps"] == 12


def test_a_state_of_another_kind_is_refused_whole() -> None:
    model = network()
    state = remedies.AutoClip(history=5).begin(model).state_dict()
    treatment = remedies.AutoClip(history=6).begin(model)
    with pytest.raises(ValueError, match=r"does not fit: expected tensors .*\(6, 1\)"):
        treatment.load_state_dict(state)


def test_nothing_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a device: reading the value of a tensor that is not the host's own fails."""
    monkeypatch.setattr("steadygrad.remedies.gradients.HOST", ())
    model = network()
    treatments = [stateful(name).begin(model) for name in CLIPS]
    own = {id(t) for x in treatments for n, t in x.memory.items() if n in ("steps", "treated")}

    for method in ("__bool__", "__int__", "__float__", "item", "tolist"):
        plain = getattr(Tensor, method)

        def refusing(self: Tensor, plain: Any = plain) -> Any:
            assert id(self) in own, "a value was read"
            return plain(self)

        monkeypatch.setattr(Tensor, method, refusing)
    for step in range(5):
        model.zero_grad()
        model(batch(step))[0].square().sum().backward()
        for treatment in treatments:
            treatment()


# In the watch.


def test_the_watch_clips_with_any_remedy() -> None:
    outcomes = []
    for watched in (False, True):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        remedy = remedies.AutoClip(50.0)
        watch = sg.watch(model, optimizer) if watched else None
        treatment = remedy.begin(model, optimizer)
        for step in range(4):
            optimizer.zero_grad()
            (model(batch(step))[0].square().sum() * (step + 1)).backward()
            true = float(torch.cat([g.flatten() for g in grads(model)]).norm())
            if watch:
                assert float(watch.clip_(remedy)) == pytest.approx(true, rel=1e-6)
            else:
                treatment()
            optimizer.step()
        outcomes.append([p.detach().clone() for p in model.parameters()])
        if watch:
            assert watch.treatments[remedy].counts["steps"] == 4
            assert len(watch.norms) >= 1
            watch.close()
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=0, atol=0)


def test_gradients_that_are_there_now_and_then() -> None:
    """A layer that is used at every second step only."""
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    for name in CLIPS:
        treatment = REMEDIES[name]().begin(model)
        for step in range(6):
            model.zero_grad()
            x = torch.ones(1, 2)
            out = model[0](x) if step % 2 else model[1](model[0](x))
            out.square().sum().backward()
            treatment()
            assert all(g.isfinite().all() for g in grads(model))
    rows = Gradients(Parameters(model)).rows
    assert rows == [0, 1]
