"""What the folders of single papers compute themselves, against closed forms and other solvers."""

import math

import pytest
from benchmarks.papers.harness import trial


def test_a_trial_hands_over_its_figures() -> None:
    options = {"hidden": 4, "updates": 3, "batch_size": 4, "cell": "lstm-chrono:lag={length}"}
    settings = {"length": 20, "trial": {"task": "adding:length={length}", **options}}
    found = trial.attempt(settings, 0)
    assert found["updates"] == 3 and not found["solved"] and found["log10_gradient"] < 0
    assert math.isfinite(found["squared error"])
    with pytest.raises(RuntimeError, match="no such cell"):
        trial.attempt(settings | {"trial": settings["trial"] | {"cell": "x"}}, 0)
