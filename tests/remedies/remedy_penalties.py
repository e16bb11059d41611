"""Penalties: the measure of every claim, on layers of torch and ours."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steadygrad.nn as sg
from steadygrad import remedies
from steadygrad.flow import lyapunov_exponents
from steadygrad.remedies import Applied

Claim = Callable[[str], None]
CLAIMS: dict[str, Claim] = {}
FAMILIES: dict[str, Any] = {"torch": nn, "ours": sg}
T, B, I, H = 9, 4, 3, 6


def claimer(claims: dict[str, Claim]) -> Callable[[str], Callable[[Claim], Claim]]:
    """A decorator that files the measure of a claim under the remedy's name."""

    def claim(name: str) -> Callable[[Claim], Claim]:
        def register(measure: Claim) -> Claim:
            claims[name] = measure
            return measure

        return register

    return claim


claim = claimer(CLAIMS)


class Reader(nn.Module):
    """A recurrent layer and a read-out of its last output."""

    def __init__(self, family: str, kind: str = "RNN", **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = getattr(FAMILIES[family], kind)(I, H, **options)
        self.head = nn.Linear(H, 2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][-1])


def data() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    x = torch.randn(T, B, I, dtype=torch.float64, generator=source)
    return x, torch.randint(0, 2, (B,), generator=source)


def loss_of(model: nn.Module) -> Tensor:
    x, target = data()
    return nn.functional.cross_entropy(model(x), target)


def gradients(model: nn.Module, value: Tensor) -> dict[str, Tensor]:
    """Gradient of ``value`` by parameter, those it does not touch left out."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return {n: g for n, g in zip(names, found, strict=True) if g is not None}


def descend(model: nn.Module, applied: Applied, steps: int, rate: float) -> tuple[float, float]:
    """Descend a penalty alone; return it before and after."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        penalty = applied.penalty(loss_of(model))
        penalty.backward()
        optimizer.step()
        values.append(penalty.item())
    return values[0], values[-1]


@claim("recurrent-decay")
def recurrent_decay_draws_recurrent_matrices_alone(family: str) -> None:
    for kind in ("RNN", "LSTM"):
        model = Reader(family, kind, bidirectional=False, num_layers=2)
        applied = remedies.RecurrentDecay(l2=0.5, l1=0.25).apply(model)
        found = gradients(model, applied.penalty(loss_of(model)))
        assert set(found) == {"layer.weight_hh_l0", "layer.weight_hh_l1"}
        for name, grad in found.items():
            weight = model.get_parameter(name).detach()
            torch.testing.assert_close(grad, 0.25 * weight.sign() + weight)


@claim("soft-orthogonal")
def soft_orthogonal_brings_singular_values_to_one(family: str) -> None:
    for kind, gates in (("RNN", 1), ("GRU", 3)):
        for directions in (None, 3):
            model = Reader(family, kind)
            applied = remedies.SoftOrthogonal(1.0, directions).apply(model)
            descend(model, applied, 400, 0.02)
            blocks = model.get_parameter("layer.weight_hh_l0").view(gates, H, H)
            sigma = torch.linalg.svdvals(blocks)
            torch.testing.assert_close(sigma, torch.ones_like(sigma), rtol=0, atol=0.02)


@claim("gradient-penalty")
def gradient_penalty_shortens_the_gradient(family: str) -> None:
    model = Reader(family)

    def length() -> float:
        return sum(g.square().sum().item() for g in gradients(model, loss_of(model)).values())

    before = length()
    applied = remedies.GradientPenalty(weight=1.0).apply(model)
    assert applied.penalty(loss_of(model)).item() == pytest.approx(before)
    descend(model, applied, 50, 0.01)
    assert length() < 0.5 * before


def states(model: Reader) -> Tensor:
    return model.layer(data()[0])[0].detach()


@claim("norm-stabiliser")
def norm_stabiliser_makes_the_length_of_the_state_constant(family: str) -> None:
    model = Reader(family)
    lengths = states(model).norm(dim=-1)
    change = (lengths[1:] - lengths[:-1]).square().mean().item()
    applied = remedies.NormStabiliser(beta=2.0).apply(model)
    first, _ = descend(model, applied, 200, 0.01)
    assert first == pytest.approx(2 * change)
    lengths = states(model).norm(dim=-1)
    assert lengths.mean() > 0.1  # and not by being nothing
    assert (lengths[1:] - lengths[:-1]).square().mean().item() < 0.1 * change


@claim("activation-penalty")
def activation_penalty_makes_outputs_smaller_and_slower(family: str) -> None:
    for alpha, beta in ((1.0, 0.0), (0.0, 1.0)):
        model = Reader(family)
        h = states(model)
        size, change = h.square().mean().item(), (h[1:] - h[:-1]).square().mean().item()
        applied = remedies.ActivationPenalty(alpha, beta).apply(model)
        first, last = descend(model, applied, 100, 0.01)
        assert first == pytest.approx(size if alpha else change)
        assert last < 0.3 * first


@claim("flossing")
def flossing_draws_the_exponents_to_the_target(family: str) -> None:
    for target in (0.0, -0.2):
        model = Reader(family)
        flossing = remedies.Flossing(target=target, rate=0.01, discard=2, bout=10, every=2)
        x = data()[0]

        def away(model: Reader = model, x: Tensor = x, target: float = target) -> float:
            with torch.no_grad():
                found = lyapunov_exponents(model.layer, x, discard=2)
            return (found - target).square().mean().item()

        start = away()
        flossing.apply(model)
        seen = []
        for _ in range(6):
            loss_of(model)
            seen.append(away())
        # Before the first update, and before the second and the fourth after it.
        assert seen[0] < 0.3 * start
        assert [after < before for before, after in pairwise(seen)] == [False, True] * 2 + [False]


@claim("omega")
def omega_brings_the_growth_of_the_error_to_one(family: str) -> None:
    model = Reader(family)
    applied = remedies.Omega().apply(model)
    start = loss_of(model)
    first = applied.penalty(start)
    assert set(gradients(model, first)) == {"layer.weight_hh_l0"}
    _, last = descend(model, applied, 200, 0.01)
    assert first.item() > 0.3 and last < first.item() / 4
