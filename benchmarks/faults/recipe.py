"""What a run is made of: everything that decides its result, and nothing else."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

Half = Literal["calibration", "held-out", "fresh", "blind"]


@dataclass(frozen=True)
class Recipe:
    """One training without its seed; the defaults are those of a healthy one.

    Args:
        half: Whether thresholds were set on it, rules were mended on it, or none ever met it.
        task: Of `steadygrad.tasks`, as text.
        cell: Of `steadygrad.cells`, as text.
        kind: ``"healthy"``, or the name of the injected fault.
        variant: Dose of the fault, or name of the hard negative; ``"plain"`` for a bare twin.
        updates: Training steps at most; the training ends where it finds the task solved.
        rate: Learning rate.
        optimizer: ``"adam"`` or ``"sgd"``, with momentum 0.9.
        clip: Bound on the global norm of the gradient; 0 clips nothing.
        layers: Recurrent layers.
        gain: All singular values of every recurrent block.
        keep: Bias of the gate that keeps the memory, counted so that a larger one keeps more.
        shifted: Gate whose bias is shifted, in the layer ``where``.
        shift: By how much.
        share: Of the units, in which it is.
        where: The layer with a fault of its own: gain, keep and shift; -1 for all.
        truncate: Steps after which the gradient is cut; 0 for none.
        poison: What turns non-finite, at update ``poisoned_at``: ``input``, ``target``,
            ``weight``, ``state`` or nothing.
        poisoned_at: Update.
        padding: Mean share of padded steps; 0 pads nothing.
        pads_count: Whether padded steps take part in the loss.
        likelihood: ``"none"``, or ``"bounded"``: a Gaussian one whose scale has a lower bound.
        warm_up: Updates over which the rate grows.
        spike: Update at which one batch has targets a hundred times as large; 0 for none.
        noise: Share of training targets that are drawn anew.
        scale: Where a gradient scaler begins; 0 uses none.
        goes_on: Whether the training goes on after the task is solved.
        uniform: Whether weights start as torch draws them.
        twin: Task and cell of the twin, if they are not its own.
    """

    half: Half
    task: str
    cell: str
    kind: str = "healthy"
    variant: str = "plain"
    updates: int = 700
    rate: float = 0.005
    optimizer: Literal["adam", "sgd"] = "adam"
    clip: float = 1.0
    layers: int = 1
    gain: float = 1.0
    keep: float = 1.0
    shifted: str = ""
    shift: float = 0.0
    share: float = 1.0
    where: int = -1
    truncate: int = 0
    poison: Literal["", "input", "target", "weight", "state"] = ""
    poisoned_at: int = 0
    padding: float = 0.0
    pads_count: bool = False
    likelihood: Literal["none", "bounded"] = "none"
    warm_up: int = 0
    spike: int = 0
    noise: float = 0.0
    scale: float = 0.0
    goes_on: bool = False
    uniform: bool = False
    twin: str = ""

    @property
    def pair(self) -> str:
        """Task and cell of the twin."""
        return self.twin or f"{self.task} {self.cell}"

    @property
    def key(self) -> str:
        """A hash of all options."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def but(self, kind: str, variant: str, **changes: Any) -> Self:
        """The same with a few options changed, under another name."""
        return replace(self, kind=kind, variant=variant, twin=self.pair, **changes)
