"""``train --repair``: try remedies in short runs before the long one."""

import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from steadygrad.diagnosis.forks import LEAST_SEEDS, Fork, Scored, choose
from steadygrad.diagnosis.repair import Repair, plan_of
from steadygrad.faults import Finding
from steadygrad.ranks import Ranks
from steadygrad.record import RecordError, read
from steadygrad.train.config import TrainConfig
from steadygrad.train.events import Outcome
from steadygrad.train.reloading import config_of
from steadygrad.train.run import train

LEAST_STEPS = 100


def fork_steps(config: TrainConfig) -> int:
    """Training steps of a short run: a tenth of the long one, at least 100."""
    return min(config.max_steps, max(LEAST_STEPS, config.max_steps // 10))


def repair_config(
    config: TrainConfig,
    *,
    dry_run: bool = False,
    seeds: int = LEAST_SEEDS,
    most: int = 4,
    tell: Callable[[Fork], None] = lambda fork: None,
) -> tuple[TrainConfig, Repair]:
    """Diagnose a short run; if it has a fault, try remedies in short runs, and keep one or none.

    Args:
        config: Options of the run.
        dry_run: Only diagnose; the plan lists what would be tried.
        seeds: Number of fresh seeds for the comparison.
        most: Most remedies to try.
        tell: Called after every short run.

    Returns:
        The options of the run, including the remedy that was kept, and the findings. If nothing is
        wrong, or nothing helps beyond noise, the options are unchanged.

    Raises:
        InputError: The file or the options cannot be used.
    """
    ranks = Ranks.everyone()  # only rank 0 has the records
    with tempfile.TemporaryDirectory(prefix="steadygrad-repair-") as folder:
        first = _run(config, Path(folder) / "look", None, config.seed)
        findings = tuple(
            Finding(**{**f, "remedies": tuple(f["remedies"]), "advice": tuple(f["advice"])})
            for f in first.findings
        )
        taken = {text.partition(":")[0].replace("_", "-") for text in config.remedies}
        plan = tuple(n for n in plan_of(findings, most + len(taken)) if n not in taken)[:most]
        if dry_run or not plan:
            return config, Repair(first.verdict, findings, plan, None)

        def score(name: str | None, seed: int) -> Scored:
            where = Path(folder) / f"{name or 'nothing'}-{seed}"
            outcome = _run(config, where, name, seed)
            return ranks.from_rank(final_score(outcome) if ranks.is_first else Scored(math.nan))

        first_seed = config.seed + 1
        choice = choose(plan, score, better="lower", seeds=seeds, first_seed=first_seed, tell=tell)
    result = Repair(first.verdict, findings, plan, choice)
    if choice.kept is None:
        return config, result
    return replace(config, remedies=(*config.remedies, choice.kept)), result


def resumed_config(config: TrainConfig, record: Path) -> TrainConfig:
    """The options of an interrupted run, with the remedies kept by its repair."""
    if not record.exists():
        return config
    with read(record) as run:
        return replace(config, remedies=config_of(run.config, record).remedies)


def _run(config: TrainConfig, out: Path, name: str | None, seed: int) -> Outcome:
    steps = fork_steps(config)
    # candidates are judged by their score alone
    is_look = name is None and seed == config.seed
    short = replace(
        config,
        out=out,
        seed=seed,
        max_steps=steps,
        validate_every=max(1, min(config.validate_every, steps // 4)),
        remedies=config.remedies if name is None else (*config.remedies, name),
        rollbacks=0,
        lag=config.lag if is_look else "none",
        resume=False,
        overwrite=True,
        checkpoint_every_seconds=1e9,
    )
    outcome = train(short)
    if outcome.status == "interrupted":  # short runs are not resumable: interrupt the whole command
        raise KeyboardInterrupt
    return outcome


def final_score(outcome: Outcome) -> Scored:
    """The validation loss at the end of a run; NaN if it diverged or ended non-finite.

    The run has learned if it ends below the loss before the first step.
    """
    failed = Scored(math.nan, has_learned=False)
    if outcome.status == "diverged":
        return failed
    try:
        with read(outcome.record) as run:
            losses = run.scalars("val_loss")[1]
    except RecordError:
        return failed
    later = losses[1:]  # the first loss is that of the untrained network
    ending = later[len(later) // 2 :]
    if not len(ending) or not np.isfinite(ending).all():
        return failed
    start, end = float(losses[0]), float(ending[-1])
    return Scored(end, has_learned=not math.isfinite(start) or end < start)
