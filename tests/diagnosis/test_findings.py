"""Findings beside the gradient's way: each on a fault made on purpose, and silent on its twin."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import steadygrad as sg
from steadygrad.diagnosis import FAULTS, Finding, Thresholds
from steadygrad.diagnosis.candidates import Register
from steadygrad.diagnosis.causes import causes
from steadygrad.diagnosis.judge import judge_history
from steadygrad.diagnosis.prescribe import Prescriber
from steadygrad.diagnosis.watching.sinks import Sinks
from steadygrad.faults import History, confidence
from steadygrad.record import Record, read
from steadygrad.remedies import ranked

BEFORE = list(np.geomspace(1.0, 1.5, 40))
HELD_BACK = History(
    [4.0] * 40, [1e-3] * 40, update=[1e-4] * 9, loss=list(np.linspace(2, 0.2, 80)), optimizer="SGD"
)
SPIKES = ([1.0] * 12 + [500.0]) * 3 + [1.0] * 12
RISE = [1.0] * 37 + [500.0] * 14  # a plateau that is left
ARRIVED = [200.0] * 30 + SPIKES  # small norms at the end of a training


DECAYED = [1e-2 * 0.3**i for i in range(24)]
FADED = [0.3**i for i in range(30)]


def faults(history: History) -> set[str]:
    return {f.fault for f in judge_history(history, Thresholds())}


@pytest.mark.parametrize(
    ("history", "found"),
    [
        # learning rate: large steps with a loss that stands, and large steps that work
        (History(update=[0.4] * 6), {"lr-high"}),
        (History(update=[0.4] * 6, loss=[2.0] * 30), {"lr-high"}),
        (History(update=[0.4] * 6, loss=list(np.linspace(2, 0.2, 30))), set()),
        (History(update=[0.4] * 4), set()),  # too few to say
        (History(update=[1e-3] * 9, loss=[2.0] * 30), set()),
        # too low: tiny from the first step on, and the loss stands
        (History(update=[1e-7] * 6, loss=[2.0] * 30), {"lr-low"}),
        (History(update=[1e-7] * 6), set()),  # without the loss nothing is concluded
        (History(update=[1e-7] * 6, loss=list(np.linspace(2, 1, 30))), set()),
        (History(update=[1e-3] + [1e-7] * 6, loss=[2.0] * 30), set()),  # decayed at its end
        # all steps together have moved next to nothing, and the loss stands
        (History(update=[3e-5] * 9, loss=[2.0] * 300), {"lr-low"}),
        (History(update=[3e-5] * 9, loss=[2.0] * 150), set()),  # too early to say
        (History(update=[3e-5] * 9, loss=list(np.linspace(2, 1.5, 300))), set()),
        (History(update=[1e-4] * 9, loss=[2.0] * 300), set()),  # far enough
        (History(update=[1e-4] + [2e-5] * 9, loss=[2.0] * 300), {"lr-low"}),  # as RMSprop begins
        # a rate that decays before the loss has come down; not where the gradient fades as well
        (History([1.0] * 30, [1.0] * 30, update=DECAYED, loss=[2.0] * 120), {"lr-low"}),
        (History([1.0], [1.0], update=DECAYED, loss=[2.0] * 120), {"lr-low"}),
        (History(FADED, FADED, update=DECAYED, loss=[2.0] * 120), set()),
        (
            History([1.0] * 30, [1.0] * 30, update=DECAYED, loss=list(np.linspace(2, 0.2, 120))),
            set(),
        ),
        # clip: far too tight, for an optimiser that minds
        (History(BEFORE, [0.01] * 40, optimizer="SGD"), {"clip-tight"}),
        (History(BEFORE, [0.01] * 40, optimizer="AdamW"), set()),
        (History(BEFORE, [0.5] * 40, optimizer="SGD"), set()),
        (History(BEFORE[:9], [0.01] * 9, optimizer="SGD"), set()),
        (History(BEFORE, [0.01] * 40, loss=list(np.linspace(2, 0.2, 30)), optimizer="SGD"), set()),
        # ... and where the loss falls, if it falls by tiny steps of what is left, and still does
        (HELD_BACK, {"clip-tight"}),
        (replace(HELD_BACK, after=[1e-2] * 40), set()),  # a clip that is not that harsh
        (replace(HELD_BACK, update=[1e-2] * 9), set()),  # steps of a good size
        (replace(HELD_BACK, loss=[2.0] * 20 + [0.2] * 60), set()),  # it has arrived
        # spikes: let through, held by a clip, single, and the loss's own
        (History(SPIKES, SPIKES), {"clip-loose"}),
        (History(SPIKES, [1.0] * 51), set()),
        (History([1.0] * 39 + [500.0], [1.0] * 39 + [500.0]), set()),
        (History(SPIKES, [1.0] * 51, grows=False), {"likelihood"}),
        (History(SPIKES, [1.0] * 51, grows=True), set()),
        (History(RISE, RISE), set()),
        (History(ARRIVED, ARRIVED), set()),
        # one step that replaces the weights is enough, unless it worked
        (History(update=[1.6]), {"lr-high"}),
        (History(update=[1.6, 0.01], loss=list(np.linspace(2, 0.2, 30))), set()),
        # what is learned after a step larger than all the weights has to be most of it
        (History(update=[5.0, 0.02], loss=list(np.linspace(2, 0.5, 30))), {"lr-high"}),
        (History(update=[5.0, 0.02], loss=list(np.geomspace(2, 0.02, 30))), set()),
        (History(update=[1.6, 0.02], loss=list(np.linspace(2, 1, 30))), {"lr-high"}),
        # too short a way for the steps that are planned, even if the loss creeps
        (History(update=[5e-5] * 6, loss=list(np.linspace(2, 1.5, 30)), planned=600), {"lr-low"}),
        (History(update=[5e-5] * 6, loss=list(np.linspace(2, 1.5, 30)), planned=60_000), set()),
        (History(), set()),
    ],
)
def test_a_training_is_judged_by_its_steps(history: History, found: set[str]) -> None:
    assert faults(history) == found


def test_thresholds_decide_and_are_told() -> None:
    history = History(update=[0.4] * 6)
    (found,) = judge_history(history, Thresholds())
    assert found.evidence["threshold"] == 0.1 and found.evidence["update_ratio"] == 0.4
    assert found.confidence == confidence(np.log10(4))
    assert not judge_history(history, Thresholds(update_high=0.5))
    for wrong in (
        {"growing": 1.0},
        {"clip_tight": 0.5},
        {"spike": 1.0},
        {"update_low": 0.2},
        {"padding": 0.0},
        {"unlikely": 1e-3},
        {"travel_low": 0.0},
        {"update_replaces": 0.01},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Thresholds(**wrong)


def test_confidence_is_half_at_the_threshold() -> None:
    assert confidence(0) == 0.5 and confidence(1) == 0.95 and confidence(2) == 0.995
    assert confidence(1, exact=False) == 0.475 and confidence(float("inf")) == 1


def test_every_fault_is_explained_and_has_a_way_out() -> None:
    for name, fault in FAULTS.items():
        assert fault.name == name and fault.meaning.endswith(".") and fault.measured.endswith(".")
        assert fault.advice or ranked(name)
        assert all(hasattr(Thresholds(), t) for t in fault.thresholds)


def padded_batch(lengths: tuple[int, ...]) -> Tensor:
    x = torch.randn(20, len(lengths), 3)
    for row, length in enumerate(lengths):
        x[length:, row] = 0
    return x


def test_padding_in_the_loss() -> None:
    layer: Any = nn.LSTM(3, 8)
    lengths = (20, 12, 7, 15)
    x = padded_batch(lengths)
    mask = (torch.arange(20)[:, None] < torch.tensor(lengths))[..., None]

    def verdicts(loss: Callable[[], Tensor]) -> set[str]:
        return {f.fault for f in sg.diagnose(layer, loss).findings}

    assert verdicts(lambda: layer(x)[0].square().mean()) == {"padding"}
    assert verdicts(lambda: (layer(x)[0] * mask).square().mean()) == set()

    def packed() -> Tensor:
        data = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
        return pad_packed_sequence(layer(data)[0])[0].square().mean()

    assert verdicts(packed) == set()
    # healthy uses that look alike: one answer after background, blanks of one length, no runs
    assert verdicts(lambda: layer(x)[0][-1].square().mean()) == set()
    same = padded_batch((12, 12, 12, 12))
    assert verdicts(lambda: layer(same)[0].square().mean()) == set()
    assert verdicts(lambda: layer(torch.randn(20, 4, 3))[0].square().mean()) == set()
    first: Any = nn.GRU(3, 8, batch_first=True)
    found = sg.diagnose(first, lambda: first(x.transpose(0, 1))[0].square().mean()).findings
    (finding,) = found
    assert finding.fault == "padding" and finding.evidence["longest_run"] == 13
    assert 0.5 < finding.evidence["share_of_squared_gradient"] <= 1 or finding.confidence
    assert "mask the loss" in finding.advice[0]


def test_a_growing_state() -> None:
    relu: Any = nn.RNN(3, 8, nonlinearity="relu")
    nn.init.eye_(relu.weight_hh_l0)
    with torch.no_grad():
        relu.weight_hh_l0 *= 1.25
    x = torch.rand(60, 4, 3)
    findings = sg.diagnose(relu, lambda: relu(x)[0][-1].square().mean()).findings
    (growing,) = [f for f in findings if f.fault == "growing"]
    assert growing.evidence["state"] == "h" and growing.evidence["log10_rms_last"] > 4
    early = sg.diagnose(relu, lambda: relu(x)[0][20].square().mean()).findings
    assert "growing" not in {f.fault for f in early}  # what the loss does not read harms nobody
    with torch.no_grad():
        relu.weight_hh_l0 *= 0.9 / 1.25
    assert sg.diagnose(relu, lambda: relu(x)[0][-1].square().mean(), lag=9).verdict == "healthy"


def test_truncation_shorter_than_the_lag() -> None:
    x = torch.randn(60, 4, 3)
    cut = sg.GRU(3, 8, truncate=20)

    def found(layer: Any, lag: int, steps: int = 60) -> set[str]:
        findings = sg.diagnose(layer, lambda: layer(x[:steps])[0][-1].square().mean(), lag=lag)
        return {f.fault for f in findings.findings}

    assert found(cut, 20) == {"truncated"} and "truncated" not in found(cut, 19)
    whole = sg.GRU(3, 8)
    assert "truncated" in found(whole, 20, 20) and "truncated" not in found(whole, 19, 20)


def test_a_loop_that_carries_the_graph_on_is_not_truncated() -> None:
    layer: Any = sg.RNN(3, 8)
    nn.init.orthogonal_(layer.weight_hh_l0)
    x = 1e-3 * torch.randn(12, 2, 3)

    def loss() -> Tensor:
        _, state = layer(x[:4])
        _, state = layer(x[4:8], state)
        return layer(x[8:], state)[0][-1].square().sum()

    d = sg.diagnose(layer, loss, lag=10)
    assert d.flow["rnn"].time_steps == 12
    assert not [f for f in d.findings if f.fault == "truncated"]


def train(model: Any, batches: list[Tensor], carry: bool, record: Record | None = None) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = sg.watch(model, optimizer, budget=1.0, record=record)
    state = None
    for x in batches:
        output, state = model(x, state if carry else None)
        state = state.detach()
        optimizer.zero_grad()
        output.square().mean().backward()
        optimizer.step()
    watch.close()
    return watch


def waves(shuffled: bool) -> list[Tensor]:
    """Batches of 4 sine waves of different phase, in pieces of 20 steps that go on."""
    t = torch.arange(12 * 20)[:, None, None] / 6
    x = torch.sin(t + torch.tensor([0.0, 1.5, 3.0, 4.5])[None, :, None])
    pieces = list(x.split(20))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1)).tolist()
    phases = [torch.randperm(4, generator=torch.Generator().manual_seed(i)) for i in range(12)]
    return [pieces[i][:, p] for i, p in zip(order, phases, strict=True)] if shuffled else pieces


def test_a_state_that_leaks_between_sequences() -> None:
    def found(batches: list[Tensor], carry: bool) -> set[str]:
        return {f.fault for f in train(nn.GRU(1, 4), batches, carry).findings}

    offset = [x + 1.5 * (-1) ** i for i, x in enumerate(waves(True))]  # every batch elsewhere
    assert found(offset, True) == {"leaking"}
    assert found(offset, False) == set()
    assert found(waves(False), True) == set()  # truncated backpropagation, as it should be
    noise = [torch.randn(20, 4, 1) for _ in range(12)]
    assert found(noise, True) == set()  # nothing can be told


def test_findings_come_and_go_in_the_record(tmp_path: Path) -> None:
    offset = [x + 1.5 * (-1) ** i for i, x in enumerate(waves(True))]
    path = tmp_path / "run.db"
    with Record.create(path, config={}) as record:
        train(nn.GRU(1, 4), offset + waves(False), True, record)
    with read(path) as run:
        (finding,) = run.findings()
        resolved = [e["data"] for e in run.events() if e["kind"] == "resolved"]
        assert run.notes["optimizer"] == "SGD" and run.notes["verdict"] == "not judged"
    assert finding["fault"] == "leaking" and finding["step"] == finding["recorded_at"] == 7
    assert resolved == [{"fault": "leaking", "layer": "gru", "gate": None}]


def test_a_learning_rate_far_too_high_is_seen_in_training() -> None:
    model: Any = nn.GRU(1, 8)
    optimizer = torch.optim.Adam(model.parameters(), 1.0)
    with sg.watch(model, optimizer, budget=1.0) as watch:
        for _ in range(12):
            x = torch.randn(10, 4, 1)
            optimizer.zero_grad()
            (model(x)[0][:, :, :1] - x).square().mean().backward()
            optimizer.step()
        assert "lr-high" in {f.fault for f in watch.findings}


def found(fault: str, step: int | None = None, **evidence: float) -> Finding:
    layer = "optimizer" if fault.startswith("lr") else "rnn"
    return Finding(fault, layer, fault, step=step, evidence=evidence)


def after(looked: list[Finding], standing: list[Finding] | None = None, **known: Any) -> set[str]:
    before = {f.key: f for f in standing or []}
    return {f.fault for f in causes(looked, before, History(**known), Thresholds()).findings}


def test_what_steps_that_are_too_large_bring_about_is_not_named_beside_them() -> None:
    rate, dead = found("lr-high"), found("dead")
    assert after([rate, dead]) == {"lr-high"}
    since = [found("lr-high", step=11), found("dead", step=1)]
    assert after([rate, dead], since) == {"lr-high", "dead"}  # it was there before
    later = [found("lr-high", step=1), found("dead", step=11)]
    assert after([rate, dead], later) == {"lr-high"}
    assert after([rate, found("padding")]) == {"lr-high", "padding"}


def test_an_explosion_that_has_just_come_waits_and_one_that_was_there_does_not() -> None:
    some, far = found("exploding", log10_ratio=3.0), found("exploding", log10_ratio=7.0)
    history, none = History(loss=[2.0] * 30), History()

    def named(looked: Finding, looks: int, before: int, known: History) -> bool:
        register = Register(Prescriber(nn.GRU(1, 1)), Sinks(None))
        for at in range(looks):
            register.see([] if at < before else [looked])
        return bool(causes([looked], {}, known, Thresholds(), register.passing).findings)

    assert named(some, 1, 0, history) and named(some, 3, 0, history)
    assert not named(some, 2, 1, history) and not named(some, 5, 1, history)
    assert named(some, 6, 1, history) and named(far, 2, 1, history) and named(some, 2, 1, none)


def test_neither_a_near_explosion_nor_a_growing_state_is_named_while_the_loss_falls() -> None:
    looked = [found("exploding", log10_ratio=3.0), found("growing")]
    far = found("exploding", log10_ratio=7.0)
    falling = list(np.linspace(2, 1, 60))
    assert after(looked, loss=falling) == set()
    assert after(looked, loss=[2.0] * 60) == after(looked) == {"exploding", "growing"}
    assert after([far], loss=falling) == {"exploding"}


def test_a_gradient_that_is_small_waits_for_the_loss_and_a_lost_one_does_not() -> None:
    small, lost = found("vanishing", log10_ratio=-6.0), found("vanishing", log10_ratio=-20.0)
    moving, standing = list(np.linspace(2, 1, 300)), [2.0] * 300
    assert after([small]) == {"vanishing"}  # nobody told a loss
    assert after([small], loss=[2.0] * 30) == after([small], loss=moving) == set()
    assert after([small], loss=standing) == {"vanishing"}
    assert after([small], loss=standing, planned=1000) == set()  # not half of the plan yet
    assert after([lost], loss=[2.0] * 30) == {"vanishing"}
    learned = list(np.geomspace(2, 0.01, 300))
    assert after([lost, found("exploding", log10_ratio=9.0)], loss=learned) == set()


def test_a_network_that_has_not_been_trained_yet_is_accused_half_as_surely() -> None:
    lost = replace(found("vanishing", log10_ratio=-20.0), confidence=1.0)
    at_first, later = (
        causes([lost], {}, History(), Thresholds(), steps=steps).findings[0] for steps in (1, 50)
    )
    assert at_first.confidence == 0.5 and "how the network starts" in at_first.text
    assert later == lost


def test_of_a_long_training_the_losses_are_thinned_from_their_start() -> None:
    history = History()
    for step in range(10_000):
        history.see_loss(float(step))
    assert len(history.loss) < 1024 and history.loss[0] == 0 and history.loss[-1] > 9_900
    assert len(set(np.diff(history.loss))) == 1


@pytest.mark.parametrize("wrong", [{"every": 0}, {"steps": 0}])
def test_counts_of_steps_are_checked(wrong: dict[str, int]) -> None:
    layer = nn.LSTM(2, 4)
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} counts training steps"):
        sg.watch(layer, torch.optim.SGD(layer.parameters(), 0.1), **wrong)  # pyright: ignore


def trained(tmp_path: Path, rate: float, **options: Any) -> tuple[sg.Watch, list[int]]:
    """Twelve steps of gradient descent under a watch, and the steps at which it measured."""
    torch.manual_seed(0)
    layer = nn.RNN(2, 8)
    optimizer = torch.optim.SGD(layer.parameters(), rate)
    path = tmp_path / "run.db"
    with Record.create(path, config={}, overwrite=True) as record:
        with sg.watch(layer, optimizer, record=record, lag=9, **options) as w:
            for _ in range(12):
                optimizer.zero_grad()
                loss = layer(torch.randn(10, 4, 2))[0][-1].square().mean()
                w.loss(loss.detach())
                loss.backward()
                optimizer.step()
    with read(path) as run:
        return w, run.scalars("update_ratio")[0].tolist()


def test_a_watch_may_measure_at_fixed_steps(tmp_path: Path) -> None:
    assert trained(tmp_path, 0.01, every=5)[1] == [1, 6, 11]
    assert trained(tmp_path, 0.01, every=1)[1] == list(range(1, 13))


def test_one_step_that_replaces_the_weights_is_said_at_once(tmp_path: Path) -> None:
    w, _ = trained(tmp_path, 1e4, every=100)
    assert w.verdict == "lr-high" and w.findings[0].step == 1
    assert w.findings[0].remedies[0].startswith("learning-rate:factor=")


def test_a_rate_with_which_the_plan_leads_nowhere_is_too_low(tmp_path: Path) -> None:
    """As soon as there are losses enough, and only against the plan."""
    update, loss = [1e-4] * 6, [2.0, 1.9] * 10
    assert faults(History(update=update, loss=loss)) == set()
    planned = History(update=update, loss=loss, planned=500)
    (low,) = judge_history(planned, Thresholds())
    assert low.fault == "lr-low" and low.evidence["travel"] == pytest.approx(0.05)
    assert judge_history(planned, Thresholds(travel_low=0.01)) == []
