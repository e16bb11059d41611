"""Data-dependent scaling: scale recurrent weights until a step preserves lengths on real data."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.flow import recurrent_layers, singular_values
from steadygrad.nn.arrangement import time_axis
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.call_hooks import at_calls
from steadygrad.remedies.demonstration import Demonstration, example, loss_of, seeded
from steadygrad.remedies.recurrences import Recurrence, recurrences
from steadygrad.remedies.unsuitable import no_layer_to_see, no_recurrence

SCALES = [2.0**k for k in range(-6, 7)]
STEPS, TOLERANCE = 30, 4e-5
"""At most so many steps to the scale; near enough to the target, relative to it."""


@final
@dataclass(frozen=True)
class JacobianScale(Remedy):
    r"""Scale each recurrent matrix so that the step Jacobian preserves lengths on average.

    .. math::
        R \leftarrow a R \quad\text{so that}\quad \operatorname{mean}_{t, b, i}
        \sigma_i\!\left( \frac{\partial s_t}{\partial s_{t-1}} \right) = \text{target}

    on the batch of the first training call, within that call, layer by layer. It is the analogue of
    LSUV for a recurrence: the slope of the nonlinearity on this data is measured and compensated.
    Directions are unchanged. If no scale reaches the target, the nearest is used, with a warning.

    Args:
        target: Mean singular value.
        steps: Number of leading time steps of the batch that are used.
        rows: Number of leading sequences of the batch that are used.

    References:
        Mishkin and Matas, *All You Need Is a Good Init*, 2016, algorithm 1 (unit variance per
        layer, by data; here the quantity is the Jacobian's).
        Pennington, Schoenholz and Ganguli, *Resurrecting the Sigmoid in Deep Learning through
        Dynamical Isometry*, 2017.
    """

    name: ClassVar[str] = "jacobian-scale"
    claim: ClassVar[str] = (
        "On the first training batch the step Jacobian's mean singular value becomes target"
    )
    helps: ClassVar[tuple[str, ...]] = ("vanishing", "exploding")
    needs_whole_batch: ClassVar[bool] = True
    other: ClassVar[Mapping[str, Any]] = {"target": 0.9, "steps": 2, "rows": 1}

    target: float = 1.0
    steps: int = 30
    rows: int = 8

    def __post_init__(self) -> None:
        self.expect("target", 0 < self.target < float("inf"), "a finite number above 0")
        for option in ("steps", "rows"):
            self.expect(option, getattr(self, option) >= 1, "a whole number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_recurrence(model) or no_layer_to_see(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        for path, layer in recurrent_layers(model):
            for one in recurrences(layer):
                applied.keep(one.parameter("weight_hh"))
            at_calls(path, layer, applied, {0: 1}, self.steps, partial(rescale, self, path))
            applied.note(f"{path}: recurrent blocks of the layer scaled in its first training call")

    @seeded
    def demonstrate(self) -> Demonstration:
        model, x = example(self)

        def mean() -> float:
            """The mean singular value of the step Jacobian."""
            with torch.no_grad():
                return singular_values(model.rnn, x).mean().item()

        before = mean()
        self.apply(model)
        loss_of(model, x)  # the first training batch
        after = mean()
        text = f"mean singular value of the step Jacobian {before:.3f} to {after:.3f}"
        return Demonstration(text, abs(after / self.target - 1) < 0.01)


@torch.no_grad()
def rescale(
    remedy: JacobianScale, path: str, layer: nn.Module, x: Tensor, _: int = 1
) -> list[float]:
    """Scale every recurrent matrix of ``layer``, the lowest first; return the scales."""
    rows = slice(remedy.rows)
    if x.dim() == 3:
        x = x[rows] if time_axis(layer, x) else x[:, rows]
    scales = []
    for one in recurrences(layer):
        weight = one.parameter("weight_hh")
        start = weight.detach().clone()

        def mean(scale: float, one: Recurrence = one, start: Tensor = start) -> float:
            one.parameter("weight_hh").copy_(scale * start)
            number, _, reverse = one.suffix.removeprefix("_l").partition("_")
            found = singular_values(layer, x, index=int(number), reverse=bool(reverse))
            return found.mean().item()

        scale, reached = _solve(mean, remedy.target)
        weight.copy_(scale * start)
        if abs(reached - remedy.target) > 0.01 * remedy.target:
            warnings.warn(
                f"{remedy.spec}: no scale of {path}.{one.label} brings the mean singular value to "
                f"{remedy.target:g}; {reached:.3g} is the nearest, at {scale:g} times its weights",
                stacklevel=2,
            )
        scales.append(scale)
    return scales


def _solve(mean: Callable[[float], float], target: float) -> tuple[float, float]:
    """The scale nearest to one at which ``mean`` is ``target``, or nearest to it."""
    values: dict[float, float] = {}

    def lack(scale: float) -> float:
        if scale not in values:
            values[scale] = mean(scale) - target
        return values[scale]

    # From one outwards: most networks need less than a factor of two, and a mean is dear.
    for low in sorted(SCALES[:-1], key=lambda scale: abs(math.log2(scale) + 0.5)):
        if lack(low) * lack(2 * low) <= 0:
            scale = _crossing(lack, low, 2 * low, target)
            if math.isfinite(lack(scale)):
                return scale, lack(scale) + target
            break
    if not all(map(math.isfinite, values.values())):  # no scaling repairs a weight that is not
        return 1.0, math.nan
    best = min(values, key=lambda scale: abs(values[scale]))
    return best, values[best] + target


def _crossing(lack: Callable[[float], float], low: float, high: float, target: float) -> float:
    """Where ``lack`` is zero between two scales at which its sign differs.

    The Illinois form of false position, in log scale: about five values where `lack` is smooth. An
    end that stays twice in a row counts half, so that both ends close in.
    """
    below, above = lack(low), lack(high)
    scale, moved = low, ""
    for _ in range(STEPS):
        # Half way where an end is not finite, or both are zero.
        share = below / (below - above) if 0 < abs(below - above) < math.inf else 0.5
        scale = low * (high / low) ** share
        value = lack(scale)
        if abs(value) <= TOLERANCE * target:
            break
        if value * below > 0:
            low, below = scale, value
            above = above / 2 if moved == "low" else above
            moved = "low"
        else:
            high, above = scale, value
            below = below / 2 if moved == "high" else below
            moved = "high"
    return scale
