"""Repeat a training from several seeds, to show how much its score varies."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

from steadygrad.record import Record
from steadygrad.train.config import TrainConfig
from steadygrad.train.events import Outcome
from steadygrad.train.folder import Folder


@dataclass(frozen=True)
class Spread:
    """Scores of several seeds, by the figure that decides.

    Args:
        unit: Unit of the figure.
        seeds: The seeds.
        values: The score of each.
        rival: The best of the other answers.
        rival_value: Its score.
        beaten: Number of seeds that were better.
    """

    unit: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    rival: str
    rival_value: float
    beaten: int

    @classmethod
    def of(cls, seeds: list[int], outcomes: list[Outcome]) -> "Spread":
        """Collect the first figure of each outcome."""
        ours = [next(s for s in o.scores if s.ours) for o in outcomes]
        unit, better = ours[0].unit, ours[0].better
        others = [s for s in outcomes[0].scores if not s.ours and s.unit == unit]
        pick = min if better == "lower" else max
        rival = pick(others, key=lambda s: s.value)
        beaten = sum(score.beats(rival) for score in ours)
        values = tuple(score.value for score in ours)
        return cls(unit, tuple(seeds), values, rival.name, rival.value, beaten)

    @property
    def text(self) -> str:
        """One sentence."""
        spread = f", standard deviation {stdev(self.values):.2g}" if len(self.values) > 1 else ""
        return (
            f"over {len(self.values)} seeds: {self.unit} {min(self.values):.4g} to"
            f" {max(self.values):.4g} (mean {mean(self.values):.4g}{spread}); {self.beaten} of"
            f" {len(self.values)} are better than {self.rival} ({self.rival_value:.4g})"
        )


def train_seeds(
    config: TrainConfig,
    first: Outcome,
    seeds: int,
    run: Callable[[TrainConfig], Outcome],
) -> Outcome | Spread:
    """Train again from the next seeds, each in a subfolder of the first run's.

    Args:
        config: Options of the first run.
        first: Its outcome.
        seeds: Number of seeds, including the first.
        run: Trains one run.

    Returns:
        The spread, which is noted in the first run's record; or the outcome of a run that was
        interrupted or diverged.
    """
    outcomes, numbers = [first], [config.seed]
    for seed in range(config.seed + 1, config.seed + seeds):
        out = config.folder / f"seed-{seed}"
        is_there = Folder(out).checkpoint.exists()
        own = replace(config, seed=seed, out=out, resume=config.resume and is_there)
        outcome = run(own)
        if not outcome.scores or outcome.status != "finished":
            return outcome
        outcomes.append(outcome)
        numbers.append(seed)
    spread = Spread.of(numbers, outcomes)
    _note(first.record, spread)
    return spread


def _note(record: Path, spread: Spread) -> None:
    with Record.open(record) as opened:
        opened.note("seeds", {"text": spread.text, **vars(spread)})
