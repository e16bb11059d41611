"""What the rules may read of one direction of one layer, and what several of them share."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import numpy as np

from steadygrad.faults.base import Fault
from steadygrad.faults.finding import Finding, confidence
from steadygrad.faults.thresholds import Thresholds

if TYPE_CHECKING:
    from steadygrad.flow.by_lag import LagCurve
    from steadygrad.flow.through_time import TimeFlow

LEAP = 2.0  # decades in one step: no recurrent matrix does that
KEPT_FOR = 10  # times the lag: a gate that keeps its state for longer than that writes nothing


@final
@dataclass(frozen=True)
class LayerCase:
    """The exact gradient in one direction of one layer, and what it is held to.

    Attributes:
        flow: What was measured.
        lag: Steps back that the task needs; None if unknown, and then nothing has vanished.
        limits: The thresholds.
        need: The words before the lag: who says it.
        keeping: Name of the gate that keeps the state, and the sign with which it does.
    """

    flow: "TimeFlow"
    lag: int | None
    limits: Thresholds
    need: str = "the lag given is"
    keeping: tuple[str, int] | None = None

    @property
    def reach(self) -> int:
        """Steps back that the backward pass of one call spans."""
        return min(self.flow.truncate or self.flow.time_steps, self.flow.time_steps) - 1

    @property
    def is_cut(self) -> bool:
        """Whether the backward pass ends before the lag."""
        # One call per step, by hand, says nothing of how far the loop around it goes.
        is_one_step = self.flow.time_steps < 2 and self.flow.severed is None
        return (
            self.lag is not None
            and self.reach < self.lag
            and not (is_one_step or self.flow.goes_on)
        )

    @property
    def is_cut_by_layer(self) -> bool:
        """Whether that is the layer's own doing: nothing beyond it is another fault then."""
        return self.is_cut and bool(self.flow.truncate)

    @cached_property
    def kept(self) -> float | None:
        """log10 of what is left at the required lag, all the way; None if not to be judged.

        Of a stack the lowest layer alone is judged: which of them keeps the memory is no matter.
        """
        way = self.flow.left
        if self.lag is None or self.is_cut_by_layer or not self.flow.is_lowest:
            return None
        return float(way.kept(self.lag)) if _is_number(way) else None

    @cached_property
    def peak(self) -> tuple[int, float] | None:
        """The lag at which the gradient has grown most, and by how much, as log10.

        Growth is told from the top of the stack: a low layer's own lag 0 may be next to nothing,
        where the gradient fades in depth. None if it is not to be judged.
        """
        curve = self.flow.by_lag if self.flow.from_top is None else self.flow.from_top
        if self.is_cut_by_layer or not _is_number(curve):
            return None
        ratio = curve.log10_ratio
        at = int(np.argmax(ratio))
        return at, float(ratio[at] - max(ratio[0], 0.0))

    @property
    def leaps(self) -> float:
        """log10 of what single steps add to the peak, each a hundredfold or more."""
        if self.peak is None:
            return 0.0
        curve = self.flow.by_lag if self.flow.from_top is None else self.flow.from_top
        growth = np.diff(curve.log10_ratio[: self.peak[0] + 1])
        return float(growth[growth >= LEAP].sum())

    @property
    def explodes(self) -> bool:
        """Whether the gradient grows beyond the threshold in the backward pass."""
        return self.peak is not None and self.peak[1] > math.log10(self.limits.exploding)

    @property
    def is_exact(self) -> bool:
        """Whether the gradient was measured exactly, not from a sample."""
        return not self.flow.exactness.startswith("statistical")

    @property
    def has_vanished(self) -> bool:
        """Whether less than the threshold is left at a lag that the task needs."""
        low = math.log10(self.limits.vanishing)
        return self.kept is not None and self.kept < low and not self.explodes

    @property
    def how(self) -> dict[str, str]:
        """How the measurement was made, for the evidence."""
        return {"how": self.flow.how, "exactness": self.flow.exactness}

    @property
    def travel(self) -> dict[str, Any]:
        """The numbers of the backward pass, for the evidence."""
        curve = self.flow.left
        return {
            "horizon": curve.horizon(math.log10(self.limits.vanishing)),
            "slope_decades_per_step": curve.slope,
            "loss_enters": "at one step" if curve.mode == "total" else "at many steps",
            "sources": curve.sources,
            **self.how,
        }

    def shut_gates(self) -> Iterator[str]:
        """Gates most of whose units are shut for good, and not by design."""
        for gate, health in self.flow.gates.items():
            if health.shut_share >= self.limits.dead_share and not self._is_by_design(gate):
                yield gate

    def _is_by_design(self, gate: str) -> bool:
        """Whether a gate that is stuck at a value is no fault, or is the vanishing itself."""
        if self.keeping is None or self.keeping[0] != gate:
            return False
        value = float(self.flow.gates[gate].mean_value.mean())
        keeps = value > 0.5 if self.keeping[1] > 0 else value < 0.5
        # An LSTM writes through another gate; where one gate does both, next to nothing is written
        # any more, which is what a memory of the lag that the task needs comes to.
        writes_elsewhere = gate == "forget" and "input" in self.flow.gates
        written = 1 - value if self.keeping[1] > 0 else value
        suits = self.lag is not None and written * KEPT_FOR * self.lag >= 1
        return (keeps and (writes_elsewhere or suits)) or (self.has_vanished and not keeps)

    def shut_units(self, fault: Fault, is_relu: bool, what: str) -> Iterator[Finding]:
        """Findings on gates whose units are shut: of rectified ones, or of the others."""
        for gate in self.shut_gates():
            health = self.flow.gates[gate]
            if (health.activation == "relu") != is_relu:
                continue
            share = health.shut_share
            does = (
                "only switch between their two extremes, where their slope is zero"
                if health.is_moving
                else what
            )
            yield fault.finding(
                self.flow.name,
                f"{share:.0%} of the units of the {gate} gate of {self.flow.name} {does}: they "
                "pass on no gradient and cannot be trained.",
                gate=gate,
                evidence={
                    "shut_share": share,
                    "dead_share": health.dead_share,
                    "threshold": self.limits.dead_share,
                    "activation": health.activation,
                    "mean_value": float(health.mean_value.mean()),
                    "units": health.shut_units[:32],
                    **self.how,
                },
                confidence=confidence(share / self.limits.dead_share - 1),
            )


def _is_number(curve: "LagCurve") -> bool:
    """Whether a backward pass was measured, without a NaN."""
    return curve.max_lag >= 1 and not np.isnan(curve.log10_ratio).any()


def times(log10: float) -> str:
    """Write a power of ten so that it survives any size."""
    if math.isnan(log10):
        return "not a number"
    if math.isinf(log10):
        return "nothing" if log10 < 0 else "infinitely many"
    if abs(log10) < 6:
        return f"{10**log10:.2g}"
    exponent = math.floor(log10)
    return f"{10 ** (log10 - exponent):.1f}e{exponent:+d}"
