"""Not judged: what could not be measured, why, and what to do about it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

HEALTHY = "healthy"
NOT_JUDGED = "not judged"


@final
@dataclass(frozen=True)
class Unjudged:
    """One thing that a verdict needs and that was not measured.

    Without a fault the verdict is ``"not judged"`` then, and never ``"healthy"``.

    Attributes:
        what: What was not judged: a fault, or a layer.
        why: The reason, as a clause.
        remedy: What to do so that it can be judged, as an order.
    """

    what: str
    why: str
    remedy: str

    @property
    def text(self) -> str:
        """All three as one sentence."""
        return f"{self.what} was not judged: {self.why}. To judge it: {self.remedy}."

    def to_record(self) -> Mapping[str, Any]:
        """As plain values, with the sentence."""
        return asdict(self) | {"text": self.text}
