"""A run that is a `Trial`, as those of ``steadygrad bench`` are: what several papers share."""

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.papers.harness.config import Settings
from steadygrad.bench.trial import Trial, run_trial


def attempt(settings: Settings, seed: int) -> dict[str, Any]:
    """Do the trial of the table ``trial``; its texts may name other settings, ``{length}``.

    Returns:
        The task's figures on the test part; ``validation``, the best on the validation part of the
        figure that decides; ``updates``, ``solved``, ``parameters``, ``microseconds_per_step``;
        and before the first update ``log10_gradient``, what is left of the gradient at the required
        lag, ``horizon``, the steps back until 0.01 % is left, and ``exponent``, the leading
        Lyapunov exponent in nats per step; the same after the last update, their names ending in
        ``_trained``. NaN stands for what could not be measured.

    Raises:
        RuntimeError: The trial failed.
    """
    options: dict[str, Any] = {
        name: value.format_map(settings) if isinstance(value, str) else value
        for name, value in settings["trial"].items()
    }
    options["remedies"] = tuple(options.get("remedies", ()))
    found = run_trial(Trial(**options, seed=seed))
    if found["status"] == "failed":
        raise RuntimeError(found["text"])
    best = min if found["better"] == "lower" else max
    return (
        found["figures"]
        | {
            "validation": best(value for _, value in found["curve"]),
            "updates": found["updates"],
            "solved": found["status"] == "solved",
            "parameters": found["parameters"],
            "microseconds_per_step": _or_nan(found["microseconds_per_step"]),
        }
        | _flow(found["gradient"]["start"], "")
        | _flow(found["gradient"]["end"], "_trained")
    )


def _flow(measured: Mapping[str, Any] | None, when: str) -> dict[str, float]:
    """The gradient's figures; NaN where there are none."""
    names = {"log10_gradient": "log10_ratio", "horizon": "horizon", "exponent": "exponent"}
    values = {name: (measured or {}).get(source) for name, source in names.items()}
    return {f"{n}{when}": _or_nan(v) for n, v in values.items()}


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
