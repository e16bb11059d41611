"""A run that is a `Trial`, as those of ``steadygrad bench`` are: what several papers share."""

from typing import Any

from benchmarks.papers.harness.config import Settings
from steadygrad.bench.trial import Trial, run_trial


def attempt(settings: Settings, seed: int) -> dict[str, Any]:
    """Do the trial of the table ``trial``; its texts may name other settings, ``{length}``.

    Returns:
        The task's figures on the test part, ``updates``, ``solved``, ``parameters``, and
        ``log10_gradient``: what is left of the gradient at the required lag before training.

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
    return found["figures"] | {
        "updates": found["updates"],
        "solved": found["status"] == "solved",
        "parameters": found["parameters"],
        "log10_gradient": found["gradient"]["start"]["log10_ratio"],
    }
