"""Every call that clips gradients or scales a loss, seen from outside while somebody listens."""

import functools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from steadygrad.remedies import Treatment

OURS = str(Path(__file__).parents[1])
TORCH = str(Path(torch.__file__).parent)


@final
@dataclass(frozen=True)
class ClipCall:
    """One call that clipped.

    Attributes:
        kind: ``"norm"``, ``"value"``, or the name of a remedy.
        parameters: Whose gradients.
        bound: As it was given; None if it is no number.
        site: File, line and function that called.
    """

    kind: str
    parameters: tuple[Tensor, ...]
    bound: float | None
    site: str


class Listener(Protocol):
    """Is told of clips and of gradient scalers, while it is in `LISTENERS`."""

    def clips(self, call: ClipCall) -> None:
        """A clip is about to be done."""

    def clipped(self, call: ClipCall) -> None:
        """It has been done."""

    def loss_scaled(self, is_scaled: bool) -> None:
        """Losses are scaled from now on, or no more."""

    def unscaled(self, optimizer: object) -> None:
        """The gradients of an optimiser have been unscaled."""


LISTENERS: list[Listener] = []
_ORIGINALS: dict[str, Any] = {}
_Function = Callable[..., Any]


def listen(listener: Listener) -> None:
    """Tell ``listener`` from now on; the first to come has the calls wrapped."""
    if not LISTENERS:
        _wrap_all()
    LISTENERS.append(listener)


def stop(listener: Listener) -> None:
    """Unsubscribe; the last subscriber restores the functions."""
    LISTENERS.remove(listener)
    if not LISTENERS:
        _unwrap_all()


def call_site() -> str:
    """File, line and function of the nearest caller outside torch and this library."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((OURS, TORCH)):
        frame = frame.f_back
    if frame is None:
        return "an unknown place"
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"


def _wrap_all() -> None:
    utils: Any = nn.utils
    wrapped = {
        utils.clip_grad_norm_: _clip(utils.clip_grad_norm_, "norm"),
        utils.clip_grad_value_: _clip(utils.clip_grad_value_, "value"),
        utils.clip_grads_with_norm_: _clip(utils.clip_grads_with_norm_, "norm"),
    }
    _ORIGINALS["functions"] = {new: old for old, new in wrapped.items()}
    _swap(wrapped)
    scaler, treat = torch.amp.GradScaler, Treatment.__call__
    methods = {(Treatment, "__call__"): _treat(treat)}
    methods |= {(scaler, n): wrap(getattr(scaler, n)) for n, wrap in _SCALER.items()}
    _ORIGINALS["methods"] = {(kind, name): kind.__dict__[name] for kind, name in methods}
    for (kind, name), new in methods.items():
        setattr(kind, name, new)


def _unwrap_all() -> None:
    _swap(_ORIGINALS.pop("functions"))
    for (kind, name), old in _ORIGINALS.pop("methods").items():
        setattr(kind, name, old)


def _swap(functions: dict[_Function, _Function]) -> None:
    """Replace functions wherever a module holds them, under whatever name."""
    # Also ``from torch.nn.utils import clip_grad_norm_`` is seen so. What a closure or a class
    # holds is not; the check still notices its effect, though not its place.
    by_id = {id(old): new for old, new in functions.items()}
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        for name, value in list(names.items()) if isinstance(names, dict) else ():
            if id(value) in by_id:
                names[name] = by_id[id(value)]  # pyright: ignore[reportOptionalSubscript]


def _clip(function: _Function, kind: str) -> _Function:
    @functools.wraps(function)
    def clip(parameters: Any, *args: Any, **options: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(parameters, *args, **options)
        given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        bound = args[0] if args else options.get("max_norm", options.get("clip_value"))
        if isinstance(bound, float) and bound == math.inf:  # that only measures
            return function(given, *args, **options)
        known = float(bound) if isinstance(bound, int | float) else None
        call = ClipCall(kind, tuple(given), known, call_site())
        # A generator that is used up is handed on as it is: torch warns of it.
        return _told(call, lambda: function(given or parameters, *args, **options))

    return clip


def _treat(method: _Function) -> _Function:
    @functools.wraps(method)
    def treat(self: Treatment) -> Any:
        if not self.remedy.is_clip:
            return method(self)
        call = ClipCall(self.remedy.clips or "", tuple(self.parameters), None, call_site())
        return _told(call, lambda: method(self))

    return treat


def _told(call: ClipCall, clip: Callable[[], Any]) -> Any:
    for listener in _listeners():
        listener.clips(call)
    result = clip()
    for listener in _listeners():
        listener.clipped(call)
    return result


def _scale(method: _Function) -> _Function:
    @functools.wraps(method)
    def scale(self: torch.amp.GradScaler, outputs: Any) -> Any:
        for listener in _listeners():
            listener.loss_scaled(self.is_enabled())
        return method(self, outputs)

    return scale


def _unscale(method: _Function) -> _Function:
    @functools.wraps(method)
    def unscale(self: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> Any:
        result = method(self, optimizer)
        for listener in _listeners():
            listener.unscaled(optimizer)
        return result

    return unscale


def _update(method: _Function) -> _Function:
    @functools.wraps(method)
    def update(self: torch.amp.GradScaler, *args: Any, **options: Any) -> Any:
        for listener in _listeners():
            listener.loss_scaled(False)
        return method(self, *args, **options)

    return update


_SCALER = {"scale": _scale, "unscale_": _unscale, "update": _update}


def _listeners() -> Iterator[Listener]:
    return iter(tuple(LISTENERS))
