"""``steadygrad explain RUN`` tells how a run ended, not only that it ended."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from steadygrad.cli import main
from steadygrad.record import Record

KEPT = {"plan": ["nonfinite"], "choice": {"kept": "nonfinite", "why": "better", "forks": [{}]}}
RESCUE = {
    "number": 1,
    "cause": "nonfinite",
    "diverged_at": 3,
    "why": "the loss was NaN",
    "back_to": 1,
    "remedy": "nonfinite",
    "undo": "rescue-1.safetensors",
}


def recorded(path: Path, losses: Sequence[float]) -> Path:
    with Record.create(path, config={"rollbacks": 3}) as record:
        for step, loss in enumerate(losses):
            record.scalars(10 * step, {"val_loss": loss})
        record.note("repair", KEPT)
        record.note("rollbacks", [RESCUE])
        record.event(10 * len(losses), "finished", "40 steps are done")
    return path


@pytest.mark.parametrize(
    ("losses", "says", "held"),
    [
        ([1.0, 0.5, 0.25], "From 1 at the start to 0.25 at the end", True),
        ([1.0, 0.5, 4.0], "It ended no better than it began", True),
        ([1.0, 0.5, math.nan, math.inf], "Not finite from step 20 to the end; the lowest", False),
        ([math.nan, math.nan], "Not finite from step 0 to the end; none was ever", False),
    ],
)
def test_a_run_that_ends_in_nan_has_not_held(
    losses: list[float],
    says: str,
    held: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", str(recorded(tmp_path / "run.db", losses))]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert says in told
    assert ("It held to the end" in told) is held
    assert ("It did not hold: the long training failed" in told) is not held
