"""The watch: measures what a training does, and leaves the training as it was."""

import gc
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.diagnosis.budget import Budget
from steadygrad.record import Record, read


class Reader(nn.Module):
    def __init__(self, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.rnn = layer or nn.LSTM(3, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


def train(
    model: nn.Module, steps: int = 5, clip: float | None = None, **options: Any
) -> tuple[sg.Watch, torch.optim.Optimizer]:
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    watch = sg.watch(model, optimizer, budget=1.0, **options)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(40, 6, 3, generator=generator)
        optimizer.zero_grad()
        model(x).square().sum().backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    return watch, optimizer


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN, sg.LSTM])
def test_a_watched_training_ends_bit_equal_to_an_unwatched_one(layer: Any) -> None:
    ends = []
    for watched in (False, True):
        torch.manual_seed(0)
        model = Reader(layer(3, 8))
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        watch = sg.watch(model, optimizer, budget=1.0, lag=30) if watched else None
        for _ in range(6):
            optimizer.zero_grad()
            model(torch.randn(40, 6, 3)).square().sum().backward()
            optimizer.step()
        if watch:
            assert watch.flow and watch.step == 6
        ends.append([p.detach().clone() for p in model.parameters()] + [torch.get_rng_state()])
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


def test_the_measurement_is_that_of_diagnose() -> None:
    torch.manual_seed(0)
    model = Reader()
    x = torch.randn(40, 6, 3)
    d = sg.diagnose(model, lambda: model(x).square().sum(), lag=39)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    watch = sg.watch(model, optimizer, lag=39, rows=6)
    model(x).square().sum().backward()
    optimizer.step()
    assert watch.verdict == d.verdict == "vanishing"
    np.testing.assert_allclose(watch.flow["rnn"].log10_grad, d.flow["rnn"].log10_grad, atol=1e-5)
    assert watch.latest["horizon"] == d.flow["rnn"].horizon


def test_norms_before_and_after_the_users_own_clip() -> None:
    watch, _ = train(Reader(), clip=1e-3)
    assert watch.latest["grad_norm_clipped"] == pytest.approx(1e-3, rel=1e-3)
    assert watch.latest["grad_norm"] > 1e-2
    assert watch.latest["clipped_share"] == 1.0
    free, _ = train(Reader(), clip=1e6)
    assert free.latest["clipped_share"] == 0.0


def test_clip_is_torchs_clip() -> None:
    norms = []
    for ours in (False, True):
        torch.manual_seed(0)
        model = Reader()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        watch = sg.watch(model, optimizer)
        model(torch.randn(20, 4, 3)).square().sum().backward()
        norm = watch.clip_(0.1) if ours else nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        norms.append([norm, *(p.grad for p in model.parameters())])
        optimizer.step()
        assert watch.latest["clipped_share"] == 1.0
        with pytest.raises(ValueError, match="positive"):
            watch.clip_(0.0)
        watch.close()
    torch.testing.assert_close(norms[0], norms[1])


def test_a_scaler_leaves_no_trace_in_the_norms() -> None:
    norms = []
    for scaled in (False, True):
        torch.manual_seed(0)
        model = Reader()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        watch = sg.watch(model, optimizer, scaler=scaler if scaled else None, rows=4)
        scaler.scale(model(torch.randn(20, 4, 3)).square().sum()).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        scaler.step(optimizer)
        scaler.update()
        norms.append([watch.latest["grad_norm"], watch.latest["grad_norm_clipped"]])
        norms[-1] += watch.flow["rnn"].log10_grad.tolist()
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-4)


def test_a_step_that_the_scaler_skips_is_no_fault() -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    watch = sg.watch(model, optimizer, scaler=scaler)
    scaler.scale(1e10 * model(torch.randn(20, 4, 3)).square().sum()).backward()
    scaler.step(optimizer)
    assert watch.step == 0 and watch.findings == []


def test_accumulation_measures_the_sum_and_keeps_only_the_last_batch() -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watch = sg.watch(model, optimizer, budget=1.0)
    for _ in range(3):
        model(torch.randn(20, 4, 3)).square().sum().backward()
    assert len(watch._capture.calls) == 1
    total = float(
        nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    )
    optimizer.step()
    assert watch.latest["grad_norm"] == pytest.approx(total, rel=1e-5)


def test_forward_passes_without_backward_do_not_pile_up() -> None:
    model = Reader()
    watch = sg.watch(model, torch.optim.SGD(model.parameters(), 0.1))
    for _ in range(200):
        model(torch.randn(2, 1, 3))
    assert len(watch._capture.calls) <= 64


def poison_input(model: Reader, x: Tensor) -> Tensor:
    x = x.clone()
    x[17, 2, 1] = float("inf")
    return model(x).square().sum()


def poison_weight(model: Reader, x: Tensor) -> Tensor:
    with torch.no_grad():
        model.head.weight[1, 3] = float("nan")
    return model(x).square().sum()


def poison_loss(model: Reader, x: Tensor) -> Tensor:
    return (model(x) * 0 - 1).sqrt().sum()


def poison_gate(model: Reader, x: Tensor) -> Tensor:
    with torch.no_grad():  # a linear recurrence that grows by 1e10 a step: over at the fourth
        model.rnn.weight_hh_l0.copy_(1e10 * torch.eye(8))  # type: ignore[union-attr]
        model.rnn.bias_ih_l0.fill_(10.0)  # type: ignore[union-attr]
    return model(x).square().sum()


def poison_trip(model: Reader, x: Tensor) -> Tensor:
    model.rnn.weight_hh_l0.data.mul_(1e9)  # type: ignore[union-attr]
    return (model(x * 0) * 1e25).sum()


@pytest.mark.parametrize(
    ("poison", "layer", "expected"),
    [
        (poison_input, None, {"layer": "rnn", "tensor": "input", "time_step": 17, "sequence": 2}),
        (poison_weight, None, {"layer": "head.weight", "tensor": "head.weight"}),
        (poison_loss, None, {"layer": "rnn", "tensor": "gradient at the output"}),
        (poison_gate, nn.RNN(3, 8, nonlinearity="relu"), {"gate": "candidate", "time_step": 4}),
        (poison_trip, nn.RNN(3, 8, bias=False), {"layer": "rnn", "tensor": "gradient at h"}),
    ],
    ids=["input", "weight", "loss", "gate", "trip"],
)
def test_the_first_bad_place_is_named_and_the_run_keeps_its_record(
    poison: Any, layer: nn.Module | None, expected: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = Reader(layer)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    path = tmp_path / "run.db"
    with Record.create(path, config={}) as record:
        watch = sg.watch(model, optimizer, record=record, lag=10, budget=1.0)
        for step in range(4):
            x = torch.randn(30, 4, 3)
            optimizer.zero_grad()
            loss = poison(model, x) if step == 2 else model(x).square().sum()
            loss.backward()
            optimizer.step()
        finding = watch.findings[0]
        watch.close()
    assert watch.verdict == finding.fault == "nonfinite" and finding.step == 3
    got = {"layer": finding.layer, "gate": finding.gate, **finding.evidence}
    assert {k: got[k] for k in expected} == expected
    assert finding.confidence == (0.95 if expected.get("tensor") == "gradient at h" else 1.0)
    with read(path) as run:
        assert run.notes["verdict"] == "nonfinite"
        assert run.findings()[-1]["layer"] == finding.layer
        assert len(run.rows("log10_grad", "rnn", "h")[0]) >= 2


def test_findings_say_since_when_and_go_when_they_are_gone(tmp_path: Path) -> None:
    layer: Any = nn.RNN(3, 8)
    nn.init.orthogonal_(layer.weight_hh_l0, 0.3)
    model = Reader(layer)
    with Record.create(tmp_path / "run.db", config={}) as record:
        optimizer = torch.optim.SGD(model.parameters(), 0.0)
        watch = sg.watch(model, optimizer, record=record, lag=35, budget=1.0)
        for step in range(4):
            if step == 3:
                with torch.no_grad():
                    for p in layer.parameters():
                        p.mul_(0.01 if p is not layer.weight_hh_l0 else 1.0)
                    nn.init.orthogonal_(layer.weight_hh_l0, 1.0)
            optimizer.zero_grad()
            model(0.01 * torch.randn(40, 4, 3)).sum().backward()
            optimizer.step()
            if step == 2:
                assert [(f.fault, f.step) for f in watch.findings] == [("vanishing", 1)]
        assert watch.verdict == "healthy" and watch.findings == []
        watch.close()
    with read(tmp_path / "run.db") as run:
        assert any(e["kind"] == "resolved" for e in run.events())
        assert len(run.findings()) == 1


def test_closing_takes_every_hook_off_and_twice_is_fine() -> None:
    watch, optimizer = train(Reader())
    model = watch.model
    watch.close()
    watch.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


def test_a_resumed_watch_counts_on() -> None:
    watch, _ = train(Reader(), start_step=100)
    assert watch.step == 105


def test_a_model_without_recurrence_is_never_called_healthy_at_a_lag() -> None:
    for model in (nn.Linear(2, 2), nn.ParameterList([nn.Parameter(torch.ones(2))])):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with sg.watch(model, optimizer, lag=5, every=1) as watch:
            torch.cat([p.flatten() for p in model.parameters()]).sum().backward()
            optimizer.step()
            assert watch.verdict == "not judged"


def test_packed_input_and_many_losses() -> None:
    layer: Any = nn.GRU(3, 4, bidirectional=True)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    watch = sg.watch(layer, optimizer, lag=3, rows=2)
    rows = [torch.randn(n, 3) for n in (5, 9, 7)]
    packed = nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
    layer(packed)[0].data.square().sum().backward()
    optimizer.step()
    assert set(watch.flow) == {"gru.l0", "gru.l0_reverse"}
    assert "over 2 sequences" in watch.flow["gru.l0"].exactness


def test_the_budget_lets_the_first_through_and_makes_the_next_wait() -> None:
    budget = Budget(0.02)
    assert budget.allows("replay")
    with budget.spend("replay"):
        time.sleep(0.01)
    assert not budget.allows("replay")
    assert Budget(1.0).allows("replay")
    budget._began -= 0.2  # time has passed, but not yet fifty times what was spent
    assert not budget.allows("replay")
    budget._began -= 10.0  # ten seconds later
    assert budget.allows("replay")
    with pytest.raises(ValueError, match="share"):
        Budget(2.0)


def test_half_of_the_budget_is_for_the_looks_however_much_the_steps_take() -> None:
    budget = Budget(0.02)
    budget._began -= 10.0
    budget.add("step", 5.0)
    budget.add("replay", 0.02)
    assert not budget.allows("step") and budget.wait("step") > 200
    assert budget.allows("replay")  # 0.04 of the 0.1 that one per cent of ten seconds is
    budget.add("replay", 0.07)
    assert not budget.allows("replay") and 5 < budget.wait("replay") < 7
    assert Budget(0.0).wait("replay") == 0.0  # the first, always
    blind = Budget(0.0)
    blind.add("replay", 1e-9)
    assert blind.wait("replay") == np.inf


@pytest.mark.slow
def test_the_inputs_are_probed_at_every_fiftieth_step_and_only_for_a_record(tmp_path: Path) -> None:
    with Record.create(tmp_path / "run.db", config={}) as record:
        watch, _ = train(Reader(), 101, record=record)
        watch.close()
    with read(tmp_path / "run.db") as run:
        steps = run.rows("log10_grad_input", "rnn", state="x")[0]
    np.testing.assert_array_equal(steps, [50, 100])
    model = Reader()
    before = len(model.rnn._forward_pre_hooks)
    with sg.watch(model, torch.optim.Adam(model.parameters())):
        assert len(model.rnn._forward_pre_hooks) == before + 1  # of what catches the calls


@pytest.mark.parametrize("kinds", [(torch.float32,), (torch.float32, torch.float64)])
def test_the_norm_before_a_clip_is_torchs(kinds: tuple[torch.dtype, ...]) -> None:
    model = nn.ModuleList([Reader().to(kind) for kind in kinds])
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with sg.watch(model, optimizer, every=1) as watch:
        for reader, kind in zip(model, kinds, strict=True):
            reader(torch.randn(9, 4, 3, dtype=kind)).square().sum().backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
        assert watch.latest["grad_norm"] == pytest.approx(float(norm), rel=1e-6)
        assert watch.latest["grad_norm_clipped"] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("first", [False, True])
def test_the_leading_exponents_are_followed(first: bool, tmp_path: Path) -> None:
    """Against the whole spectrum of the same layer on the same batch, without training."""
    layer = nn.GRU(3, 6, 2, batch_first=first)
    optimizer = torch.optim.SGD(layer.parameters(), 0.0)
    x = torch.randn(8, 60, 3) if first else torch.randn(60, 8, 3)
    with (
        Record.create(tmp_path / "run.db", config={}) as record,
        sg.watch(layer, optimizer, budget=1.0, rows=8, record=record, exponents=2) as watch,
    ):
        for _ in range(8):
            optimizer.zero_grad()
            layer(x)[0].square().mean().backward()
            optimizer.step()
        got = [watch.latest[f"lyapunov_{i}"] for i in (1, 2)]
    with torch.no_grad():
        each = [sg.flow.lyapunov_exponents(layer, x, index=i, k=2, discard=20) for i in (0, 1)]
    want = max(each, key=lambda e: float(e[0]))
    np.testing.assert_allclose(got, want, atol=0.03)
    with read(tmp_path / "run.db") as run:
        assert len(run.scalars("lyapunov_1")[0]) == 8
    with pytest.raises(ValueError, match="expected a whole number"):
        sg.watch(layer, optimizer, exponents=-1)
    with sg.watch(layer, optimizer, budget=1.0) as quiet:
        layer(x)[0].square().mean().backward()
        optimizer.step()
        assert "lyapunov_1" not in quiet.latest


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Dynamo, tracing into a hook, warns of torch's own accord
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, sg.LSTM])
@pytest.mark.parametrize("early", [False, True])
def test_a_compiled_model_is_measured_as_the_plain_one(kind: Any, early: bool) -> None:
    """Also if it ran before it was watched, and whichever of the two is given."""
    torch.manual_seed(3)
    weights = Reader(kind(3, 8)).state_dict()
    x, seen = torch.randn(30, 4, 3), []
    for compiled in (False, True):
        model = Reader(kind(3, 8))
        model.load_state_dict(weights)
        called: Any = torch.compile(model, backend="aot_eager") if compiled else model
        if early:
            called(x).sum().backward()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        with sg.watch(called, optimizer, budget=1.0, lag=29) as watch:
            for _ in range(3):
                optimizer.zero_grad()
                called(x).square().sum().backward()
                optimizer.step()
            seen.append(watch.flow["rnn"].log10_grad)
    np.testing.assert_array_equal(*seen)


def test_a_training_that_calls_something_else_is_told(tmp_path: Path) -> None:
    watched, called = Reader(), Reader()
    optimizer = torch.optim.SGD(watched.parameters(), 0.01)

    def step() -> None:
        optimizer.zero_grad()
        called(torch.randn(5, 2, 3)).sum().backward()
        optimizer.step()

    with sg.watch(watched, optimizer, start_step=7) as watch:
        step()
        step()
        with pytest.warns(UserWarning, match="no call of a recurrent layer was seen"):
            step()
        step()  # said once
        assert watch.verdict == "not judged"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_watch_that_measures_again_and_again_keeps_no_more(kind: str) -> None:
    """A circle through autograd's nodes is never collected: a look must not leave one."""
    torch.manual_seed(0)
    layer = getattr(nn, kind)(2, 8)
    optimizer = torch.optim.SGD(layer.parameters(), 0.01)

    def alive_after(looks: int) -> int:
        for _ in range(looks):
            optimizer.zero_grad()
            layer(torch.randn(10, 4, 2))[0][-1].square().mean().backward()
            optimizer.step()
        gc.collect()
        return sum(type(o) in (Tensor, nn.Parameter) for o in gc.get_objects())

    with sg.watch(layer, optimizer, lag=9, every=1):
        first = alive_after(3)
        assert alive_after(10) <= first


@pytest.mark.parametrize(("decay", "named"), [(0.8, True), (1.0, False)])
def test_a_rate_that_decays_at_every_batch_is_seen_whatever_the_budget(
    decay: float, named: bool
) -> None:
    # A budget of 0 allows one look: the sizes of steps come from the schedule alone.
    torch.manual_seed(0)
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
    with sg.watch(model, optimizer, lag=5, budget=0.0) as watch:
        for _ in range(200):
            optimizer.zero_grad()
            x = torch.randn(6, 16, 3)
            loss = (model(x) - torch.randn(16, 1)).square().mean()
            loss.backward()
            watch.loss(loss)
            optimizer.step()
            scheduler.step()
    assert ("lr-low" in [f.fault for f in watch.findings]) == named
