"""Pascanu's Omega against the recipe of the authors' code, written out step by step."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.remedies import Omega
from tests.remedies.remedy_penalties import FAMILIES, H, I, Reader, T, data, gradients, loss_of


def by_hand(model: Reader, form: str) -> tuple[Tensor, Tensor]:
    """Omega of a tanh network and its gradient at W_rec, as the released code computes it."""
    layer, (x, target) = model.layer, data()
    states, h = [], torch.zeros(x.shape[1], H, dtype=x.dtype)
    for x_t in x:
        h = torch.tanh(
            x_t @ layer.weight_ih_l0.t()
            + layer.bias_ih_l0
            + h @ layer.weight_hh_l0.t()
            + layer.bias_hh_l0
        )
        states.append(h)
    loss = nn.functional.cross_entropy(model.head(h), target)
    errors = torch.autograd.grad(loss, states)
    weight = layer.weight_hh_l0
    terms, count = torch.zeros(()), 0
    for h, d in zip(states, errors, strict=True):
        length = d.square().sum(1)
        passed = ((d * (1 - h.detach() ** 2)) @ weight).square().sum(1)
        ratio = passed / length
        terms = terms + ((ratio if form == "squared" else ratio.sqrt()) - 1).square().sum()
        count += len(length)
    omega = terms / count
    return omega.detach(), torch.autograd.grad(omega, weight)[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", ["squared", "norm"])
def test_value_and_gradient_are_those_of_the_recipe(family: str, form: Any) -> None:
    model = Reader(family)
    expected, expected_grad = by_hand(model, form)
    applied = Omega(2.0, form).apply(model)
    penalty = applied.penalty(loss_of(model))
    torch.testing.assert_close(penalty.detach(), 2 * expected)
    found = gradients(model, penalty)
    torch.testing.assert_close(found["layer.weight_hh_l0"], 2 * expected_grad)


@pytest.mark.parametrize("family", FAMILIES)
def test_lstm_counts_h_and_c_as_one_state(family: str) -> None:
    model = Reader(family, "LSTM")
    layer, (x, target) = model.layer, data()
    h = c = torch.zeros(x.shape[1], H, dtype=x.dtype)
    terms, ends = [], []
    for x_t in x:
        before = (h.detach().requires_grad_(), c.detach().requires_grad_())
        pre = x_t @ layer.weight_ih_l0.t() + layer.bias_ih_l0 + layer.bias_hh_l0
        pre = (pre + before[0] @ layer.weight_hh_l0.t()).chunk(4, 1)
        c = pre[1].sigmoid() * before[1] + pre[0].sigmoid() * pre[2].tanh()
        h = pre[3].sigmoid() * c.tanh()
        ends.append((before, (h, c)))
    last = h.detach().requires_grad_()
    loss = nn.functional.cross_entropy(model.head(last), target)
    error = (torch.autograd.grad(loss, last)[0], torch.zeros_like(last))
    for before, after in reversed(ends):
        past = torch.autograd.grad(after, before, error)
        squares = [torch.cat(e, 1).square().sum(1) for e in (past, error)]
        terms.append((squares[0] / squares[1] - 1).square())
        error = past
    expected = torch.stack(terms).mean()
    applied = Omega().apply(model)
    torch.testing.assert_close(applied.penalty(loss_of(model)).detach(), expected.detach())


@pytest.mark.parametrize("form", ["squared", "norm"])
@pytest.mark.parametrize("a", [1.0, 0.8, 1.3])
def test_a_linear_network_of_one_gain_has_it_in_closed_form(form: Any, a: float) -> None:
    # Active ReLU units are linear, and a permutation is orthogonal: every step has gain a.
    model = Reader("ours", nonlinearity="relu")
    with torch.no_grad():
        for parameter in model.layer.parameters():
            parameter.abs_()
        model.layer.weight_hh_l0.copy_(a * torch.eye(H, dtype=torch.float64).roll(1, 0))
    applied = Omega(form=form).apply(model)
    x, target = data()
    penalty = applied.penalty(nn.functional.cross_entropy(model(x.abs()), target))
    expected = (a**2 - 1) ** 2 if form == "squared" else (a - 1) ** 2
    assert penalty.item() == pytest.approx(expected, abs=1e-12)


def test_steps_without_an_error_count_for_nothing() -> None:
    model = Reader("ours")
    with torch.no_grad():
        model.layer.weight_hh_l0.mul_(1e-9)  # the error is gone after two steps back
    applied = Omega().apply(model)
    penalty = applied.penalty(loss_of(model))
    (grad,) = gradients(model, penalty).values()
    assert penalty.item() == pytest.approx(1.0) and grad.isfinite().all()
    with torch.no_grad():
        model.head.weight.zero_()
    nothing = applied.penalty(loss_of(model))
    assert nothing.item() == 0.0


def test_packed_sequences_and_stacks_average_over_rows_and_add_layers() -> None:
    model = Reader("torch", "GRU", num_layers=2)
    x, target = data()
    packed = nn.utils.rnn.pack_sequence([x[:5, 0], x[:3, 1]])
    applied = Omega().apply(model)
    last = model.layer(packed)[1][-1]
    whole = applied.penalty(nn.functional.cross_entropy(model.head(last), target[:2]))
    parts = []
    for row, steps in ((0, 5), (1, 3)):
        last = model.layer(x[:steps, row : row + 1])[1][-1]
        loss = nn.functional.cross_entropy(model.head(last), target[row : row + 1])
        parts.append(steps * applied.penalty(loss).item())
    assert whole.item() == pytest.approx(sum(parts) / 8)
    assert set(gradients(model, whole)) == {"layer.weight_hh_l0", "layer.weight_hh_l1"}


@pytest.mark.parametrize("family", FAMILIES)
def test_both_directions_are_penalised(family: str) -> None:
    model = Reader(family, bidirectional=True)
    model.head = nn.Linear(2 * H, 2).double()
    applied = Omega().apply(model)
    x, target = data()
    loss = nn.functional.cross_entropy(model.head(model.layer(x)[0][T // 2]), target)
    found = gradients(model, applied.penalty(loss))
    assert set(found) == {"layer.weight_hh_l0", "layer.weight_hh_l0_reverse"}


def test_the_calls_of_a_step_are_used_once_and_evaluation_is_not_seen() -> None:
    model = Reader("ours")
    applied = Omega().apply(model)
    model.eval()
    loss_of(model)
    model.train()
    loss = loss_of(model)
    assert applied.penalty(loss).item() > 0
    assert applied.penalty(loss).item() == 0.0
    applied.undo()
    with pytest.raises(RuntimeError, match="undone"):
        applied.penalty(loss)


def test_the_loss_and_its_gradient_stay_as_they_are() -> None:
    plain, treated = Reader("ours"), Reader("ours")
    applied = Omega().apply(treated)
    (loss := loss_of(plain)).backward()
    other = loss_of(treated)
    (other + 0 * applied.penalty(other)).backward()
    assert torch.equal(loss, other)
    for a, b in zip(plain.parameters(), treated.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad)


def test_what_cannot_be_walked_again_is_refused() -> None:
    with pytest.raises(ValueError, match="has dropout between its layers"):
        Omega().apply(nn.LSTM(I, H, 2, dropout=0.5))
    with pytest.raises(ValueError, match="truncate=3"):
        Omega().apply(sg.LSTM(I, H, truncate=3))
