"""Clips that no step of the optimiser uses, or that bound gradients a scaler has multiplied."""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from steadygrad.diagnosis import clip_calls
from steadygrad.diagnosis.clip_calls import ClipCall
from steadygrad.diagnosis.watching.kept_gradients import is_there
from steadygrad.faults.loss_facts import LostClip, WhyLost

ROW = 3  # steps in a row after which a lost clip is told
CLEAN = 5  # steps whose clip counted, after which the hooks are taken off
PROBES = 3  # parameters at which it is seen that a backward pass begins anew
MEANT = 0.01  # a bound over the scale from which it was chosen for scaled gradients


@dataclass
class _Since:
    """What happened since the last step of the optimiser."""

    site: str = ""
    counts: bool = False  # a clip whose gradients are still there
    lost: WhyLost | None = None
    bound: float | None = None


@final
class LostClips:
    """Follows each clip of an optimiser's gradients to the step that should use it.

    A clip is lost if the backward pass that follows it begins without gradients: what was clipped
    is gone, or was never there. What is clipped before the last of several backward passes that
    add up is not lost. Nothing is hooked before the first clip, nor after `CLEAN` good steps.

    Args:
        optimizer: Whose gradients are clipped.
        parameters: Of it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor]) -> None:
        # Kept from outside by a list of listeners: nothing here may keep the model alive.
        self._optimizer = weakref.ref(optimizer)
        able = [p for p in parameters if p.requires_grad and p.is_leaf]
        # FSDP2 writes .grad itself: no hook tells that a backward pass was there.
        able = [] if any(hasattr(p, "to_local") for p in able) else able
        self._by_id = {id(p): weakref.ref(p) for p in able}
        self._handles: list[RemovableHandle] = []
        self._is_loss_scaled = self._is_scaled = False
        self._since, self._row, self._good = _Since(), 0, 0
        self._told: LostClip | None = None
        clip_calls.listen(self)
        # An optimiser that was freed takes no more steps, even if its watch was never closed.
        self._end = weakref.finalize(optimizer, _stop, self)
        self._end.atexit = False

    @property
    def fact(self) -> LostClip | None:
        """The clip that was lost for `ROW` steps in a row, if that is so."""
        return self._told

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to find out, for as long as nothing new is clipped."""
        return not self._handles or self._row >= ROW

    def close(self) -> None:
        """Stop looking; idempotent."""
        self._end()

    def clips(self, call: ClipCall) -> None:
        """Take a clip that is about to be done."""
        if self._good >= CLEAN:
            return
        given = {id(p) for p in call.parameters}
        own = [p for key in given & self._by_id.keys() if (p := self._by_id[key]()) is not None]
        since = self._since
        if own:
            self._watch(own)
            since.counts = True
        elif not given:
            since.lost = since.lost or "nothing"
        elif any(
            p is not None and id(p.grad) in given for p in (r() for r in self._by_id.values())
        ):
            since.lost = since.lost or "gradients"
        else:
            return
        since.site, since.bound = call.site, call.bound

    def clipped(self, call: ClipCall) -> None:
        """Judge a clip that was done: only now, since a remedy may unscale first."""
        if self._good < CLEAN and self._since.counts and self._is_scaled:
            self._since.lost = "scaled"

    def loss_scaled(self, is_scaled: bool) -> None:
        """Note that losses are multiplied from now on, or no more."""
        self._is_loss_scaled = is_scaled

    def unscaled(self, optimizer: object) -> None:
        """Note that gradients are what they should be."""
        if optimizer is self._optimizer():
            self._is_scaled = False

    def end_step(self, scale: float) -> bool:
        """Take the step whose gradients are ready; whether a lost clip is told from now on.

        Args:
            scale: What a gradient scaler has multiplied the gradients by.
        """
        since, self._since = self._since, _Since()
        self._is_scaled = False
        why = since.lost
        if why == "scaled" and (since.bound is None or since.bound >= MEANT * scale):
            why = None
        elif why != "scaled" and since.counts:
            why = None
        if why is None and not since.counts:
            return False  # nothing was clipped
        self._row = 0 if why is None else self._row + 1
        self._good = self._good + 1 if why is None else 0
        if self._good >= CLEAN:
            self._take_off()
        was, self._told = self._told, None
        if why is not None and self._row >= ROW:
            self._told = LostClip(why, self._row, since.site, scale if why == "scaled" else 1.0)
        return self._told is not None and was is None

    def _watch(self, own: list[Tensor]) -> None:
        """Hook the smallest of the parameters that are clipped."""
        if self._handles:
            return
        for parameter in sorted(own, key=lambda p: p.numel())[:PROBES]:
            see = partial(_see, weakref.ref(self), weakref.ref(parameter))
            self._handles.append(parameter.register_hook(see))

    def begins(self, parameter: Tensor) -> None:
        """Take a backward pass that is about to give a parameter its gradient."""
        self._is_scaled = self._is_loss_scaled
        since = self._since
        if since.counts and not is_there(parameter.grad):
            since.counts, since.lost = False, "cleared"

    def _take_off(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _see(
    watch: Callable[[], LostClips | None], parameter: Callable[[], Tensor | None], _: Tensor
) -> None:
    follows, held = watch(), parameter()
    if follows is not None and held is not None:
        follows.begins(held)


def _stop(watch: LostClips) -> None:
    clip_calls.stop(watch)
    watch._take_off()  # pyright: ignore[reportPrivateUsage]
