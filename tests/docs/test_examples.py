"""The examples run, with budgets of seconds, and show what they say they show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.slow


def run(name: str, *options: str) -> str:
    if "STEADYGRAD_DATA" not in os.environ and name in ("motions", "narx_free_run"):
        pytest.skip("STEADYGRAD_DATA is not set")
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(line: str) -> list[float]:
    return [float(v) for v in re.findall(r"[-+]?\d+\.\d+", line)]


def test_a_two_dimensional_lstm_tells_digits_apart() -> None:
    (line,) = run("mdlstm_digits", "--epochs", "6", "--cell", "leaky").splitlines()
    assert numbers(line)[0] > 0.7


def test_two_convolutional_layers_learn_the_movements() -> None:
    lines = run("motions", "--epochs", "40").splitlines()
    assert len(lines) == 2
    assert all(min(numbers(line)[:3]) > 0.6 for line in lines)


def test_narx_runs_free_and_beats_the_linear_model() -> None:
    lines = run("narx_free_run", "--steps", "12", "--test-steps", "3000").splitlines()
    assert len(lines) == 8
    for at in (1, 5):
        linear, *narx = (numbers(line) for line in lines[at : at + 3])
        assert min(row[1] for row in narx) < linear[1]


def test_reversal_gains_on_copying_and_costs_on_reversing() -> None:
    gains = [
        numbers(line)[0]
        for line in run("reversal", "--steps", "250", "--seeds", "1").splitlines()
        if "gain" in line
    ]
    assert gains[0] > 0.1 and gains[1] < -0.1


def test_a_stream_teaches_what_to_keep_for_a_later_question() -> None:
    alone, recurrent = run("online_learning", "--steps", "1500").splitlines()[1:]
    assert min(numbers(alone)) > 0.25 and numbers(recurrent)[-1] < 0.1
