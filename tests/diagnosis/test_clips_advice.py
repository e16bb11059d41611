"""Where to put a clip's bound, and clips in the wrong place."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

import steadygrad as sg
from steadygrad import remedies
from steadygrad.diagnosis import MisplacedClipWarning, share_clipped
from steadygrad.diagnosis.clip_calls import LISTENERS
from steadygrad.record import Record, read

# The bound.


def norms(count: int = 1000) -> list[float]:
    """Log-normal, as gradient norms are, with one spike in a hundred."""
    values = np.random.default_rng(0).lognormal(0.0, 0.2, count)
    values[::100] *= 50
    return list(values)


def test_every_rule_by_hand() -> None:
    advice = sg.clip_advice(norms())
    values = np.array(norms())
    log = np.log(values)
    deviation = 1.4826 * np.median(np.abs(log - np.median(log)))
    expected = {
        "spikes": np.exp(np.median(log) + 5 * deviation),
        "log-sigma": np.exp(log.mean() + 4 * log.std()),
        "percentile-90": np.percentile(values, 90),
        "mean": values.mean(),
        "percentile-10": np.percentile(values, 10),
    }
    for rule in advice.rules:
        assert rule.threshold == pytest.approx(expected.pop(rule.name))
        assert rule.clipped == np.mean(values > rule.threshold)
    assert not expected
    assert (advice.steps, advice.nonfinite) == (1000, 0)
    assert advice.largest == max(norms()) and advice.median == pytest.approx(np.median(values))


def test_the_advised_bound_clips_the_spikes_and_nothing_else() -> None:
    advice = sg.clip_advice(norms())
    assert advice.rules[0].clipped == pytest.approx(0.01)
    calm = sg.clip_advice([n for i, n in enumerate(norms()) if i % 100])
    assert calm.rules[0].clipped == 0
    assert advice.threshold == pytest.approx(calm.threshold, rel=0.05)  # spikes do not move it


def test_the_advice_reads_as_a_remedy_and_as_text() -> None:
    advice = sg.clip_advice(norms())
    remedy = remedies.parse(advice.remedy)
    assert isinstance(remedy, remedies.ClipNorm)
    assert remedy.max_norm == pytest.approx(advice.threshold, rel=1e-2)
    assert "advised: clip-norm:max_norm=" in str(advice) and "clips   1.0 %" in str(advice)
    assert advice.to_record()["threshold"] == advice.threshold


def test_broken_and_first_steps_are_left_out() -> None:
    values = [1e6, *norms(50), math.nan, math.inf, 0.0]
    advice = sg.clip_advice(values, skip_first=1)
    assert (advice.steps, advice.nonfinite) == (50, 2)
    assert advice.largest < 1e3 < sg.clip_advice(values).largest
    with pytest.raises(ValueError, match="got 1 of 2"):
        sg.clip_advice([1.0, math.nan])
    assert share_clipped([1.0, 2.0, 3.0, 4.0], 2.0) == 0.5


def test_a_record_and_a_watch_are_read(tmp_path: Path) -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    path = tmp_path / "run.db"
    expected = []
    with Record.create(path, config={}) as record:
        watch = sg.watch(model, optimizer, record=record, budget=1.0)
        for step in range(8):
            expected.append(float(backward(model, optimizer, step).norm()))
            watch.clip_(1e-3)
            optimizer.step()
        advice = sg.clip_advice(watch)
        watch.close()
    assert sg.clip_advice(path).rules == sg.clip_advice(str(path)).rules
    with read(path) as run:
        assert sg.clip_advice(run).rules == sg.clip_advice(path).rules
    assert advice.median == pytest.approx(sg.clip_advice(expected).median, rel=1e-5)
    assert advice.steps == 8


# The place.


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(3, 5)
        self.head = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


def x(step: int) -> Tensor:
    return torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(step))


def backward(model: nn.Module, optimizer: Any, step: int = 0) -> Tensor:
    optimizer.zero_grad()
    model(x(step)).square().sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


Loop = Callable[[nn.Module, torch.optim.Optimizer], None]


def plain(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(3):
        backward(model, optimizer, step)
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def zeroed_in_place_at_the_end(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(3):
        model(x(step)).square().sum().backward()
        nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def accumulated(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(3):
        optimizer.zero_grad()
        for part in range(4):
            model(x(step + part)).square().sum().backward()
        nn.utils.clip_grad_norm_(list(model.parameters()), 1.0)
        optimizer.step()


def scaled(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(4):
        optimizer.zero_grad()
        factor = 1e38 * 1e3 if step == 1 else 1.0  # an overflow, which the scaler skips
        scaler.scale(model(x(step)).square().sum() * factor).backward()
        scaler.unscale_(optimizer)
        clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


def scaled_and_left_to_a_remedy(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    clip = remedies.ClipNorm(1.0).begin(model, optimizer, scaler)
    for step in range(3):
        optimizer.zero_grad()
        scaler.scale(model(x(step)).square().sum()).backward()
        clip()
        scaler.step(optimizer)
        scaler.update()


def scaler_switched_off(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    for step in range(3):
        optimizer.zero_grad()
        scaler.scale(model(x(step)).square().sum()).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


def in_groups_by_value_then_norm_and_measured(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    rnn, head = (list(m.parameters()) for m in model.children())
    for step in range(3):
        backward(model, optimizer, step)
        clip_grad_norm_(rnn, math.inf)  # only measures
        clip_grad_value_(model.parameters(), 1.0)
        clip_grad_norm_(rnn, 1.0)
        clip_grad_norm_(head, 1.0)
        optimizer.step()


def with_a_skipped_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(4):
        optimizer.zero_grad(set_to_none=step % 2 == 0)
        model(x(step)).square().sum().backward()
        clip_grad_norm_(model.parameters(), 1.0)
        if step != 1:  # the training gives this one up
            optimizer.step()


def of_two_networks(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """As adversarial networks are trained: what one backward leaves in the other is thrown away."""
    other = Reader()
    others = torch.optim.SGD(other.parameters(), 0.1)
    for step in range(3):
        for net, own in ((model, optimizer), (other, others)):
            own.zero_grad()
            (model(x(step)) * other(x(step))).sum().backward()
            clip_grad_norm_(net.parameters(), 1.0)
            own.step()


def in_a_closure(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    lbfgs = torch.optim.LBFGS(model.parameters(), max_iter=3)

    def closure() -> float:
        lbfgs.zero_grad()
        loss = model(x(0)).square().sum()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        return float(loss.detach())

    with sg.clip_check(lbfgs) as check:
        for _ in range(2):
            lbfgs.step(closure)  # pyright: ignore[reportArgumentType]
    assert not check.found


def twice_in_one_training_of_nested_checks(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    with sg.clip_check(optimizer) as inner:
        plain(model, optimizer)
    assert not inner.found and len(LISTENERS) == 1
    plain(model, optimizer)


RIGHT = [
    plain,
    zeroed_in_place_at_the_end,
    accumulated,
    scaled,
    scaled_and_left_to_a_remedy,
    scaler_switched_off,
    in_groups_by_value_then_norm_and_measured,
    with_a_skipped_step,
    of_two_networks,
    in_a_closure,
    twice_in_one_training_of_nested_checks,
]


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("loop", RIGHT, ids=lambda loop: loop.__name__)
def test_a_right_loop_raises_no_alarm(loop: Loop, optimizer: str) -> None:
    model = Reader()
    made = getattr(torch.optim, optimizer)(model.parameters(), 1e-3)
    with sg.clip_check(made) as check:  # a warning would be an error here
        loop(model, made)
    assert check.found == []


def before_backward(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(3):
        optimizer.zero_grad()
        loss = model(x(step)).square().sum()
        clip_grad_norm_(model.parameters(), 1.0)
        loss.backward()
        optimizer.step()


def after_the_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(3):
        backward(model, optimizer, step)
        optimizer.step()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def before_zero_grad(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(3):
        clip_grad_norm_(max_norm=1.0, parameters=model.parameters())
        backward(model, optimizer, step)
        optimizer.step()


def still_scaled(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(3):
        optimizer.zero_grad()
        scaler.scale(model(x(step)).square().sum()).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


def still_scaled_under_a_remedy(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    clip = remedies.AutoClip().begin(model, optimizer)  # was not told of the scaler
    for step in range(3):
        optimizer.zero_grad()
        scaler.scale(model(x(step)).square().sum()).backward()
        clip()
        scaler.step(optimizer)
        scaler.update()


def after_each_part(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(3):
        optimizer.zero_grad()
        for part in range(4):
            model(x(step + part)).square().sum().backward()
            clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()


def after_each_part_by_a_remedy(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    clip = remedies.ClipValue(1e-3).begin(model, optimizer)
    for step in range(3):
        optimizer.zero_grad()
        for part in range(4):
            model(x(step + part)).square().sum().backward()
            clip()
        optimizer.step()


def by_the_trainer_too(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(3):
        backward(model, optimizer, step)
        clip_grad_norm_(model.parameters(), 1.0)
        remedies.ClipNorm(0.5).begin(model, optimizer)()
        optimizer.step()


WRONG: dict[Loop, str] = {
    before_backward: "before-backward",
    after_the_step: "before-backward",
    before_zero_grad: "before-backward",
    still_scaled: "scaled",
    still_scaled_under_a_remedy: "scaled",
    after_each_part: "mid-accumulation",
    after_each_part_by_a_remedy: "mid-accumulation",
    by_the_trainer_too: "twice",
}


@pytest.mark.parametrize("loop", WRONG, ids=lambda loop: loop.__name__)
def test_a_misplaced_clip_is_named_with_its_place(loop: Loop) -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with pytest.warns(MisplacedClipWarning, match=f"in {loop.__name__}") as told:
        with sg.clip_check(optimizer) as check:
            loop(model, optimizer)
    assert len(told) == 1
    (found,) = check.found
    assert found.fault == WRONG[loop]
    assert found.step in (1, 2)
    file, line = found.site.partition(" in ")[0].rsplit(":", 1)
    assert Path(file) == Path(__file__)
    source = Path(file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
    assert "clip" in source.lower() and str(found.site) in found.text
    if found.fault == "twice":  # names the earlier one too
        assert found.text.count(f"{Path(__file__).name}:") == 2
    assert found.to_record()["site"] == found.site


def test_two_faults_are_two_findings_and_nothing_need_be_warned_of() -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with sg.clip_check(optimizer, warn=False) as check:
        before_backward(model, optimizer)
        after_each_part(model, optimizer)
        clip_grad_norm_(Reader().parameters(), 1.0)  # of another model: none of its business
    assert [f.fault for f in check.found] == ["before-backward", "mid-accumulation"]


def test_all_is_put_back() -> None:
    names = {name: getattr(nn.utils, name) for name in dir(nn.utils) if name.startswith("clip")}
    methods = [torch.amp.GradScaler.__dict__[n] for n in ("scale", "unscale_", "update")]
    here = sys.modules[__name__].__dict__["clip_grad_norm_"]
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    check = sg.clip_check(optimizer)
    with check:
        assert sys.modules[__name__].__dict__["clip_grad_norm_"] is not here
    check.close()
    assert names == {name: getattr(nn.utils, name) for name in names}
    assert methods == [torch.amp.GradScaler.__dict__[n] for n in ("scale", "unscale_", "update")]
    assert sys.modules[__name__].__dict__["clip_grad_norm_"] is here
    assert remedies.Treatment.__call__.__module__ == "steadygrad.remedies.treatment"
    assert "wrapped" not in remedies.Treatment.__dict__["__call__"].__dict__
    assert not LISTENERS
    before_backward(model, optimizer)  # nobody looks any more


def test_a_checked_training_ends_bit_equal() -> None:
    outcomes = []
    for checked in (False, True):
        model = Reader()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        if checked:
            with sg.clip_check(optimizer):
                plain(model, optimizer)
        else:
            plain(model, optimizer)
        outcomes.append([p.detach() for p in model.parameters()])
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=0, atol=0)


def test_the_watch_checks_when_asked() -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with pytest.warns(MisplacedClipWarning), sg.watch(model, optimizer, check_clips=True) as watch:
        backward(model, optimizer)
        watch.clip_(1.0)
        assert not watch.misplaced
        watch.clip_(0.5)  # the same kind again
        optimizer.step()
    assert [f.fault for f in watch.misplaced] == ["twice"]
    assert not LISTENERS
    with sg.watch(model, optimizer) as unchecked:
        before_backward(model, optimizer)
    assert unchecked.misplaced == []
