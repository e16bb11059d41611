"""Penalties against second formulations, and in layouts that are not the plain one."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steadygrad.remedies import (
    ActivationPenalty,
    GradientPenalty,
    NormStabiliser,
    RecurrentDecay,
    Remedy,
    SoftOrthogonal,
)
from tests.remedies.remedy_penalties import FAMILIES, H, I, Reader, data, gradients, loss_of

KINDS = ("RNN", "LSTM", "GRU")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_the_gradient_penalty_is_differentiated_through_the_gradient(
    family: str, kind: str, norm: Any
) -> None:
    model = Reader(family, kind)
    applied = GradientPenalty(1.0, norm).apply(model)
    found = gradients(model, applied.penalty(loss_of(model)))
    weight, at = model.get_parameter("layer.weight_hh_l0"), (1, 2)

    def size(shift: float) -> float:
        with torch.no_grad():
            weight[at] += shift
        grads = gradients(model, loss_of(model)).values()
        with torch.no_grad():
            weight[at] -= shift
        power = 1 if norm == "l1" else 2
        return sum(g.abs().pow(power).sum().item() for g in grads)

    slope = (size(1e-5) - size(-1e-5)) / 2e-5
    assert found["layer.weight_hh_l0"][at].item() == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("directions", [1, 50])
def test_random_directions_have_the_frobenius_form_as_their_mean(directions: int) -> None:
    model = Reader("torch", "GRU")
    exact = SoftOrthogonal(1.0).apply(model).penalty(loss_of(model)).item()
    identity = torch.eye(H, dtype=torch.float64)
    blocks = model.get_parameter("layer.weight_hh_l0").detach().view(3, H, H)
    by_hand = sum((b.t() @ b - identity).square().sum().item() for b in blocks)
    assert exact == pytest.approx(by_hand)
    applied, loss = SoftOrthogonal(1.0, directions).apply(model), loss_of(model)
    drawn = torch.stack([applied.penalty(loss).detach() for _ in range(2000 // directions)])
    assert drawn.std().item() > 0
    assert drawn.mean().item() == pytest.approx(exact, rel=0.05)


SEEN = [ActivationPenalty(0.0, 1.0), ActivationPenalty(1.0, 0.0), NormStabiliser(1.0)]


@pytest.mark.parametrize("remedy", SEEN, ids=lambda r: r.spec)
@pytest.mark.parametrize("family", FAMILIES)
def test_layouts_do_not_matter(remedy: Remedy, family: str) -> None:
    x = data()[0]

    def penalty(layout: str) -> float:
        model = Reader(family, "GRU", batch_first=layout == "batch first")
        applied = remedy.apply(model)
        given: dict[str, Any] = {
            "time first": x,
            "batch first": x.transpose(0, 1),
            "packed": nn.utils.rnn.pack_sequence(list(x.unbind(1))),
        }
        model.layer(given[layout])
        return applied.penalty(torch.zeros((), dtype=x.dtype)).item()

    plain = penalty("time first")
    assert plain > 0
    assert penalty("batch first") == pytest.approx(plain)
    assert penalty("packed") == pytest.approx(plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_neighbours_of_ragged_sequences_are_of_the_same_sequence(family: str) -> None:
    model = Reader(family)
    x = data()[0]
    rows = [x[:7, 0], x[:4, 1], x[:1, 2]]
    outputs = [model.layer(r.unsqueeze(1))[0].detach().squeeze(1) for r in rows]
    changes = torch.cat([(h[1:] - h[:-1]).square() for h in outputs])
    applied = ActivationPenalty(0.0, 1.0).apply(model)
    model.layer(nn.utils.rnn.pack_sequence(rows))
    penalty = applied.penalty(torch.zeros((), dtype=x.dtype))
    assert penalty.item() == pytest.approx(changes.mean().item())


@pytest.mark.parametrize("remedy", SEEN, ids=lambda r: r.spec)
def test_one_step_has_no_neighbours(remedy: Remedy) -> None:
    model = Reader("ours")
    applied = remedy.apply(model)
    model.layer(data()[0][:1])
    penalty = applied.penalty(torch.zeros((), dtype=torch.float64))
    assert penalty.isfinite()


def test_penalties_see_a_parametrised_weight_as_it_is_used() -> None:
    model = Reader("torch")
    nn.utils.parametrizations.orthogonal(model.layer, "weight_hh_l0")
    applied = SoftOrthogonal(1.0).apply(model)
    assert applied.penalty(loss_of(model)).item() == pytest.approx(0, abs=1e-20)
    size = RecurrentDecay(1.0).apply(model).penalty(loss_of(model)).item()
    assert size == pytest.approx(H)  # the squares of an orthogonal matrix add up to its size


def test_torchs_cells_in_a_loop_have_weights_to_penalise() -> None:
    model = nn.Sequential(nn.GRUCell(I, H))
    weight: Tensor = model.get_parameter("0.weight_hh")
    applied = RecurrentDecay(l2=1.0).apply(model)
    penalty = applied.penalty(torch.zeros(()))
    assert penalty.item() == pytest.approx(weight.square().sum().item())


def test_decay_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="l2 must be above 0 where l1 is 0"):
        RecurrentDecay(l2=0.0)
    with pytest.raises(ValueError, match="alpha must be above 0 where beta is 0"):
        ActivationPenalty(0.0, 0.0)
