"""Where to put the bound of a clip by norm, from the norms that were observed."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from steadygrad.errors import check_count
from steadygrad.record import Run, read

SPIKE = 5.0  # robust deviations of the log norm from which a step is a spike
TO_SIGMA = 1.4826  # a median absolute deviation times this is a normal standard deviation


@runtime_checkable
class HasNorms(Protocol):
    """What keeps the norms it saw: a `Watch`."""

    @property
    def norms(self) -> Iterable[float]:
        """Global gradient norms before clipping."""
        ...


@final
@dataclass(frozen=True)
class ClipRule:
    """One rule, what it says, and what that would have done.

    Attributes:
        name: Of the rule.
        threshold: The bound it gives.
        clipped: Share of the observed steps that the bound would have clipped.
        why: The rule in words, and where it comes from.
    """

    name: str
    threshold: float
    clipped: float
    why: str


@final
@dataclass(frozen=True)
class ClipAdvice:
    """What the observed norms say about the bound of a clip.

    Attributes:
        steps: Norms that were counted: finite, and above zero.
        nonfinite: Norms that were NaN or infinite; no bound helps against these.
        median, largest: Of the norms counted.
        rules: In order; the first is the one advised.
    """

    steps: int
    nonfinite: int
    median: float
    largest: float
    rules: tuple[ClipRule, ...]

    @property
    def threshold(self) -> float:
        """The bound advised: that of the first rule."""
        return self.rules[0].threshold

    @property
    def remedy(self) -> str:
        """The bound as `steadygrad.remedies.parse` reads it."""
        return f"clip-norm:max_norm={self.threshold:.3g}"

    def to_record(self) -> dict[str, Any]:
        """The advice as plain values."""
        return asdict(self) | {"threshold": self.threshold, "remedy": self.remedy}

    def __str__(self) -> str:
        lines = [
            f"{self.steps} norms: median {self.median:.3g}, largest {self.largest:.3g} "
            f"({self.largest / self.median:.3g} times the median), {self.nonfinite} not finite",
            f"advised: {self.remedy}",
        ]
        for rule in self.rules:
            share = f"{100 * rule.clipped:.1f} %"
            lines.append(f"  {rule.name:<14} {rule.threshold:>9.3g}  clips {share:>7}  {rule.why}")
        return "\n".join(lines)


def clip_advice(
    norms: Iterable[float] | HasNorms | Run | str | Path, skip_first: int = 0
) -> ClipAdvice:
    r"""Say where to put the bound of a clip by global norm.

    The rules, of the log norms where nothing else is said:

    - ``spikes``: :math:`\exp(m + 5 \cdot 1.48 \operatorname{MAD})`, with the median m and the
      median absolute deviation, which the spikes themselves do not move: ordinary steps pass
      as they are. This one is advised.
    - ``log-sigma``: :math:`\exp(\mu + 4\sigma)` (PyTorch issue 12189).
    - ``percentile-90``: clips the longest tenth.
    - ``mean``: the mean norm; Pascanu et al. (2013) found half to ten times of it to work.
    - ``percentile-10``: AutoClip's choice (Seetharaman et al. 2020): nearly every step is clipped,
      and their lengths become alike.

    Args:
        norms: Global norms before clipping, one a step: numbers, a `Watch`, or the record of a
            run (its ``grad_norm``), open or as a path.
        skip_first: Norms to leave out at the beginning, where they are not yet typical.

    Raises:
        ValueError: Fewer than two norms are finite and above zero.

    Example:
        >>> clip_advice([1.0, 1.1, 0.9, 1.0, 1.2, 40.0]).remedy
        'clip-norm:max_norm=1.82'
    """
    check_count("skip_first", skip_first, 0)
    values = _values(norms)[skip_first:]
    good = values[np.isfinite(values) & (values > 0)]
    if len(good) < 2:
        raise ValueError(
            f"clip_advice needs two norms that are finite and above 0, got {len(good)} "
            f"of {len(values)}"
        )
    log = np.log(good)
    middle = float(np.median(log))
    spread = TO_SIGMA * float(np.median(np.abs(log - middle)))
    bounds = {
        "spikes": (math.exp(middle + SPIKE * spread), "median + 5 robust deviations of log norms"),
        "log-sigma": (math.exp(log.mean() + 4 * log.std()), "mean + 4 deviations of log norms"),
        "percentile-90": (float(np.percentile(good, 90)), "the longest tenth"),
        "mean": (float(good.mean()), "the mean norm; half to ten times of it (Pascanu 2013)"),
        "percentile-10": (float(np.percentile(good, 10)), "AutoClip's percentile"),
    }
    rules = tuple(
        ClipRule(name, bound, share_clipped(good, bound), why)
        for name, (bound, why) in bounds.items()
    )
    nonfinite = int((~np.isfinite(values)).sum())
    return ClipAdvice(len(good), nonfinite, math.exp(middle), float(good.max()), rules)


def share_clipped(norms: Iterable[float] | NDArray[np.float64], max_norm: float) -> float:
    """Return the share of ``norms`` that a bound would have clipped."""
    values = np.asarray(list(norms), dtype=np.float64)
    return float((values > max_norm).mean()) if len(values) else math.nan


def _values(norms: Iterable[float] | HasNorms | Run | str | Path) -> NDArray[np.float64]:
    if isinstance(norms, str | Path):
        with read(norms) as run:
            return run.scalars("grad_norm")[1]
    if isinstance(norms, Run):
        return norms.scalars("grad_norm")[1]
    found = norms.norms if isinstance(norms, HasNorms) else norms
    return np.asarray([float(norm) for norm in found], dtype=np.float64)
