r"""Answers: what a model puts out, and what its loss asks of it, told from one gradient.

A squared error :math:`L = c \sum_i (o_i - y_i)^2` has the gradient :math:`2 c (o - y)` at the
output, so that :math:`c = |g|^2 / 4L` and :math:`y = o - g / 2c`. A cross-entropy of R rows has
:math:`(\mathrm{softmax}(o) - \mathrm{onehot}) / R`, one of two classes
:math:`(\sigma(o) - y) / R`.
Where a softmax or sigmoid stands between output and loss, its derivative is a further factor. If
every output is held to every target, :math:`L = c \sum_{ij} (o_i - y_j)^2`, the gradient at n
outputs is :math:`2 c n (o - \bar y)`: that of one target, under a loss larger by the spread of the
targets. All are recognised by their own arithmetic, or not at all: ``c`` has to be one of the usual
factors, and what is left of the softmax a one-hot row.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy

from steadygrad.flow.quantity import Quantity, declare
from steadygrad.flow.skill import (
    Tally,
    tally_of_classes,
    tally_of_distances,
    tally_of_two,
    tally_of_values,
)

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "answers",
            "as the output",
            "Size and spread over the batch of a model's outputs and of its targets.",
        )
    ),
)

Loss = Literal["squared", "all-pairs", "distance", "cross-entropy", "binary", "binary-logits"]
MOST = 2**22  # values of an output: of more, finding out would cost too much of a look
FEWEST = 4  # answers, of which a spread is taken
CLOSE = 1e-3  # relative: what float32 leaves of sums of many squares


@final
@dataclass(frozen=True)
class Answers:
    """Outputs of one batch, and its targets as far as the loss gives them away.

    Attributes:
        loss: ``"squared"``, or ``"all-pairs"`` where every output is held to every target;
            ``"distance"`` of absolute errors, large ones alone or all, which hide their targets;
            ``"cross-entropy"`` of classes; of two classes ``"binary"``, or ``"binary-logits"``
            where it takes raw scores.
        rows: Answers in the batch.
        output_size: Root mean square of the outputs.
        target_size: The same of the targets; of classes 1, of distances the least that it can be.
        gap: The same of outputs less targets; of distances the least that it can be; of classes
            nan.
        output_spread: Standard deviation over the rows, in the mean of all outputs; of classes, of
            their probabilities.
        target_spread: The same of the targets; of distances nan.
        head: Name of the function between raw scores and the loss, in the model or behind it, if
            it is one that losses are given by mistake (``"softmax"``, ``"sigmoid"``); else "".
        tally: What the batch adds to the skill of the training; None where that says nothing.
    """

    loss: Loss
    rows: int
    output_size: float
    target_size: float
    gap: float
    output_spread: float
    target_spread: float
    head: str = ""
    tally: Tally | None = None


@torch.no_grad()
def answers_of(output: Tensor, gradient: Tensor, loss: float, head: str = "") -> Answers | None:
    """Tell targets from the gradient of a loss at an output; None if the loss is not recognised."""
    if not math.isfinite(loss) or not loss > 0 or output.dim() < 1 or output.is_complex():
        return None
    if output.numel() > MOST:
        return None
    o, g = output.double(), gradient.double()
    if not bool(g.isfinite().all()) or not bool(g.any()):
        return None
    return (
        _classes(o, g, loss, head)
        or _binary(o, g, loss, head)
        or _squares(o, g, loss, head)
        or _all_pairs(o, g, loss, head)
        or _distances(o, g, loss, head)
    )


def _squares(o: Tensor, g: Tensor, loss: float, head: str) -> Answers | None:
    factor = float(g.square().sum()) / (4 * loss)
    count, read = o.numel(), int((g != 0).sum())
    usual = [1.0, *(1 / n for n in {count, read, o.shape[0]})]
    if not any(math.isclose(factor, c * half, rel_tol=CLOSE) for c in usual for half in (1, 0.5)):
        return None
    is_read = (g != 0).reshape(len(o), -1).any(1)
    o, g = o[is_read], g[is_read]
    y = o - g / (2 * factor)
    return Answers(
        "squared",
        len(o),
        _size(o),
        _size(y),
        _size(y - o),
        _spread(o),
        _spread(y),
        head,
        tally_of_values(o, y, g != 0),
    )


def _all_pairs(o: Tensor, g: Tensor, loss: float, head: str) -> Answers | None:
    """Outputs ``(n, 1)`` less targets ``(n,)`` are ``(n, n)``: a slip, and no error to torch."""
    n = len(o)
    if o.numel() != n or n < FEWEST:
        return None
    o, g = o.flatten(), g.flatten()
    spread = float(o.std(correction=0))
    if not spread > CLOSE * math.sqrt(loss):  # too little to tell a slope from
        return None
    slope = float(((o - o.mean()) * (g - g.mean())).mean()) / spread**2
    off = g - g.mean() - slope * (o - o.mean())
    if not slope > 0 or bool(off.abs().max() > CLOSE * slope * spread):
        return None
    mean = float(o.mean()) - float(g.mean()) / slope
    for whole in (2.0, 1.0):  # of (o - y)^2, or of half of it
        for factor in (1 / n**2, 1.0):  # a mean, or a sum
            if math.isclose(slope, whole * n * factor, rel_tol=CLOSE):
                per_pair = 2 * loss / (whole * factor * n**2)
                variance = per_pair - float((o - mean).square().mean())
                if variance > CLOSE * per_pair:
                    gap = math.sqrt(float((o - mean).square().mean()) + 2 * variance)
                    size = math.hypot(mean, math.sqrt(variance))
                    return Answers(
                        "all-pairs", n, _size(o), size, gap, spread, math.sqrt(variance), head
                    )
    return None


def _distances(o: Tensor, g: Tensor, loss: float, head: str) -> Answers | None:
    """Absolute errors, or Huber's with a bound of one: far targets all pull alike."""
    size, read = g.abs(), g != 0
    most, count = float(size.max()), int(read.sum())
    usual = {1.0, 1 / o.numel(), 1 / count, 1 / len(o)}
    factor = next((c for c in usual if math.isclose(most, c, rel_tol=CLOSE)), None)
    far = read & (size > (1 - CLOSE) * most)
    if factor is None or count < FEWEST or int(far.sum()) < 2:
        return None
    near = (size[read & ~far] / factor).square().sum()  # of these the distance is known
    if not bool((read & ~far).any()):
        squares = (loss / factor) ** 2 / count
    else:  # Huber's: half the square, and of far ones the distance less a half
        left = loss / factor - float(near) / 2
        if left < (0.5 - CLOSE) * int(far.sum()):
            return None
        squares = float(near) + (left + int(far.sum()) / 2) ** 2 / int(far.sum())
    rows = read.reshape(len(o), -1).any(1)
    nan, gap, own = math.nan, math.sqrt(float(squares) / count), _size(o[rows])
    tally = tally_of_distances(float(squares), o, read)
    return Answers(
        "distance",
        len(o[rows]),
        own,
        max(gap - own, 0.0),
        gap,
        _spread(o[rows]),
        nan,
        head,
        tally,
    )


def _classes(o: Tensor, g: Tensor, loss: float, head: str) -> Answers | None:
    for axis in {o.dim() - 1, 1} if o.dim() > 1 else ():
        rows, back = (t.movedim(axis, -1).reshape(-1, o.shape[axis]) for t in (o, g))
        weights = {1.0, 1 / len(rows), 1 / len(o)}
        is_read = back.any(1)
        rows, back = rows[is_read], back[is_read]
        if rows.shape[1] < 2:
            continue
        found = _of_scores(rows, back, loss, weights) or _of_logarithms(rows, back, loss)
        before = head
        if found is None:
            found, before = _behind_softmax(rows, back, loss), "softmax"
        if found is None:
            continue
        chances, places, each = found
        told = -chances.gather(1, places[:, None]).log().flatten()
        each = each / each.mean()
        onehot = nn.functional.one_hot(places, rows.shape[1]).to(rows)
        return Answers(
            "cross-entropy",
            len(rows),
            _size(rows),
            1.0,
            math.nan,
            _spread(chances),
            _spread(onehot),
            before,
            tally_of_classes(each * told, places, each, rows.shape[1]),
        )
    return None


Classes = tuple[Tensor, Tensor, Tensor]
"""Of each row the probabilities of all classes, the class that was wanted, and its weight."""


def _of_scores(
    rows: Tensor, back: Tensor, loss: float, weights: Collection[float]
) -> Classes | None:
    """Raw scores: all rows weigh the same, with smoothed labels or without, or as their class."""
    chances, logarithms = rows.softmax(-1), rows.log_softmax(-1)
    for weight in {1 / len(rows), *weights}:
        wanted = chances - back / weight
        places = wanted.argmax(-1)
        top = wanted.gather(1, places[:, None])
        others = wanted.scatter(1, places[:, None], math.nan)
        least = ((1 - top) / (rows.shape[1] - 1)).expand_as(others)
        off = (others - least).nan_to_num(0.0).abs().max()
        smooth = float(top.mean())
        if bool(off > CLOSE) or bool((top - smooth).abs().max() > CLOSE) or smooth < 0.5:
            continue
        if _is_told(-weight * float((wanted * logarithms).sum()), loss):
            return chances, places, torch.ones_like(top).flatten()
    places = back.argmin(-1)
    missing = 1 - chances.gather(1, places[:, None]).flatten()
    size = back.abs().sum(-1) / 2
    told = -logarithms.gather(1, places[:, None]).flatten()
    each = _weights(missing, size, places, told, loss)
    if each is None:
        return None
    onehot = nn.functional.one_hot(places, rows.shape[1]).to(rows)
    off = (back - each[:, None] * (chances - onehot)).abs().amax(-1)
    return None if bool((off > CLOSE * each).any()) else (chances, places, each)


def _of_logarithms(rows: Tensor, back: Tensor, loss: float) -> Classes | None:
    """Logarithms of probabilities, as `torch.nn.NLLLoss` takes them."""
    if bool((rows.logsumexp(-1).abs() > CLOSE).any()) or bool(((back != 0).sum(1) != 1).any()):
        return None
    places = back.abs().argmax(-1)
    size = -back.gather(1, places[:, None]).flatten()
    told = -rows.gather(1, places[:, None]).flatten()
    each = _weights(torch.ones_like(size), size, places, told, loss)
    return None if each is None else (rows.exp(), places, each)


def _behind_softmax(rows: Tensor, back: Tensor, loss: float) -> Classes | None:
    """A softmax behind the model: the gradient is known up to the class, so try each."""
    if not 2 < rows.shape[1] ** 2 * len(rows) <= MOST:
        return None
    given = rows.softmax(-1)
    chances = given.softmax(-1)
    each = (chances[:, None] - torch.eye(rows.shape[1]).to(rows)) / len(rows)
    at_rows = given[:, None] * (each - (given[:, None] * each).sum(-1, keepdim=True))
    off, places = (at_rows - back[:, None]).abs().amax(-1).min(-1)
    if not bool(off.max() < CLOSE * back.abs().max()):
        return None
    told = -chances.gather(1, places[:, None]).log().flatten()
    return (
        (chances, places, told.new_ones(len(told))) if _is_told(float(told.mean()), loss) else None
    )


def _weights(gap: Tensor, back: Tensor, places: Tensor, told: Tensor, loss: float) -> Tensor | None:
    """The weight of each row, if rows of one class weigh the same and the loss is made of them.

    Rows that weigh by themselves are those of a policy's gradient, and no answers to targets.

    Args:
        gap: What is missing of certainty; the gradient of a row whose weight is 1.
        back: Size of the gradient.
        places: Classes.
        told: Losses of the rows whose weight is 1.
        loss: Of all.
    """
    # By the least sure rows: what is left of a gradient next to certainty is rounding.
    most = torch.zeros(int(places.max()) + 1).to(gap)
    most = most.scatter_reduce(0, places, gap, "amax", include_self=False)[places]
    ratio = torch.where(gap >= 0.5 * most, back / gap, math.nan)
    known = ~ratio.isnan()
    mean = torch.zeros(int(places.max()) + 1).to(gap)
    mean = mean.scatter_reduce(0, places[known], ratio[known], "mean", include_self=False)
    each = mean[places]
    off = (back - each * gap).abs()
    if bool((off > 10 * CLOSE * each * gap + CLOSE**2 * each).any()):
        return None
    return each if _is_told(float((each * told).sum()), loss) else None


def _is_told(value: float, loss: float) -> bool:
    return math.isclose(value, loss, rel_tol=CLOSE)


def _binary(o: Tensor, g: Tensor, loss: float, head: str) -> Answers | None:
    shape, is_read = o.shape, g != 0
    o, g = o[is_read], g[is_read]
    once = o.sigmoid()
    ways: list[tuple[Loss, str, Tensor, Tensor | float]] = [
        ("binary-logits", head, once, 1.0),
        ("binary-logits", "sigmoid", once.sigmoid(), once * (1 - once)),
    ]
    if bool(((o > 0) & (o < 1)).all()):
        ways.append(("binary", head, o, 1 / (o * (1 - o))))
    for name, before, chances, slope in ways:
        classes = (g < 0).to(o)
        gap, told = (
            (chances - classes).abs() * slope,
            binary_cross_entropy(chances, classes, reduction="none"),
        )
        each = _weights(gap, g.abs(), classes.long(), told, loss)
        if each is None or not bool((each > 0).all()):
            continue
        each = each / each.mean()
        wanted, weight, error = (
            torch.zeros(shape).to(v).masked_scatter(is_read, v)
            for v in (classes, each, each * told)
        )
        return Answers(
            name,
            len(o),
            _size(o),
            1.0,
            math.nan,
            _spread(chances),
            _spread(classes),
            before,
            tally_of_two(error, wanted, weight),
        )
    return None


def _size(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _spread(values: Tensor) -> float:
    flat = values.reshape(len(values), -1)
    return float(flat.std(0, correction=0).mean())
