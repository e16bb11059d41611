"""Trainings that look well and are not: each is named or left open, its healthy twin is not."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

import steadygrad as sg
from steadygrad.diagnosis.causes import causes
from steadygrad.diagnosis.standing import rate_in_doubt, unmoved
from steadygrad.faults import FAULTS, History, Thresholds
from steadygrad.faults.history import of_losses

LIMITS = Thresholds()


def likelihoods(outlier: float, every: int, floor: float = -2.5, seed: int = 0) -> History:
    """Losses that fall from 1 to a floor, with noise, and an outlier now and then."""
    noise = torch.Generator().manual_seed(seed)
    course = floor + (1 - floor) * torch.exp(-torch.arange(600) / 60)
    course += 0.15 * torch.randn(600, generator=noise)
    course[100::every] += outlier
    history = of_losses(course.tolist())
    history.grows = False
    return history


@pytest.mark.parametrize(
    ("history", "is_ill"),
    [
        (likelihoods(6.0, 30), True),
        (likelihoods(40.0, 50), True),
        (likelihoods(0.5, 30), False),
        (likelihoods(6.0, 250), False),
        (likelihoods(6.0, 30, floor=0.2), False),
        (likelihoods(0.0, 30), False),
    ],
    ids=["jumps", "far jumps", "small jumps", "rare jumps", "an error", "noise"],
)
def test_a_scale_that_runs_away_is_seen_in_the_losses(history: History, is_ill: bool) -> None:
    found = list(FAULTS["likelihood"].in_training(history, LIMITS))
    assert bool(found) == is_ill
    history.grows = True  # then the backward pass may be what throws them
    assert not list(FAULTS["likelihood"].in_training(history, LIMITS))


@pytest.mark.parametrize(
    ("step", "last", "count", "is_open"),
    [(0.09, 0.5, 10, True), (0.03, 0.5, 10, False), (0.09, 0.05, 10, False), (0.09, 0.5, 4, False)],
    ids=["large steps", "usual steps", "learned", "few steps"],
)
def test_large_steps_leave_it_open_what_the_loss_could_be(
    step: float, last: float, count: int, is_open: bool
) -> None:
    history = of_losses(last + (2 - last) * math.exp(-i / 20) for i in range(200))
    history.update = [step] * count
    assert (rate_in_doubt(history, LIMITS) is not None) == is_open


@pytest.mark.parametrize(("decay", "is_open"), [(0.3, True), (0.9, False)])
def test_a_schedule_that_has_starved_the_steps_leaves_it_open(decay: float, is_open: bool) -> None:
    history = of_losses(0.5 + math.exp(-i / 20) + 0.02 * math.sin(7 * i) for i in range(400))
    history.update = [1e-2 * decay**i for i in range(26)]
    assert (rate_in_doubt(history, LIMITS) is not None) == is_open


@pytest.mark.parametrize(
    ("step", "course", "is_open"),
    [
        (1e-4, np.linspace(1, 0.5, 700), True),
        (1e-2, np.linspace(1, 0.5, 700), False),
        (1e-4, np.append(np.geomspace(1, 0.05, 700), [0.05] * 700), False),
    ],
    ids=["tiny steps", "good steps", "tiny steps that arrived"],
)
def test_a_loss_that_comes_down_by_tiny_steps_leaves_the_rate_open(
    step: float, course: NDArray[np.float64], is_open: bool
) -> None:
    history = of_losses(course.tolist())
    history.update = [step] * 20
    assert (rate_in_doubt(history, LIMITS) is not None) == is_open


@pytest.mark.parametrize(("last", "is_open"), [(1.0, True), (0.97, True), (0.8, False)])
def test_a_loss_that_never_moved_is_no_health_where_its_targets_are_unknown(
    last: float, is_open: bool
) -> None:
    noise = torch.Generator().manual_seed(0)
    course = torch.linspace(1, last, 200) + 0.01 * torch.randn(200, generator=noise)
    assert (unmoved(of_losses(course.tolist())) is not None) == is_open


@pytest.mark.parametrize(
    ("leap", "count", "waits"), [(7.9, 1, True), (7.9, 30, False), (1, 1, False)]
)
def test_an_explosion_by_leaps_is_open_for_the_first_steps_alone(
    leap: float, count: int, waits: bool
) -> None:
    history = of_losses([1.0] * count)
    history.before = [1.0] * count
    evidence = {"log10_ratio": 8.0, "log10_without_leaps": 8.0 - leap}
    finding = FAULTS["exploding"].finding("rnn", "It grows.", evidence=evidence)
    reported = causes([finding], {}, history, LIMITS)
    assert bool(reported.findings) != waits
    assert bool(reported.unjudged) == waits  # held back, and no health


def waves(start: Tensor, steps: int) -> Tensor:
    """Sines ``(T, B, 1)`` from phases ``(B,)``."""
    return (start + 0.3 * torch.arange(steps)[:, None]).sin()[..., None]


@pytest.mark.parametrize("sequences", [3, 16])
@pytest.mark.parametrize("goes_on", [True, False])
def test_a_state_of_other_sequences_is_told_from_one_that_goes_on(
    sequences: int, goes_on: bool
) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        rnn, state, start = nn.GRU(1, 4), None, 6 * torch.rand(sequences)
        optimizer = torch.optim.SGD(rnn.parameters(), 1e-3)
        with sg.watch(rnn, optimizer, every=20) as watch:
            for _ in range(21):
                start = start + 0.3 * 15 if goes_on else 6 * torch.rand(sequences)
                out, state = rnn(waves(start, 15), state)
                state = state.detach()
                loss = F.mse_loss(out[..., :1], waves(start + 0.3, 15))
                optimizer.zero_grad()
                loss.backward()
                watch.loss(loss)
                optimizer.step()
            assert ("leaking" in {f.fault for f in watch.findings}) != goes_on, watch
