"""A long record stays small, keeps its extremes, and is the same after an interruption."""

import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steadygrad.record import Record, read, thinning


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinning, "RECENT", 64)
    monkeypatch.setattr(thinning, "STRETCHES", {"scalar": 16, "cells": 8, "note": 8})


def write(record: Record, steps: range) -> None:
    rng = np.random.default_rng(0)
    losses = rng.normal(size=3000)
    losses[[130, 555]] = 1e9, -1e9
    for step in steps:
        record.scalars(step, {"loss": math.nan if step in (131, 700) else losses[step]})
        if step % 7 == 0:
            record.scalars(step, {"val_loss": losses[step]})
            record.row(step, "log10_grad", "lstm", np.full(3, float(step)))
            record.note("layers", [{"slope": float(step)}])
        if step % 500 == 0:
            record.event(step, "epoch", "one more")


def content(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        tables = ("scalar", "cells", "note")
        rows = [db.execute(f"SELECT * FROM {t} ORDER BY 1, 2").fetchall() for t in tables]
        return [rows, db.execute("SELECT step, kind FROM event").fetchall()]


def test_a_long_record_is_bounded_and_keeps_what_stands_out(tmp_path: Path) -> None:
    sizes = []
    with Record.create(tmp_path / "run.db", config={}) as record:
        for start in range(0, 3000, 500):
            write(record, range(start, start + 500))
            record.commit()
            with read(tmp_path / "run.db") as run:
                sizes.append(len(run.steps("loss")))
    # The latest 64 to 128 steps, and of 16 to 32 stretches at most four values each.
    assert max(sizes) <= 128 + 32 * 4 and sizes[-1] < 1.5 * sizes[1]
    with read(tmp_path / "run.db") as run:
        steps, losses = run.scalars("loss")
        assert losses[steps == 130] == 1e9 and losses[steps == 555] == -1e9
        assert np.isnan(losses[np.isin(steps, (131, 700))]).sum() >= 1
        assert steps[0] == 0 and np.array_equal(steps[-64:], np.arange(2936, 3000))
        rows, _ = run.rows("log10_grad", "lstm")
        assert rows[0] == 0 and len(rows) <= 128 // 7 + 1 + 16
        assert len(run.events()) == 6  # events are kept
        assert run.notes["layers"] == [{"slope": 2996.0}]


@pytest.mark.parametrize("killed", [190, 320, 1000])
@pytest.mark.parametrize("back", [1, 40, 100])
def test_an_interrupted_record_ends_as_one_that_was_not(
    killed: int, back: int, tmp_path: Path
) -> None:
    with Record.create(tmp_path / "whole.db", config={}) as record:
        write(record, range(1500))
    with Record.create(tmp_path / "parts.db", config={}) as record:
        write(record, range(killed))
    with Record.open(tmp_path / "parts.db") as record:
        saved = killed - back  # of the last checkpoint
        record.truncate(saved - 1)
        write(record, range(saved, 1500))
    assert content(tmp_path / "parts.db") == content(tmp_path / "whole.db")


def test_a_short_record_is_left_alone(tmp_path: Path) -> None:
    with Record.create(tmp_path / "run.db", config={}) as record:
        write(record, range(128))
    with read(tmp_path / "run.db") as run:
        assert np.array_equal(run.steps("loss"), np.arange(128))
