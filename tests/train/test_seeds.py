"""Several seeds: each run is that of its seed alone, and the record of the first tells of all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steadygrad.record import read
from steadygrad.train import TrainConfig, train
from steadygrad.train.seeds import Spread, train_seeds


def test_the_spread_is_that_of_the_runs_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    y = np.sin(np.arange(200) / 3)
    file.write_text("y\n" + "\n".join(f"{v:.4f}" for v in y) + "\n")
    config = TrainConfig(
        file,
        window=6,
        horizon=2,
        hidden=4,
        max_steps=2,
        validate_every=2,
        budget=0.0,
        lag="none",
        threads=1,
        out=tmp_path / "run",
    )
    first = train(config)
    spread = train_seeds(config, first, 2, train)
    assert isinstance(spread, Spread) and spread.seeds == (0, 1)
    alone = train(replace(config, seed=1, out=tmp_path / "alone"))
    assert spread.values == (first.scores[0].value, alone.scores[0].value)
    assert spread.values[0] != spread.values[1]
    with read(first.record) as run:
        assert run.notes["seeds"]["text"] == spread.text
    resumed = train_seeds(replace(config, resume=True), first, 2, train)
    assert isinstance(resumed, Spread)
    assert resumed.values == pytest.approx(spread.values)
