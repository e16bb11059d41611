"""Three kinds of verdict: healthy is only what was measured on the whole way that is needed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import steadygrad as sg
from steadygrad.diagnosis.standing import standing
from steadygrad.faults import NOT_JUDGED, LossFacts
from steadygrad.faults.history import of_losses
from steadygrad.flow.skill import Skill
from steadygrad.record import read
from steadygrad.report import sentence
from steadygrad.report.chapter import chapter

LAG = 20


class Stepwise(nn.Module):
    """A layer called once per time step; between the calls the state is ``changed``."""

    def __init__(self, changed: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.rnn, self.head, self._changed = nn.GRU(3, 8), nn.Linear(8, 1), changed

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(1, x.shape[1], 8)
        for t in range(len(x)):
            h = self._changed(self.rnn(x[t : t + 1], h)[1])
        return self.head(h[-1])


def keeping_gru(layer: Any) -> Any:
    """A layer whose gradient survives: its update gate stands open for the past."""
    with torch.no_grad():
        layer.bias_ih_l0[8:16] = 5.0
    return layer


def test_without_a_lag_nothing_is_healthy(tmp_path: Path) -> None:
    layer, x = keeping_gru(nn.GRU(3, 8)), torch.randn(30, 4, 3)
    found = sg.diagnose(layer, lambda: layer(x)[0][-1].square().sum())
    assert found.verdict == NOT_JUDGED and not found.findings
    (gap,) = found.unjudged
    assert "no lag was given" in gap.why and "lag=N" in gap.remedy
    assert gap.text in str(found) and found.to_json()["not_judged"][0]["why"] == gap.why
    with read(found.record(tmp_path / "one.db")) as run:
        assert sentence.verdict(chapter(run, "")).startswith("Not judged. Vanishing")
    assert "Not judged" in found.save(tmp_path / "one.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("is_linked", [True, False])
def test_calls_of_one_step_are_judged_as_one_sequence_or_not_at_all(is_linked: bool) -> None:
    torch.manual_seed(0)
    model = Stepwise((lambda h: h) if is_linked else (lambda h: 0.99 * h))
    keeping_gru(model.rnn)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    x = torch.randn(LAG + 5, 4, 3)
    found = sg.diagnose(model, lambda: model(x).square().mean(), lag=LAG)
    watch = sg.watch(model, optimizer, lag=LAG, every=1)
    for value in (1.0, 0.01, 0.001, 0.0001) * 3:  # however good the loss is
        optimizer.zero_grad()
        model(x).square().mean().backward()
        watch.loss(value)
        optimizer.step()
    watch.close()
    for seen in (found, watch):
        assert seen.verdict == ("healthy" if is_linked else NOT_JUDGED), seen
        assert ("unchanged" in str(seen)) != is_linked and str(seen).count("\n") < 40


def test_what_lies_before_the_steps_that_the_loss_reads_is_not_judged() -> None:
    layer, x = keeping_gru(nn.GRU(3, 8)), torch.randn(40, 4, 3)
    found = sg.diagnose(layer, lambda: layer(x)[0][5].square().sum(), lag=LAG)
    assert found.verdict == NOT_JUDGED and "only 5 of 20 steps lie before" in str(found)


def test_of_two_directions_one_that_has_the_lag_is_enough() -> None:
    layer: Any = nn.GRU(3, 8, bidirectional=True)
    x = torch.randn(40, 4, 3)
    with torch.no_grad():
        layer.bias_ih_l0[8:16] = layer.bias_ih_l0_reverse[8:16] = 5.0
    assert sg.diagnose(layer, lambda: layer(x)[0][-1].sum(), lag=LAG).verdict == "healthy"


def test_a_layer_that_the_loss_leaves_out_is_not_healthy() -> None:
    model, x = nn.ModuleList([keeping_gru(nn.GRU(3, 8)), nn.GRU(3, 8)]), torch.randn(40, 4, 3)
    found = sg.diagnose(model, lambda: model[0](x)[0][-1].sum(), lag=LAG)
    assert found.verdict == NOT_JUDGED and found.unjudged[0].what == "1"


def test_a_watch_that_never_looked_says_so() -> None:
    layer, x = nn.GRU(3, 8), torch.randn(40, 4, 3)
    optimizer = torch.optim.SGD(layer.parameters(), 1e-3)
    with sg.watch(layer, optimizer, lag=LAG, every=1) as watch:
        assert watch.verdict == watch.latest["verdict"] == NOT_JUDGED
        assert "no step of the training has been measured" in str(watch)
        layer(x)[0][-1].sum().backward()
        optimizer.step()
        assert watch.verdict != NOT_JUDGED


def test_a_vanishing_gradient_that_is_held_back_is_not_healthy() -> None:
    torch.manual_seed(0)
    layer: Any = nn.RNN(3, 8)
    x = torch.randn(40, 4, 3)
    nn.init.orthogonal_(layer.weight_hh_l0, 0.7)
    optimizer = torch.optim.SGD(layer.parameters(), 1e-6)
    with sg.watch(layer, optimizer, lag=30, every=10) as watch:
        for step in range(60):
            optimizer.zero_grad()
            layer(x)[0][-1].square().mean().backward()
            watch.loss(0.95**step)
            optimizer.step()
        assert watch.verdict == NOT_JUDGED and not watch.findings
        assert "vanish" in watch.unjudged[0].why


class Last(nn.Module):
    """A GRU read at its last step."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.rnn, self.head = keeping_gru(nn.GRU(3, 8)), nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


def distance(z: Tensor, y: Tensor) -> Tensor:
    return F.l1_loss(z, 2 * y)


def rare(z: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(z, (y[:, 0] > 1.3).long())


def surprise(z: Tensor, y: Tensor) -> Tensor:
    return F.nll_loss(z.log_softmax(-1), (y[:, 0] > 0).long())


@pytest.mark.parametrize(
    ("loss", "outputs", "is_paired"),
    [
        (F.mse_loss, 1, True),
        (F.mse_loss, 1, False),
        (rare, 2, True),
        (rare, 2, False),
        *(
            pytest.param(*case, is_paired, marks=pytest.mark.slow)
            for case in ((distance, 1), (surprise, 2))
            for is_paired in (True, False)
        ),
    ],
)
def test_a_loss_that_stands_at_a_constant_answer_is_not_healthy(
    loss: Callable[[Tensor, Tensor], Tensor], outputs: int, is_paired: bool
) -> None:
    torch.manual_seed(0)
    model = Last(outputs)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    with sg.watch(model, optimizer, lag=4, every=20) as w:
        for _ in range(220):
            x = torch.randn(6, 32, 3)
            y = x[:, :, :1].sum(0) / 6**0.5 + 0.3 * torch.randn(32, 1)
            optimizer.zero_grad()
            value = loss(model(x), y if is_paired else y[torch.randperm(32)])
            value.backward()
            w.loss(value)
            optimizer.step()
    if is_paired:
        assert w.verdict == "healthy"
    else:  # the last batch may have had one and the same answer to all
        assert w.verdict in (NOT_JUDGED, "constant-prediction")


@pytest.mark.parametrize("is_late", [pytest.param(False, marks=pytest.mark.slow), True])
def test_what_was_learned_and_lost_is_seen_however_late_the_loss_is_told(is_late: bool) -> None:
    """By then the sample of answers has thinned out: those of the later half have to be in it."""
    torch.manual_seed(0)
    model = Last(1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    with sg.watch(model, optimizer, lag=4, every=20) as w:
        for step in range(560):
            x = torch.randn(6, 32, 3)
            y = x[:, :, :1].sum(0) / 6**0.5
            optimizer.zero_grad()
            value = F.mse_loss(model(x), y if step < 280 else y[torch.randperm(32)])
            value.backward()
            if is_late:
                optimizer.step()
            w.loss(value)
            if not is_late:
                optimizer.step()
    assert w.verdict == NOT_JUDGED
    assert "constant answer" in w.unjudged[0].why


def test_a_loss_that_stood_stands_until_the_input_is_made_use_of() -> None:
    """One that jumps up and down seems to fall at every other look."""
    history = of_losses([*[2.0, 3.0] * 60, *[1.9, 1.0] * 30])
    assert not history.is_at_rest()
    worse, better = (Skill(v, 1.4, 0.69, 200, "classes") for v in (-1.0, 0.3))
    assert standing(LossFacts(history, skill=worse), {}) is None
    assert standing(LossFacts(history, skill=worse), {}, has_stood=True) is not None
    assert standing(LossFacts(history, skill=better), {}, has_stood=True) is None


def test_losses_that_are_told_to_one_look_say_whether_they_stand() -> None:
    torch.manual_seed(0)
    model, x, y = Last(1), torch.randn(6, 128, 3), torch.randn(128, 1)
    with torch.no_grad():
        model.head.weight *= 30  # answers that vary, not with the targets
    losses = [1 + 0.1 * float(torch.randn(())) for _ in range(200)]

    def loss() -> Tensor:
        return F.mse_loss(model(x), y)

    assert sg.diagnose(model, loss, lag=4).verdict == "healthy"
    found = sg.diagnose(model, loss, lag=4, losses=losses)
    assert found.verdict == NOT_JUDGED
    (gap,) = found.unjudged
    assert "constant answer" in gap.why and "rnn is given 6 steps of 128 sequences" in gap.remedy
    falling = [loss - 0.004 * i for i, loss in enumerate(losses)]
    assert sg.diagnose(model, loss, lag=4, losses=falling).verdict == "healthy"
