"""The lag that a run is held to: given, known by its task, or estimated from its data."""

import time

from steadygrad.diagnosis.lag import Lag
from steadygrad.ranks import Ranks
from steadygrad.tasks import Task, estimate_lag
from steadygrad.train.config import TrainConfig
from steadygrad.train.events import Listener, Prepared


def lag_of(config: TrainConfig, task: Task, ranks: Ranks, tell: Listener) -> Lag:
    """Take what is given, or else what the task knows, or else estimate it, in seconds.

    The estimate is the same for the same data, so that a run that is resumed has the same again.

    Args:
        config: Its ``lag`` decides.
        task: Whose training part is looked at.
        ranks: Of several processes the first estimates.
        tell: Is told before and after an estimate.
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
