"""One step of a two-dimensional recurrence: Graves's LSTM, and Leifert's stable and leaky cells."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, sigmoid, tanh

Pre = tuple[Tensor, ...]
"""Pre-activations, one per gate."""


@dataclass(frozen=True)
class MDCell:
    """Gates, and the new (h, c) from their pre-activations and the memories above and left."""

    gates: tuple[str, ...]
    step: Callable[[Pre, Tensor, Tensor], tuple[Tensor, Tensor]]
    forget: tuple[str, ...]
    """Gates whose bias decides how far the memory reaches, for the forget bias."""


def _lstm(pre: Pre, up: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    i, fy, fx, g, o = pre
    c = sigmoid(i) * tanh(g) + sigmoid(fy) * up + sigmoid(fx) * left
    return sigmoid(o) * tanh(c), c


def _mixed(gate: Tensor, up: Tensor, left: Tensor) -> Tensor:
    share = sigmoid(gate)
    return share * up + (1 - share) * left


def _stable(pre: Pre, up: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    i, f, mix, g, o = pre
    c = sigmoid(i) * tanh(g) + sigmoid(f) * _mixed(mix, up, left)
    return sigmoid(o) * tanh(c), c


def _leaky(pre: Pre, up: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    f, mix, g, o = pre
    keep = sigmoid(f)
    c = (1 - keep) * tanh(g) + keep * _mixed(mix, up, left)
    return sigmoid(o) * c, c


def _leaky_lp(pre: Pre, up: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    f, mix, g, now, before = pre
    keep, old = sigmoid(f), _mixed(mix, up, left)
    c = (1 - keep) * tanh(g) + keep * old
    return tanh(sigmoid(now) * c + sigmoid(before) * old), c


MD_CELLS: dict[str, MDCell] = {
    "lstm": MDCell(
        ("input", "forget_y", "forget_x", "candidate", "output"), _lstm, ("forget_y", "forget_x")
    ),
    "stable": MDCell(("input", "forget", "mix", "candidate", "output"), _stable, ("forget",)),
    "leaky": MDCell(("forget", "mix", "candidate", "output"), _leaky, ("forget",)),
    "leaky-lp": MDCell(
        ("forget", "mix", "candidate", "output", "output_before"), _leaky_lp, ("forget",)
    ),
}
"""Every two-dimensional cell by name."""
