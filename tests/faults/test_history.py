"""Whether a loss falls, stands, or has blown up, by its start and its best."""

import numpy as np
import pytest

from steadygrad.faults.history import History, falls_to, of_losses


def noisy(values: np.ndarray) -> np.ndarray:
    return values * np.random.default_rng(0).uniform(0.8, 1.25, len(values))


def after_blow_up(calm: int) -> np.ndarray:
    """Like 0.7 -> 174 -> 43: down from a peak, far above where it began."""
    return np.concatenate([np.full(calm, 0.7), np.geomspace(174, 43, 200)])


FALLS = {
    "falls": (np.geomspace(1, 0.1, 200), True),
    "falls late": (np.concatenate([np.full(150, 1.0), np.full(50, 0.5)]), True),
    "falls below zero": (np.linspace(1, -3, 200), True),
    "stands": (np.full(200, 1.0), False),
    "rises": (np.linspace(1, 2, 200), False),
    "comes back up": (np.concatenate([np.geomspace(1, 0.1, 100), np.full(100, 0.8)]), False),
    "learned, and wavers": (np.concatenate([np.geomspace(1, 1e-6, 100), np.full(100, 1e-3)]), True),
}


@pytest.mark.parametrize("name", FALLS)
def test_a_loss_falls_against_its_start_and_keeps_its_gain(name: str) -> None:
    values, expected = FALLS[name]
    assert falls_to(list(noisy(values)), 0.9) is expected


@pytest.mark.parametrize("calm", [1, 5, 40])
def test_a_loss_that_comes_down_from_a_blow_up_has_not_fallen(calm: int) -> None:
    history = of_losses(noisy(after_blow_up(calm)))
    assert not history.falls() and history.has_diverged() and history.rests()


def test_a_loss_that_creeps_is_told_from_noise() -> None:
    steady = 1 + 0.05 * np.random.default_rng(1).standard_normal(200)
    assert not of_losses(steady).creeps()
    assert of_losses(steady * np.linspace(1, 0.8, 200)).creeps()
    assert not of_losses(steady[:30]).creeps() and not History().has_diverged()
