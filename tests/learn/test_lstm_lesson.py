"""The lesson on one LSTM unit: its numbers and its page's numbers equal autograd's in float64."""

import math
from typing import Any

import pytest
import torch

from steadygrad.errors import InputError
from steadygrad.learn import LSTMLesson
from steadygrad.learn.lstm import OPERATIONS, decay, follow
from tests.learn.scripts import compute

PROGRAMMES = [("wkkkrkkkewkkkkkr", 6.0, 0.8), ("wkkkr", 0.0, -0.5), ("rewk", 2.5, 0.3)]


def by_autograd(programme: str, a: float, value: float) -> list[dict[str, float]]:
    """The unit's equations with plain tensors, every intermediate value kept."""
    c, steps, writes = torch.zeros((), dtype=torch.float64), [], 0
    for letter in programme:
        i, f, o = (torch.tensor(a if on else -a).double().sigmoid() for on in OPERATIONS[letter])
        g = torch.tensor(-value if writes % 2 else value, dtype=torch.float64, requires_grad=True)
        c = f * c + i * g
        c.retain_grad()
        h = o * c.tanh()
        steps.append({"c": c, "h": h, "g": g})
        writes += letter == "w"
    steps[-1]["h"].backward()
    found = []
    for step in steps:
        value_of = {name: float(v.detach()) for name, v in step.items()}
        found.append(value_of | {"dc": float(step["c"].grad), "dg": float(step["g"].grad)})
    return found


@pytest.mark.parametrize(("programme", "a", "value"), PROGRAMMES)
def test_the_programme_is_the_one_of_autograd(programme: str, a: float, value: float) -> None:
    steps = follow(programme, a, value)
    for step, expected in zip(steps, by_autograd(programme, a, value), strict=True):
        for name in ("c", "h", "dc", "dg"):
            assert getattr(step, name) == pytest.approx(expected[name], rel=1e-9, abs=1e-300)


def test_the_page_follows_the_programme_as_autograd_does() -> None:
    cases = [{"operations": p, "open": a, "value": v} for p, a, v in PROGRAMMES]
    for made, (programme, a, value) in zip(
        compute("lstm", "programme", *cases), PROGRAMMES, strict=True
    ):
        for step, expected in zip(made["steps"], by_autograd(programme, a, value), strict=True):
            for name in ("c", "h", "dc", "dg"):
                assert step[name] == pytest.approx(expected[name], rel=1e-12)


def test_the_pages_unit_is_one_step_of_the_equations() -> None:
    case = {"f": 0.7, "i": 0.4, "g": -0.6, "o": 0.9, "before": 1.3}
    (made,) = compute("lstm", "unit", case)
    f, i, g, o, before = (
        torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in case.values()
    )
    c = f * before + i * g
    c.retain_grad()
    h = o * c.tanh()
    h.backward()
    assert made["text"]["c"] == pytest.approx(c.item(), rel=1e-14)
    assert made["text"]["h"] == pytest.approx(h.item(), rel=1e-14)
    assert c.grad is not None and before.grad is not None and g.grad is not None
    assert made["text"]["read"] == pytest.approx(c.grad.item(), rel=1e-12)
    assert made["text"]["back"] == pytest.approx(before.grad.item() / c.grad.item(), rel=1e-12)
    assert made["text"]["write"] == pytest.approx(g.grad.item() / c.grad.item(), rel=1e-12)


@pytest.mark.parametrize("weight", [0.0, 1.0, 10.0, -2.0])
def test_the_decay_is_measured_and_the_page_agrees(weight: float) -> None:
    x, steps = 0.7, 12
    found = decay(weight, x, steps)
    forget = 1 / (1 + math.exp(-weight * x))
    for lag in range(steps + 1):
        assert found.log10_lstm[lag] == pytest.approx(lag * math.log10(forget), abs=1e-9)
    states = [torch.zeros((), dtype=torch.float64, requires_grad=True)]
    for _ in range(steps + 1):
        states.append(torch.tanh(weight * states[-1] + x))
    grads = torch.autograd.grad(states[-1], states[1:], allow_unused=True)
    expected = [0.0 if g is None else abs(float(g)) for g in grads][::-1]
    log10 = [math.log10(v) if v else -math.inf for v in expected]
    assert found.log10_rnn == pytest.approx(log10, abs=1e-6)
    (made,) = compute("lstm", "decay", {"weight": weight, "steps": steps, "x": x})
    lstm, rnn = made["lines"]["decay"]
    assert [y for _, y in lstm] == pytest.approx(found.log10_lstm, abs=1e-9)
    assert [y for _, y in rnn] == pytest.approx(found.log10_rnn, abs=1e-6)


def test_a_weight_of_ten_keeps_0_99995_a_step() -> None:
    result = LSTMLesson(weight=10, x=1, steps=50).run()
    assert result.decay.forget == pytest.approx(0.9999546, abs=1e-7)
    assert 10 ** result.decay.log10_lstm[-1] == pytest.approx(0.9999546**50, rel=1e-6)
    assert result.decay.log10_rnn[-1] < -300


@pytest.mark.parametrize("a", [-7.0, 0.0, 2.5])
def test_the_pages_gate_has_the_slope_of_autograd(a: float) -> None:
    (made,) = compute("lstm", "saturated", {"a": a})
    point = torch.tensor(a, dtype=torch.float64, requires_grad=True)
    value = point.sigmoid()
    value.backward()
    assert point.grad is not None
    assert made["text"]["value"] == pytest.approx(value.item(), rel=1e-14)
    assert made["text"]["slope"] == pytest.approx(point.grad.item(), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": 0}, "steps must be 1 to 2000, got 0"),
        ({"programme": "wx"}, "programme is made of k, w, e, r; got 'x'"),
        ({"programme": ""}, "got nothing"),
        ({"programme": "k" * 25}, "at most 24"),
        ({"weight": math.nan}, "weight must be finite"),
        ({"value": 2.0}, "value must lie in"),
    ],
)
def test_what_cannot_be_used_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        LSTMLesson(**options).run()
