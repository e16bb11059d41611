"""What the folders of single papers compute themselves, against closed forms and other solvers."""

import math

import numpy as np
import pytest
import torch
from benchmarks.papers.ctc_lines.pieces import joined, reprinted, words
from benchmarks.papers.harness import trial
from benchmarks.papers.lem.__main__ import flow, solved
from benchmarks.papers.momentum.__main__ import Network, Problem, echo_state

NEURON = {"until": 40.0, "steps": 100, "inner": 10, "current": 0.5, "a": 0.7, "b": 0.8, "tau": 50.0}
START = {"units": 20, "fan_in": 15, "radius": 1.1, "input_std": 0.1, "output_std": 0.1}


def test_the_neuron_is_solved_as_by_another_solver() -> None:
    integrate = pytest.importorskip("scipy.integrate")
    found = solved(3, NEURON, np.random.default_rng(0)).squeeze(-1)
    for row in found.T:
        other = integrate.solve_ivp(
            lambda _, state: flow(state, NEURON),
            (0, 40), [float(row[0]), 0.0], t_eval=np.linspace(0, 40, 101), rtol=1e-10, atol=1e-10,
        )  # fmt: skip
        np.testing.assert_allclose(row.numpy(), other.y[0], atol=2e-6)


def test_an_echo_state_start_has_its_fan_in_and_its_radius() -> None:
    weight = echo_state(40, START)
    assert (weight != 0).sum(1).tolist() == [15] * 40
    assert torch.linalg.eigvals(weight).abs().max().item() == pytest.approx(1.1, rel=1e-5)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("adding:length=20,form=martens", 0.92**2),
        ("memorisation:length=10,pattern=10,values=5", 8.0),
    ],
)
def test_errors_are_counted_as_in_the_table(task: str, expected: float) -> None:
    """Who learns output biases alone: 0.82 and 8.0 in the paper's column "biases"."""
    problem = Problem(task, 0)
    model = Network(problem.task, START, problem.centre)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias[-1] = 0 if task.startswith("adding") else -1  # a symbol, not silence
    assert problem.errors(model, 4000) == pytest.approx(expected, rel=0.03)


def test_a_trial_hands_over_its_figures() -> None:
    options = {"hidden": 4, "updates": 3, "batch_size": 4, "cell": "lstm-chrono:lag={length}"}
    settings = {"length": 20, "trial": {"task": "adding:length={length}", **options}}
    found = trial.attempt(settings, 0)
    assert found["updates"] == 3 and not found["solved"] and found["log10_gradient"] < 0
    assert math.isfinite(found["squared error"]) and found["validation"] > 0
    for name in ("log10_gradient", "horizon", "exponent"):
        assert math.isfinite(found[name]) and math.isfinite(found[f"{name}_trained"])
        assert found[name] != found[f"{name}_trained"] or name == "horizon"
    assert found["microseconds_per_step"] > 0
    with pytest.raises(RuntimeError, match="no such cell"):
        trial.attempt(settings | {"trial": settings["trial"] | {"cell": "x"}}, 0)


def test_a_line_is_cut_into_the_words_it_is_joined_from() -> None:
    random, space = np.random.default_rng(0), 9
    letter, gap = torch.ones(4, 16), torch.zeros(1, 16)
    word = torch.cat([letter, gap, letter])
    pieces = [(word * ink, torch.tensor([k, k + 1])) for k, ink in ((1, 0.5), (3, 0.7), (5, 1.0))]
    image, codes = joined(pieces, space, random)
    assert codes.tolist() == [1, 2, 9, 3, 4, 9, 5, 6]
    margin = torch.zeros(7, 16)
    cut = words((torch.cat([margin, image, margin]), codes), space)
    for (found, text), (wanted, known) in zip(cut, pieces, strict=True):
        assert torch.equal(found, wanted) and torch.equal(text, known)
    assert [t.tolist() for _, t in words((word, torch.tensor([1, 2])), space)] == [[1, 2]]
    assert words((torch.cat([word, gap, word]), torch.tensor([1, 9, 2])), space) == []  # which gap?
    assert words((margin, codes), space) == []
    for _ in range(20):
        other, text = reprinted(pieces[2], random)
        assert other.shape[1] == 16 and torch.equal(text, pieces[2][1])
        assert 0 <= other.min() and other.max() <= 1 and other.mean() > 0.3
