"""Penalties: another value for every option, and the measure of every claim."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import steadygrad.nn as sg
from steadygrad import remedies

Claim = Callable[[str], None]
CLAIMS: dict[str, Claim] = {}
FAMILIES: dict[str, Any] = {"torch": nn, "ours": sg}
# One other value for every option, and a layer on which it matters.
OTHER: dict[tuple[str, str], tuple[Any, str]] = {
    ("omega", "alpha"): (4.0, "GRU"),
    ("omega", "form"): ("norm", "RNN"),
}
T, B, I, H = 9, 4, 3, 6


def claim(name: str) -> Callable[[Claim], Claim]:
    def register(measure: Claim) -> Claim:
        CLAIMS[name] = measure
        return measure

    return register


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


@claim("omega")
def omega_brings_the_growth_of_the_error_to_one(family: str) -> None:
    model = Reader(family)
    applied = remedies.Omega().apply(model)
    start = loss_of(model)
    first = applied.penalty(start)
    assert set(gradients(model, first)) == {"layer.weight_hh_l0"}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        applied.penalty(loss_of(model)).backward()
        optimizer.step()
    last = applied.penalty(loss_of(model)).item()
    assert first.item() > 0.3 and last < first.item() / 4
