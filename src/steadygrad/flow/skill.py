r"""Skill: how much better a model answers than the best answer that ignores the input.

With the errors :math:`E` of the model's answers, and :math:`E_0` those of the constant answer that
suits the same targets best, the skill is

.. math:: S = 1 - E / E_0.

Of squared errors that constant is the mean of each output's targets, and :math:`E_0` their
variance: S is the coefficient of determination. Of classes it is their frequencies, and
:math:`E_0` their entropy. A constant that is fitted to n targets suits them better than others:
variances are divided by n - 1, and entropies of K classes get :math:`(K - 1) / 2n` nats more
(Miller 1955). Zero says that the input has not been made use of; below zero a constant is better.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steadygrad.flow.quantity import Quantity, declare

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "skill",
            "1",
            "Share of the loss of the best constant answer that a model's own answers avoid.",
        )
    ),
)

Of = Literal["values", "distances", "two classes", "classes"]
FEWEST = 16  # targets, from which their spread or frequencies say something
RARE = 0.1  # share of targets whose class came once: above it the frequencies are not known
VARIED = 1e-6  # a spread of the targets relative to their size, below which they are one constant


@final
@dataclass(frozen=True)
class Tally:
    """What one batch adds to the skill of a training.

    Attributes:
        of: Kind of the targets.
        error: Sum of the squared errors, or of the cross-entropies in nats.
        count: ``(F,)``: targets of each output; of classes ``(K,)``: how often each came.
        total: ``(F,)``: sum of the targets of each output, of distances that of the outputs; of
            classes empty.
        squares: ``(F,)``: sum of the squares of the same.
    """

    of: Of
    error: float
    count: NDArray[np.float64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]


@final
@dataclass(frozen=True)
class Skill:
    """How a model answers, beside a constant.

    Attributes:
        value: :math:`S`.
        error: Mean error of the model's answers.
        constant: Mean error of the best constant.
        targets: That were compared.
        of: Kind of the targets.
    """

    value: float
    error: float
    constant: float
    targets: int
    of: Of


@torch.no_grad()
def tally_of_values(outputs: Tensor, targets: Tensor, is_read: Tensor) -> Tally | None:
    """Count squared errors: ``(N, ...)``, the last axis being that of the outputs of one answer.

    Returns:
        None where each answer is read at one of several outputs, as the values of actions are:
        what the others should have been is not known.
    """
    wide = (-1, outputs.shape[-1]) if outputs.dim() > 1 else (-1, 1)
    o, y, read = outputs.reshape(wide), targets.reshape(wide), is_read.reshape(wide)
    of_row = read.sum(1)
    if o.shape[1] > 1 and bool((of_row <= 1).all()):
        return None
    y = torch.where(read, y, 0)
    error = float(torch.where(read, o - y, 0).square().sum())
    sums = (read.sum(0), y.sum(0), y.square().sum(0))
    return Tally("values", error, *(_plain(s) for s in sums))


@torch.no_grad()
def tally_of_distances(squares: float, outputs: Tensor, is_read: Tensor) -> Tally | None:
    """Count errors of which the targets are not known, by what the outputs could explain at most.

    Of answers that have come to rest what is left does not go along with the outputs, so that the
    targets vary as both together do.

    Args:
        squares: Sum of the squared errors, or a lower bound of it.
        outputs: As of `tally_of_values`.
        is_read: The same.
    """
    tally = tally_of_values(outputs, outputs, is_read)
    return None if tally is None else replace(tally, of="distances", error=squares)


@torch.no_grad()
def tally_of_two(error: Tensor, classes: Tensor, weight: Tensor) -> Tally | None:
    """Count answers yes or no, each output by itself.

    Args:
        error: Cross-entropies, weighted.
        classes: Zeros and ones.
        weight: Of each in the loss, 1 on average; 0 where nothing is read.
    """
    wide = (-1, classes.shape[-1]) if classes.dim() > 1 else (-1, 1)
    y, weight = classes.reshape(wide), weight.reshape(wide)
    if y.shape[1] > 1 and bool(((weight != 0).sum(1) <= 1).all()):
        return None
    yes = (weight * y).sum(0)
    return Tally("two classes", float(error.sum()), _plain(weight.sum(0)), _plain(yes), _plain(yes))


@torch.no_grad()
def tally_of_classes(error: Tensor, places: Tensor, weight: Tensor, classes: int) -> Tally:
    """Count answers by class.

    Args:
        error: Cross-entropies ``(N,)``, weighted.
        places: The classes that were wanted ``(N,)``.
        weight: Of each in the loss, 1 on average.
        classes: That there are.
    """
    empty, count = np.zeros(0), torch.bincount(places, weight, minlength=classes)
    return Tally("classes", float(error.sum()), _plain(count), empty, empty)


def skill(tallies: Sequence[Tally]) -> Skill | None:
    """Skill over several batches, whose targets are put together.

    Returns:
        None where it cannot be told: of few targets, of targets that do not vary, of classes most
        of which came once, and of batches that do not go together.
    """
    if not tallies or len({(t.of, t.count.shape) for t in tallies}) > 1:
        return None
    of, error = tallies[0].of, math.fsum(t.error for t in tallies)
    count, total, squares = (
        np.sum([getattr(t, name) for t in tallies], 0) for name in ("count", "total", "squares")
    )
    targets = float(count.sum())
    if targets < FEWEST or not math.isfinite(error):
        return None
    if of == "values":
        constant = _variance(count, total, squares)
    elif of == "distances":
        constant = error + (_variance(count, total, squares) or 0.0)
    elif of == "two classes":
        constant = _entropy_of_two(count, total)
    else:
        constant = _entropy(count)
    if constant is None or not math.isfinite(constant):
        return None
    return Skill(1 - error / constant, error / targets, constant / targets, int(targets), of)


def _variance(
    count: NDArray[np.float64], total: NDArray[np.float64], squares: NDArray[np.float64]
) -> float | None:
    able = count > 1
    count, total, squares = count[able], total[able], squares[able]
    around = np.maximum(squares - total**2 / np.maximum(count, 1), 0)
    if not around.sum() > VARIED**2 * squares.sum():
        return None
    return float((around * count / (count - 1)).sum())


def _entropy_of_two(count: NDArray[np.float64], yes: NDArray[np.float64]) -> float | None:
    able = (yes > 0) & (yes < count)
    if not able.any():
        return None
    n, p = count[able], yes[able] / count[able]
    return float((-n * (p * np.log(p) + (1 - p) * np.log1p(-p)) + 0.5).sum())


def _entropy(count: NDArray[np.float64]) -> float | None:
    n, met = count.sum(), count[count > 0]
    if len(met) < 2 or (count == 1).sum() > RARE * n:
        return None
    return float(-(met * np.log(met / n)).sum() + (len(met) - 1) / 2)


def _plain(values: Tensor) -> NDArray[np.float64]:
    return values.double().cpu().numpy()
