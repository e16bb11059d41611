"""Clips in the wrong place: before backward, on scaled gradients, mid-accumulation, or twice."""

import warnings
import weakref
from dataclasses import asdict, dataclass, field
from typing import Any, Self, final

import torch
from torch import Tensor

from steadygrad.diagnosis import clip_calls
from steadygrad.diagnosis.clip_calls import ClipCall

FAULTS = {
    "before-backward": (
        "no backward pass has run since the last optimizer step, so this clip bounds nothing that "
        "a step uses; clip after loss.backward() and before optimizer.step()"
    ),
    "scaled": (
        "the gradients are still multiplied by the gradient scaler's factor, so the bound is that "
        "many times too small; call scaler.unscale_(optimizer) first"
    ),
    "mid-accumulation": (
        "another backward pass added to the gradient that this call had clipped, so the bound "
        "does not hold for the sum; clip once, after the last backward pass and before the step"
    ),
    "twice": (
        "the gradient had been clipped already{where}, and not changed since; keep one of the two"
    ),
}


class MisplacedClipWarning(UserWarning):
    """A clip was found in the wrong place."""


@final
@dataclass(frozen=True)
class MisplacedClip:
    """One clip in the wrong place.

    Attributes:
        fault: ``"before-backward"``, ``"scaled"``, ``"mid-accumulation"`` or ``"twice"``.
        site: File, line and function of the call that clips.
        step: Optimiser step in which it was first seen, counted from one since the check began.
        text: In plain words, and what to do.
    """

    fault: str
    site: str
    step: int
    text: str

    def to_record(self) -> dict[str, Any]:
        """The finding as plain values."""
        return asdict(self)


@dataclass
class _Mark:
    """How a gradient looked when it had been clipped."""

    grad: weakref.ref[Tensor]
    version: int
    call: ClipCall = field(repr=False)


@final
class ClipCheck:
    """Looks out for misplaced clips while a training runs; made by `clip_check`.

    Attributes:
        found: What was found so far, each place once.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, warn: bool = True) -> None:
        self.found: list[MisplacedClip] = []
        self._optimizer, self._warn = optimizer, warn
        self._parameters = [p for g in optimizer.param_groups for p in g["params"]]
        self._ids = {id(p) for p in self._parameters}
        # FSDP2 writes .grad itself: no hook tells that a backward pass was there.
        self._sees_backward = not any(hasattr(p, "to_local") for p in self._parameters)
        self._marks: dict[int, _Mark] = {}
        self._is_scaled = self._is_loss_scaled = False
        self._accumulated, self._step = 0, 1
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        self._handles = [
            p.register_post_accumulate_grad_hook(self._on_accumulated)
            for p in self._parameters
            if p.requires_grad
        ]
        self._handles.append(self._optimizer.register_step_post_hook(self._on_step))
        clip_calls.listen(self)
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop looking; idempotent."""
        if self._handles:
            clip_calls.stop(self)
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def clips(self, call: ClipCall) -> None:
        """Look at the gradients before a clip: are there any, and were they clipped before?"""
        own = self._own(call)
        # Now, not afterwards: torch's clip by value fails where there are no gradients.
        if own and self._is_before_backward():
            self._report("before-backward", call)
        for parameter in own:
            mark = self._marks.get(id(parameter))
            if mark is None or parameter.grad is None or mark.call.kind != call.kind:
                continue
            if _is(parameter.grad, mark, changes=0):
                self._report("twice", call, earlier=mark.call)

    def clipped(self, call: ClipCall) -> None:
        """Judge a clip that was done; only now, since a remedy may unscale first."""
        own = self._own(call)
        if own and self._is_scaled and not self._is_before_backward():
            self._report("scaled", call)
        for parameter in own:
            if parameter.grad is not None:
                mark = _Mark(weakref.ref(parameter.grad), parameter.grad._version, call)
                self._marks[id(parameter)] = mark

    def loss_scaled(self, is_scaled: bool) -> None:
        """Note that losses are multiplied from now on, or no more."""
        self._is_loss_scaled = is_scaled

    def unscaled(self, optimizer: object) -> None:
        """Note that gradients are what they should be."""
        if optimizer is self._optimizer:
            self._is_scaled = False

    def _is_before_backward(self) -> bool:
        return self._accumulated == 0 and self._sees_backward

    def _own(self, call: ClipCall) -> list[Tensor]:
        return [p for p in call.parameters if id(p) in self._ids]

    def _on_accumulated(self, parameter: Tensor) -> None:
        self._accumulated += 1
        self._is_scaled = self._is_loss_scaled
        mark = self._marks.pop(id(parameter), None)
        # Adding to the gradient is one change. One more, and it was set to zero in between.
        if mark and parameter.grad is not None and _is(parameter.grad, mark, changes=1):
            self._report("mid-accumulation", mark.call)

    def _on_step(self, *_: Any) -> None:
        self._marks.clear()
        self._accumulated, self._is_scaled = 0, False
        self._step += 1

    def _report(self, fault: str, call: ClipCall, earlier: ClipCall | None = None) -> None:
        if any((f.fault, f.site) == (fault, call.site) for f in self.found):
            return
        where = "" if earlier is None or earlier.site == call.site else f" at {earlier.site}"
        text = f"clip by {call.kind} at {call.site}: " + FAULTS[fault].replace("{where}", where)
        self.found.append(MisplacedClip(fault, call.site, self._step, text))
        if self._warn:
            warnings.warn(text, MisplacedClipWarning, stacklevel=2)


def clip_check(optimizer: torch.optim.Optimizer, warn: bool = True) -> ClipCheck:
    """Look out for clips in the wrong place; a context manager around the training loop.

    Calls of torch's clips, of our remedies and of `Watch.clip_` are seen, and what gradient
    scalers do. Found are clips before the backward pass (or after the step), on gradients that
    are still scaled, in the middle of accumulation, and two of one kind one after the other. A clip
    of some other kind than one's own making is not seen.

    Args:
        optimizer: Clips of its parameters are judged; those of other parameters are not.
        warn: Whether to warn, once a place, as soon as something is found.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
        >>> with clip_check(optimizer, warn=False) as check:
        ...     for _ in range(2):
        ...         loss = model(torch.ones(3, 2)).sum()
        ...         optimizer.zero_grad()
        ...         _ = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        ...         loss.backward()
        ...         optimizer.step()
        >>> [finding.fault for finding in check.found]
        ['before-backward']
    """
    return ClipCheck(optimizer, warn)


def _is(grad: Tensor, mark: _Mark, changes: int) -> bool:
    """Whether this is the gradient that was marked, changed so many times since."""
    return mark.grad() is grad and grad._version == mark.version + changes
