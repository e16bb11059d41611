"""Real files, default options: each run ends well and beats every naive answer on the test part."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from steadygrad.train import Outcome, TrainConfig, train

DATA = os.environ.get("STEADYGRAD_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="STEADYGRAD_DATA does not name a folder of data")


@dataclass(frozen=True)
class Case:
    """A file below the data folder, and what is asked of it."""

    file: str
    target: str | None = None
    horizon: int | None = None


CASES = [
    Case("ett/ETTh1.csv", "OT", 24),
    Case("beijing_pm25/pollution.csv", "pm2.5"),
    Case("small_series/monthly-sunspots.csv"),
    Case("tinyshakespeare/input.txt"),
]


def end_of(config: TrainConfig) -> Outcome:
    if not config.file.exists():
        pytest.skip(f"{config.file} is not there")
    outcome = train(config)
    assert outcome.status == "finished" and outcome.beats_naive, outcome.scores
    return outcome


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.file)
def test_defaults_beat_every_naive_answer(case: Case, tmp_path: Path) -> None:
    file = Path(DATA or "") / case.file
    config = TrainConfig(file, target=case.target, horizon=case.horizon, out=tmp_path)
    outcome = end_of(config)
    # By every figure, not by the deciding one alone.
    for ours in (s for s in outcome.scores if s.ours):
        rivals = [s for s in outcome.scores if not s.ours and s.unit == ours.unit]
        assert rivals and all(ours.beats(s) for s in rivals)


@pytest.mark.slow
def test_a_fable_is_learnt_by_heart(tmp_path: Path) -> None:
    file = Path(DATA or "") / "belling_the_cat/belling_the_cat.txt"
    outcome = end_of(TrainConfig(file, symbol="word", out=tmp_path, max_steps=600))
    assert any("measures memorisation" in note for note in outcome.notes)
    (accuracy,) = [s.value for s in outcome.scores if s.ours and "accuracy" in s.unit]
    assert accuracy >= 0.99
