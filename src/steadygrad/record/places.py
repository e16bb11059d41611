"""Find records: a run may be given by its record or by its folder."""

from pathlib import Path

from steadygrad.record.errors import RecordError
from steadygrad.record.ownership import kind_of

RUN = "run.db"
"""The record in the folder of a training."""
CHECKPOINT = "checkpoint.safetensors"
"""The state of a training, in its folder, to resume or fork it."""
PAIR = ("before.db", "after.db")
"""The records in the folder of a demo."""
GRID = "results.db"
"""The table of finished runs in the folder of a grid."""


def record_of(run: Path) -> Path:
    """The record of a run given by its record or its folder."""
    return run / RUN if run.is_dir() else run


def records_of(named: Path) -> list[Path]:
    """The records in a file or folder: that of one run, or those before and after a repair.

    Raises:
        RecordError: The folder holds neither.
    """
    if not named.is_dir():
        return [named]
    if (named / RUN).exists():
        return [named / RUN]
    pair = [named / name for name in PAIR if (named / name).exists()]
    if pair:
        return pair
    others = sorted(p.name for p in named.glob("*.db") if kind_of(p) == "record")
    hint = f"it holds {', '.join(others[:5])}; name the files" if others else "it holds no record"
    raise RecordError(f"{named}: not the folder of a run: it holds no {RUN}; {hint}")
