"""Constraints and initialisations: the measure of every claim, on layers of torch and ours."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad import remedies
from steadygrad.flow import singular_values
from tests.remedies.remedy_penalties import FAMILIES, Claim, H, I, Reader, claimer, data, loss_of

CLAIMS: dict[str, Claim] = {}
claim = claimer(CLAIMS)
KINDS = (("RNN", 1), ("LSTM", 4), ("GRU", 3))


def trained(family: str, kind: str, remedy: remedies.Remedy) -> Reader:
    """A treated model after some training steps, far from where it began."""
    model = Reader(family, kind)
    remedy.apply(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3)
    for _ in range(20):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    return model


def sigma(model: Reader, gates: int) -> Tensor:
    weight: Any = model.layer.weight_hh_l0
    return torch.linalg.svdvals(weight.detach().view(gates, H, H))


@claim("orthogonal")
def orthogonal_holds_every_singular_value_at_one(family: str) -> None:
    for kind, gates in KINDS:
        for map in ("matrix_exp", "cayley"):
            found = sigma(trained(family, kind, remedies.Orthogonal(map)), gates)
            torch.testing.assert_close(found, torch.ones_like(found))


@claim("spectral-margin")
def spectral_margin_holds_singular_values_within_it(family: str) -> None:
    for kind, gates in KINDS:
        found = sigma(trained(family, kind, remedies.SpectralMargin(0.2)), gates)
        assert found.min() >= 0.8 and found.max() <= 1.2
        assert found.max() - found.min() > 0.1  # they do move


@claim("spectral-bound")
def spectral_bound_lets_no_step_lengthen_a_gradient(family: str) -> None:
    for bound in (0.9, 0.3):
        model = trained(family, "RNN", remedies.SpectralBound(bound))
        x, _ = data()
        hidden, steps = torch.zeros(x.shape[1], H, dtype=x.dtype, requires_grad=True), []
        for x_t in x:  # the last step's gradient alone, from one state to the one before
            before = hidden.detach().requires_grad_()
            after = model.layer(x_t[None], before[None])[1][0]
            steps.append((before, after))
            hidden = after
        error = torch.ones_like(hidden)
        for before, after in reversed(steps):
            (past,) = torch.autograd.grad(after, before, error)
            assert (past.norm(dim=1) <= bound * error.norm(dim=1) * (1 + 1e-12)).all()
            error = past
    for kind, gates in KINDS:
        assert sigma(trained(family, kind, remedies.SpectralBound(0.5)), gates).max() <= 0.5 + 1e-12


@claim("rotation-init")
def rotation_init_puts_eigenvalues_on_the_circle(family: str) -> None:
    for kind, gates in KINDS:
        for angle in (math.pi, 0.3):
            model = Reader(family, kind)
            remedies.RotationInit(angle).apply(model)
            blocks = model.get_parameter("layer.weight_hh_l0").view(gates, H, H)
            values = torch.linalg.eigvals(blocks)
            torch.testing.assert_close(values.abs(), torch.ones_like(values.abs()))
            turned = values.angle().abs()
            assert turned.max() <= angle and turned.max() > 0.3 * angle


@claim("gate-init")
def gate_init_draws_for_the_fan_of_one_gate(family: str) -> None:
    wide, inputs = 200, 50
    for kind, gates in KINDS:
        for remedy, of_input, of_state in (
            (remedies.GateInit("glorot", True), 2 / (inputs + wide), 2 / (wide + wide)),
            (remedies.GateInit("he", True), 2 / inputs, 2 / wide),
        ):
            torch.manual_seed(0)
            model = nn.Sequential(getattr(FAMILIES[family], kind)(inputs, wide))
            remedy.apply(model)
            for name, expected in (("weight_ih_l0", of_input), ("weight_hh_l0", of_state)):
                rows = model.get_parameter(f"0.{name}").view(gates, -1)
                torch.testing.assert_close(
                    rows.var(1), torch.full((gates,), expected), rtol=0.06, atol=0
                )


@claim("jacobian-scale")
def jacobian_scale_brings_the_mean_singular_value_to_the_target(family: str) -> None:
    for kind, target in (("RNN", 1.0), ("RNN", 0.7), ("GRU", 1.0), ("LSTM", 1.0)):
        model = Reader(family, kind, num_layers=2, bidirectional=True)
        model.head = nn.Linear(2 * H, 2).double()
        remedies.JacobianScale(target).apply(model)
        loss_of(model)
        for index in (0, 1):
            for reverse in (False, True):
                found = singular_values(model.layer, data()[0], index=index, reverse=reverse)
                assert abs(found.mean().item() - target) < 0.01 * target
    assert I != H
