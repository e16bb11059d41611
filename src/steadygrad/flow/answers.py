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
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy

from steadygrad.flow.quantity import Quantity, declare

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "answers",
            "as the output",
            "Size and spread over the batch of a model's outputs and of its targets.",
        )
    ),
)

Loss = Literal["squared", "all-pairs", "cross-entropy", "binary", "binary-logits"]
MOST = 2**22  # values of an output: of more, finding out would cost too much of a look
FEWEST = 4  # answers, of which a spread is taken
CLOSE = 1e-3  # relative: what float32 leaves of sums of many squares


@final
@dataclass(frozen=True)
class Answers:
    """Outputs of one batch, and its targets as far as the loss gives them away.

    Attributes:
        loss: ``"squared"``, or ``"all-pairs"`` where every output is held to every target;
            ``"cross-entropy"`` of classes; of two classes ``"binary"``, or ``"binary-logits"``
            where it takes raw scores.
        rows: Answers in the batch.
        output_size: Root mean square of the outputs.
        target_size: The same of the targets; of classes 1.
        gap: The same of outputs less targets; of classes nan.
        output_spread: Standard deviation over the rows, in the mean of all outputs; of classes, of
            their probabilities.
        target_spread: The same of the targets.
        head: Name of the function between raw scores and the loss, in the model or behind it, if
            it is one that losses are given by mistake (``"softmax"``, ``"sigmoid"``); else "".
    """

    loss: Loss
    rows: int
    output_size: float
    target_size: float
    gap: float
    output_spread: float
    target_spread: float
    head: str = ""


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
        "squared", len(o), _size(o), _size(y), _size(y - o), _spread(o), _spread(y), head
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


def _classes(o: Tensor, g: Tensor, loss: float, head: str) -> Answers | None:
    for axis in {o.dim() - 1, 1} if o.dim() > 1 else ():
        rows, back = (t.movedim(axis, -1).reshape(-1, o.shape[axis]) for t in (o, g))
        is_read = back.any(1)
        rows, back = rows[is_read], back[is_read]
        if rows.shape[1] < 2:
            continue
        chances = rows.softmax(-1)
        wanted = chances - back * len(rows)
        places = wanted.argmax(-1)
        onehot = nn.functional.one_hot(places, rows.shape[1]).to(wanted)
        if not bool((wanted - onehot).abs().max() < CLOSE):
            if not 2 < rows.shape[1] ** 2 * len(rows) <= MOST:
                continue
            # A softmax behind the model: the gradient is known up to the class, so try each.
            given, chances = chances, chances.softmax(-1)
            each = (chances[:, None] - torch.eye(rows.shape[1]).to(rows)) / len(rows)
            at_rows = given[:, None] * (each - (given[:, None] * each).sum(-1, keepdim=True))
            off, places = (at_rows - back[:, None]).abs().amax(-1).min(-1)
            if not bool(off.max() < CLOSE * back.abs().max()):
                continue
            head, onehot = "softmax", nn.functional.one_hot(places, rows.shape[1]).to(rows)
        told = float(-chances.gather(1, places[:, None]).log().mean())
        if math.isclose(told, loss, rel_tol=CLOSE):
            return Answers(
                "cross-entropy",
                len(rows),
                _size(rows),
                1.0,
                math.nan,
                _spread(chances),
                _spread(onehot),
                head,
            )
    return None


def _binary(o: Tensor, g: Tensor, loss: float, head: str) -> Answers | None:
    is_read = g != 0
    o, g = o[is_read], g[is_read]
    once = o.sigmoid()
    ways: list[tuple[Loss, str, Tensor, Tensor | float]] = [
        ("binary-logits", head, once, 1.0),
        ("binary-logits", "sigmoid", once.sigmoid(), once * (1 - once)),
    ]
    if bool(((o > 0) & (o < 1)).all()):
        ways.append(("binary", head, o, 1 / (o * (1 - o))))
    for name, before, chances, slope in ways:
        for count in {len(o), 1}:
            y = chances - g * count / slope
            classes = y.round().clamp(0, 1)
            if bool((y - classes).abs().max() > 10 * CLOSE):
                continue
            told = float(binary_cross_entropy(chances, classes)) * len(o) / count
            if math.isclose(told, loss, rel_tol=CLOSE):
                return Answers(
                    name,
                    len(o),
                    _size(o),
                    1.0,
                    math.nan,
                    _spread(chances),
                    _spread(classes),
                    before,
                )
    return None


def _size(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _spread(values: Tensor) -> float:
    flat = values.reshape(len(values), -1)
    return float(flat.std(0, correction=0).mean())
