"""Arguments of the public functions are looked at when they are given, before anything is run."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg

LAYER = nn.LSTM(2, 4)
X = torch.randn(6, 3, 2)


def loss(*_: Any) -> Tensor:
    return LAYER(X)[0][-1].sum()


def watched(**options: Any) -> None:
    sg.watch(LAYER, torch.optim.SGD(LAYER.parameters(), 0.1), **options).close()


def repaired(**options: Any) -> None:
    def trainer(model: nn.Module, care: object) -> float:
        raise AssertionError("trained before its arguments were looked at")

    sg.repair(lambda: nn.LSTM(2, 4), trainer, loss, **options)


def looked(**options: Any) -> None:
    sg.diagnose(LAYER, loss, **options)


CASES: list[tuple[Callable[..., None], dict[str, Any], str]] = [
    (repaired, {"better": "up"}, "'higher'"),
    (repaired, {"most": 0}, "most: expected a whole number, at least 1, got 0"),
    (repaired, {"seeds": 1}, "seeds: expected a whole number, at least 3, got 1"),
    (repaired, {"seed": -1}, "seed: expected a whole number, at least 0"),
    (repaired, {"lag": "auto"}, "lag counts steps back and must be at least 1, got 'auto'"),
    (repaired, {"remedies": ["clipnorm"]}, "no remedy 'clipnorm'.*did you mean 'clip-norm'"),
    (watched, {"rows": 0}, "rows: expected a whole number, at least 1, got 0"),
    (watched, {"rows": 2.5}, "rows: expected a whole number"),
    (watched, {"lag": "auto"}, "got 'auto': give a whole number"),
    (watched, {"lag": True}, "lag counts steps back"),
    (watched, {"exponents": -1}, "exponents: expected a whole number, at least 0"),
    (watched, {"start_step": -1}, "start_step: expected a whole number, at least 0"),
    (watched, {"every": 0}, "every counts training steps and must be at least 1"),
    (watched, {"ranks": "some"}, "ranks must be 'auto', 'all' or 'this', got 'some'"),
    (watched, {"budget": -0.1}, "budget"),
    (watched, {"log": "tensorbord"}, "there is no such logger"),
    (looked, {"lag": 0}, "lag counts steps back"),
    (looked, {"lag": 2.0}, "lag counts steps back"),
    (looked, {"rows": 0}, "rows: expected a whole number, at least 1, or None, got 0"),
    (looked, {"sources": 0}, "sources: expected a whole number, at least 1"),
]


@pytest.mark.parametrize(
    ("call", "options", "says"), CASES, ids=lambda v: getattr(v, "__name__", str(v)[:30])
)
def test_a_wrong_argument_is_refused_in_one_line(
    call: Callable[..., None], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        call(**options)
    assert "\n" not in str(caught.value)


def test_norms_are_not_skipped_backwards() -> None:
    with pytest.raises(ValueError, match="skip_first: expected a whole number, at least 0"):
        sg.clip_advice([1.0, 2.0, 3.0], skip_first=-1)
