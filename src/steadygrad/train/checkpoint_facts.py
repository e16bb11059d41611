"""The facts of a checkpoint, by name and type, against which they are checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steadygrad.diagnosis.watching.saved import WatchFacts
from steadygrad.errors import InputError
from steadygrad.plain import Misfit, fit
from steadygrad.train.progress import Progress
from steadygrad.train.rescue import Rescue


@dataclass(frozen=True)
class Facts:
    """Everything in a checkpoint but its tensors.

    Attributes:
        format: Of the checkpoint.
        config: The options that a resumed run must share.
        data: SHA-256 of the data.
        progress: Progress of the run.
        rescues: Rollbacks so far.
        losses: The latest training losses, to detect a loss that blows up.
        good: Facts of the state that a rollback restores; None if none was kept.
        record: Ends of the lists in the record.
        watch: State of the watch.
        outcome: Outcome of a completed run.
    """

    config: Mapping[str, Any]
    data: str
    progress: Progress
    rescues: tuple[Rescue, ...] = ()
    losses: tuple[float, ...] = ()
    good: Mapping[str, Any] | None = None
    record: Mapping[str, int] = field(default_factory=dict)
    watch: WatchFacts = WatchFacts()  # noqa: RUF009  # frozen
    outcome: Mapping[str, Any] | None = None
    format: str = ""


def facts_of(plain: Mapping[str, Any], where: str = "the checkpoint") -> Facts:
    """Read the facts of a checkpoint.

    Raises:
        InputError: They do not fit.
    """
    try:
        return fit(Facts, plain, "facts")
    except Misfit as error:
        raise InputError(
            f"{where}: does not hold the state of a run ({error}); start again with --overwrite"
        ) from None
