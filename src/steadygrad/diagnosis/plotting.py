"""Measurements on matplotlib's axes, if matplotlib is installed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from steadygrad.flow import TimeFlow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLES = ("-", "--", ":", "-.")
"""Layers differ by dashes besides colour."""


def new_axes(count: int = 1) -> Any:
    """Make axes beside one another.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError(
            "plot() needs matplotlib; install it with pip install matplotlib"
        ) from None
    _, axes = pyplot.subplots(1, count, figsize=(6.4 * count, 3.6), layout="constrained")
    return axes


def plot_flow(
    axes: "Axes", flows: Mapping[str, TimeFlow], lag: int | None, threshold: float
) -> None:
    """Draw what is left of the gradient by steps back, a line for each layer.

    Args:
        axes: To draw on.
        flows: Measurements by layer; those whose gradient enters nowhere are left out.
        lag: Steps back that the task needs, marked if known.
        threshold: Share below which the gradient counts as vanished, marked.
    """
    there = {name: flow for name, flow in flows.items() if flow.by_lag.max_lag > 0}
    for i, (name, flow) in enumerate(there.items()):
        ratio = np.asarray(flow.by_lag.log10_ratio, dtype=np.float64)
        shown = np.where(np.isfinite(ratio), ratio, np.nan)  # what is zero or NaN has no place
        axes.plot(np.arange(len(ratio)), shown, _STYLES[i % len(_STYLES)], label=name)
    axes.axhline(np.log10(threshold), color="0.4", linewidth=0.8, linestyle=(0, (4, 4)))
    if lag is not None:
        axes.axvline(lag, color="0.4", linewidth=0.8)
        axes.annotate(f"lag {lag}", (lag, 1), xycoords=("data", "axes fraction"), va="bottom")
    axes.set_xlabel("steps back")
    axes.set_ylabel("log10 of the gradient left")
    axes.invert_xaxis()
    if there:
        axes.legend()
