"""What a watch is asked for."""

from dataclasses import dataclass, field

from steadygrad.diagnosis.lag import Lag, steps_of
from steadygrad.errors import check_count
from steadygrad.faults import Thresholds
from steadygrad.remedies import Names


@dataclass(frozen=True)
class Options:
    """Options of `steadygrad.watch`, by the names and with the meaning that they have there.

    Attributes:
        names: What model and optimiser are called in the reader's program.
    """

    lag: Lag
    budget: float
    start_step: int
    rows: int
    thresholds: Thresholds
    input_probe: bool
    check_clips: bool
    exponents: int
    every: int | None
    steps: int | None
    names: Names = field(default_factory=Names)

    def __post_init__(self) -> None:
        steps_of(self.lag)  # refuses what is no lag
        for name in ("every", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(
                    f"{name} counts training steps and must be at least 1, got {value}"
                )
        check_count("rows", self.rows)
        check_count("exponents", self.exponents, 0)
        check_count("start_step", self.start_step, 0)
