"""The record as seen by the training loop; only rank 0 has one."""

from collections.abc import Mapping
from typing import Any, final

from steadygrad.record import Record


@final
class Journal:
    """Writes into a record, or nowhere on other ranks.

    Args:
        record: The record; None in every process but the first.
    """

    def __init__(self, record: Record | None) -> None:
        self.record = record

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """As `Record.scalars`."""
        if self.record is not None:
            self.record.scalars(step, values)

    def event(self, step: int, kind: str, text: str, **data: Any) -> None:
        """As `Record.event`."""
        if self.record is not None:
            self.record.event(step, kind, text, **data)

    def note(self, key: str, value: Any) -> None:
        """As `Record.note`."""
        if self.record is not None:
            self.record.note(key, value)

    def mark(self) -> Mapping[str, int]:
        """As `Record.mark`."""
        return {} if self.record is None else self.record.mark()

    def truncate(self, step: int) -> None:
        """As `Record.truncate`."""
        if self.record is not None:
            self.record.truncate(step)

    def commit(self) -> None:
        """As `Record.commit`."""
        if self.record is not None:
            self.record.commit()
