"""Determine the lag of a run: given, known by its task, or estimated from its data."""

import time

from steadygrad.diagnosis.lag import Lag
from steadygrad.ranks import Ranks
from steadygrad.tasks import Task, estimate_lag
from steadygrad.train.config import TrainConfig
from steadygrad.train.events import Listener, Prepared


def lag_of(config: TrainConfig, task: Task, ranks: Ranks, tell: Listener) -> Lag:
    """Return the given lag, otherwise that of the task, otherwise an estimate (takes seconds).

    The estimate is deterministic, so that a resumed run has the same.

    Args:
        config: Its ``lag`` decides.
        task: Its training part is used.
        ranks: Rank 0 estimates.
        tell: Called before and after an estimate.
    """
    if config.lag == "none":
        return None
    if isinstance(config.lag, int):
        return config.lag
    if task.required_lag is not None:
        return task.required_lag
    return ranks.from_rank(_estimated(task, tell) if ranks.is_first else None)


def _estimated(task: Task, tell: Listener) -> Lag:
    tell(Prepared("no --lag given: estimating it from the training data"))
    began = time.perf_counter()
    estimate = estimate_lag(task)
    tell(Prepared(f"{estimate.text}; took {time.perf_counter() - began:.1f} s"))
    return estimate
