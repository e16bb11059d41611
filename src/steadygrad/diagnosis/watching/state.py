"""What a watch knows of its training as of now, and what of that goes into the record."""

from collections import deque
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from steadygrad.diagnosis.candidates import Register
from steadygrad.diagnosis.causes import causes
from steadygrad.diagnosis.lag import to_record
from steadygrad.diagnosis.prescribe import Prescriber
from steadygrad.diagnosis.recording import describe
from steadygrad.diagnosis.standing import rate_in_doubt
from steadygrad.diagnosis.trial import Batch
from steadygrad.diagnosis.watching.options import Options
from steadygrad.diagnosis.watching.saved import UNSEEN
from steadygrad.diagnosis.watching.sinks import Sinks
from steadygrad.faults import NOT_JUDGED, Finding, History, Unjudged, known, verdict, worst_first
from steadygrad.flow.quantity import to_record as quantities_noted
from steadygrad.flow.through_depth import DepthCurve
from steadygrad.flow.through_time import TimeFlow
from steadygrad.loggers import Logger
from steadygrad.record import Record

HISTORY = 512  # sampled steps that rules on the training as a whole look back on


class Seen:
    """All that has been seen; the parts of a watch write here, and nowhere else.

    Attributes:
        step: Training steps so far.
        flow: Per layer the last exact measurement.
        depth: Of a model without recurrence, what reached its layers last.
        layers: What is noted of each layer, as of the last measurement.
        latest: Last numbers.
        broken: The first step that was not finite.
        register: The other findings.
        prescriber: Of remedies for them.
        history: Of norms, updates and losses.
        weight_norm: Norm of the weights when the training began.
        withheld: What findings that were held back at the last look leave open.
        gaps: What was not measured of what a verdict needs, as of the last look.
        aged: What the last look no longer says, as the weights have moved since.
        undecided: Faults that the training so far does not rule out.
        standing: That the loss stands where a constant answer would, if it does.
        record: The user's, if one was given.
        sinks: What all of it is written to.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        record: Record | None,
        options: Options,
        loggers: Iterable[Logger] = (),
    ) -> None:
        self.options, self.record, self.step = options, record, options.start_step
        self.sinks = Sinks(record, loggers)
        self.flow: dict[str, TimeFlow] = {}
        self.depth: DepthCurve | None = None
        self.layers: list[dict[str, Any]] = []
        self.latest: dict[str, Any] = {"verdict": NOT_JUDGED}
        self.broken: Finding | None = None
        self.prescriber = Prescriber(model, options.names)
        self.register = Register(self.prescriber, self.sinks)
        self.withheld: list[Unjudged] = []
        self.gaps: list[Unjudged] = list(UNSEEN)
        self.aged: list[Unjudged] = []
        self.undecided: list[Unjudged] = []
        self.standing: Unjudged | None = None
        self.weight_norm = 0.0
        self.was_measured = False  # before an interruption, whose flow is not kept
        kept = [deque[float](maxlen=HISTORY) for _ in range(3)]
        self.history = History(
            *kept,
            optimizer=type(optimizer).__name__,
            planned=options.steps,
            changes=deque(maxlen=HISTORY),
        )

    @property
    def findings(self) -> list[Finding]:
        """As of the last look, worst first; a non-finite step stays."""
        broken = [self.broken] if self.broken else []
        return worst_first(broken + self.register.findings)

    @property
    def verdict(self) -> str:
        """The worst fault; without one ``"healthy"``, or ``"not judged"``."""
        return verdict(self.findings, self.unjudged)

    @property
    def has_stood(self) -> bool:
        """Whether the loss was seen to stand where a constant answer would, and has not left."""
        return self.standing is not None

    @property
    def unjudged(self) -> list[Unjudged]:
        """What was not measured of what a verdict needs, or is not judged yet."""
        told = [*self.gaps, *self.withheld, *self.aged, *self.undecided]
        # A fault explains why the loss stands.
        return told if self.standing is None or self.findings else [*told, self.standing]

    @property
    def is_measured(self) -> bool:
        """Whether the gradient was measured, through time or in depth."""
        return bool(self.flow or self.depth or self.was_measured)

    def find(
        self, found: Iterable[Finding], is_look: bool = True, batch: Batch | None = None
    ) -> None:
        """Take the findings of a new look, causes without their consequences.

        Args:
            found: What was recognised.
            is_look: Whether a gradient was measured; else what was is judged again, by how the
                training has gone on.
            batch: What was caught at this look, for remedies to be tried on.
        """
        thresholds, register = self.options.thresholds, self.register
        found = list(found)
        if is_look:
            register.see(found)
        reported = causes(
            found, register.found, self.history, thresholds, register.passing, self.step
        )
        self.withheld = reported.unjudged
        register.update(reported.findings, self.step, batch)

    def add(self, found: Iterable[Finding]) -> None:
        """Take further findings between two looks; those of the last look stand."""
        register = self.register
        found = [*register.findings, *found]
        reported = causes(
            found, register.found, self.history, self.options.thresholds, (), self.step
        )
        # What stands was weighed when it was found.
        kept = [register.found.get(f.key, f) for f in reported.findings]
        register.update(kept, self.step)

    def see_undecided(self) -> None:
        """Take up which faults cannot be ruled out as of now."""
        history, limits = self.history, self.options.thresholds
        each = [u for fault in known().values() for u in fault.undecided(history, limits)]
        doubt = rate_in_doubt(history, limits)
        self.undecided = each if doubt is None else [*each, doubt]

    def settle(self) -> None:
        """Let the latest verdict be what follows from the findings."""
        self.latest["verdict"] = self.verdict

    def rewind(self, step: int) -> None:
        """Forget what was found after an earlier step."""
        self.step, self.broken, self.was_measured = step, None, False
        self.flow, self.depth = {}, None  # of weights that are no more
        self.withheld, self.gaps, self.aged, self.standing = [], list(UNSEEN), [], None
        self.undecided = []
        self.register.forget()
        self.history.forget()

    def scalars(self, values: dict[str, float]) -> None:
        """Take numbers of this step."""
        self.latest |= values
        self.sinks.scalars(self.step, values)

    def write_notes(self, share: float) -> None:
        """Write what holds of the run as a whole, ``share`` of its time spent on watching."""
        notes = {
            "verdict": self.verdict,
            "not_judged": [gap.to_record() for gap in self.unjudged],
            **to_record(self.options.lag),
            "optimizer": self.history.optimizer,
            "quantities": quantities_noted(),
            "thresholds": vars(self.options.thresholds),
            "watch_share_of_time": round(share, 4),
        }
        if self.flow:
            self.layers = [describe(flow) for flow in self.flow.values()]
        if self.layers:  # kept in the checkpoint: what the record holds may be lost
            notes["layers"] = self.layers
        for name, value in notes.items():
            self.sinks.note(name, value)
