"""Skill against sums that are written out here, for each loss that is recognised."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from steadygrad.flow import Skill, skill
from steadygrad.flow.answers import answers_of

CLASSES, ROWS = 4, 60
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 6.0])
PLACES = torch.arange(ROWS) % 7 % CLASSES
YES = (torch.arange(ROWS) % 3 == 0).float()[:, None]


def entropy(places: Tensor, weights: Tensor) -> float:
    """Of the weighted frequencies, Miller's correction included, for one of the answers."""
    share = torch.stack([weights[k] * (places == k).sum() for k in range(CLASSES)]).double()
    share = share / share.sum()
    return float(-(share * share.log()).sum()) + (CLASSES - 1) / (2 * len(places))


def weighted(scores: Tensor, weights: Tensor) -> float:
    return float(F.cross_entropy(scores.double(), PLACES, weights.double()))


SAME = torch.ones(CLASSES)
Loss = Callable[[Tensor], Tensor]
OF_CLASSES: dict[str, tuple[Loss, Tensor]] = {
    "mean": (lambda o: F.cross_entropy(o, PLACES), SAME),
    "sum": (lambda o: F.cross_entropy(o, PLACES, reduction="sum"), SAME),
    "smoothed": (lambda o: F.cross_entropy(o, PLACES, label_smoothing=0.1), SAME),
    "weighted": (lambda o: F.cross_entropy(o, PLACES, WEIGHTS), WEIGHTS),
}


@pytest.mark.parametrize("is_sure", [False, True])
@pytest.mark.parametrize("kind", OF_CLASSES)
def test_skill_of_classes_is_what_their_frequencies_leave_over(kind: str, is_sure: bool) -> None:
    loss, weights = OF_CLASSES[kind]
    torch.manual_seed(0)
    scores = torch.randn(ROWS, CLASSES) + (8.0 if is_sure else 0.0) * F.one_hot(PLACES, CLASSES)
    found = of_loss(scores, loss)
    assert found is not None
    expected = 1 - weighted(scores, weights) / entropy(PLACES, weights)
    assert found.value == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("weight", [1.0, 9.0])
def test_skill_of_two_classes(weight: float) -> None:
    torch.manual_seed(0)
    scores = torch.randn(ROWS, 1) + YES
    by = torch.tensor(weight)
    found = of_loss(scores, lambda o: F.binary_cross_entropy_with_logits(o, YES, pos_weight=by))
    p = float(weight * YES.sum() / (weight * YES.sum() + (1 - YES).sum()))
    own = F.binary_cross_entropy_with_logits(scores, YES, pos_weight=by)
    own = float(own) * ROWS / float(weight * YES.sum() + (1 - YES).sum())
    least = -p * math.log(p) - (1 - p) * math.log(1 - p) + 0.5 / ROWS
    assert found is not None
    assert found.value == pytest.approx(1 - own / least, abs=1e-3)


def test_skill_of_values_is_the_coefficient_of_determination_of_all_batches_together() -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(3, 20, 2), 5 + torch.randn(3, 20, 2) * torch.tensor([1.0, 4.0])
    tallies = []
    for o, y in zip(outputs, targets, strict=True):
        o = o.requires_grad_()
        (g,) = torch.autograd.grad(value := F.mse_loss(o, y), o)
        answers = answers_of(o.detach(), g, float(value.detach()))
        assert answers is not None and answers.tally is not None
        tallies.append(answers.tally)
    found = skill(tallies)
    error = (outputs - targets).square().sum()
    around = targets.reshape(-1, 2).var(0).sum() * 60  # over n - 1, times n
    assert found is not None and found.targets == 120
    assert found.value == pytest.approx(float(1 - error / around), abs=1e-3)


@pytest.mark.parametrize("loss", [F.l1_loss, F.smooth_l1_loss])
def test_of_hidden_targets_a_constant_answer_has_no_skill_and_a_good_one_has(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    torch.manual_seed(0)
    y = 3 * torch.randn(ROWS, 1)
    for answer, low, high in ((0.1 * torch.randn_like(y), -0.1, 0.05), (0.8 * y, 0.5, 1.0)):
        found = of_loss(answer, lambda o: loss(o, y))
        assert found is not None and low < found.value < high


def test_what_answers_no_targets_has_no_skill() -> None:
    torch.manual_seed(0)
    values, taken = torch.randn(ROWS, 3), PLACES[:, None] % 3
    assert of_loss(values, lambda q: F.mse_loss(q.gather(1, taken), torch.randn(ROWS, 1))) is None
    gains = torch.rand(ROWS)
    own = of_loss(
        torch.randn(ROWS, CLASSES),
        lambda o: (gains * F.cross_entropy(o, PLACES, reduction="none")).mean(),
    )
    assert own is None
    rare = torch.randn(ROWS, 500)  # most classes come once: their frequencies are not known
    assert of_loss(rare, lambda o: F.cross_entropy(o, torch.randperm(500)[:ROWS])) is None
    same = torch.randn(ROWS, 1)
    assert of_loss(same, lambda o: F.mse_loss(o, torch.full_like(o, 2.0))) is None


def of_loss(output: Tensor, loss: Loss) -> Skill | None:
    """The skill of one batch, by the gradient alone."""
    output = output.clone().requires_grad_()
    value = loss(output)
    (gradient,) = torch.autograd.grad(value, output)
    answers = answers_of(output.detach(), gradient, float(value.detach()))
    return None if answers is None or answers.tally is None else skill([answers.tally])
