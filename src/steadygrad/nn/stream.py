"""A layer fed one sample at a time, its state held in between."""

from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from steadygrad.cells import State
from steadygrad.nn.checks import check_codes
from steadygrad.nn.layer_view import LayerView, twin_of, view
from steadygrad.nn.recurrent import Recurrent
from steadygrad.nn.step_engine import LearningSteps, Steps, steps_of
from steadygrad.scan import Layout, ScanCall, Weights, choose, is_codes, is_elementwise
from steadygrad.scan.backends.forks import when_forked


@final
class Stream:
    r"""Runs a recurrent layer sample by sample, as a controller or a live signal needs it.

    What `push` returns equals the whole sequence given to the layer in evaluation mode, time step
    by time step: there is no dropout and no gradient. Where the compiled recurrence is chosen (see
    `steadygrad.scan.backends.choose`) all buffers and the arguments of the calls are made once.

    The stream holds copies of the layer's weights. It looks at every push whether torch has
    counted a change of a parameter (an optimiser's step, ``load_state_dict``, ``copy_``,
    ``layer.to(...)``) and then copies again; what torch does not count, writing through ``.data``
    or putting another parameter in a parameter's place, needs a call of `refresh`.

    With ``learn="rtrl"`` what `push` returns carries the exact gradient of all steps so far
    (real-time recurrent learning): after ``loss.backward()`` at every step the layer's weights
    hold what backpropagation through the whole sequence would give them, with memory that does not
    grow with time. Such a stream reads the layer's own weights, so an optimiser may step whenever
    it likes; the gradient then is that of the weights as they were when each step was taken, as
    always in online learning. That is possible where no unit of the cell sees another (ind-rnn,
    lru, mingru, rg-lru and the like), in one layer; ``state = ...`` and `reset` begin anew.

    Args:
        layer: One of our layers, or a `torch.nn.RNN`, `LSTM` or `GRU`; stacked if you like.
        learn: ``"rtrl"`` as above; None for no gradient.

    Raises:
        TypeError: Any other module.
        ValueError: The layer is bidirectional: its second scan begins at the last sample. Or it
            cannot learn as told; the message says why.

    Example:
        >>> stream = Stream(Recurrent("lstm", 3, 8, num_layers=2))
        >>> [stream.push(sample).shape for sample in torch.randn(2, 3)]
        [torch.Size([8]), torch.Size([8])]
        >>> layer = Recurrent("mingru", 3, 8)
        >>> stream = Stream(layer, learn="rtrl")
        >>> for sample in torch.randn(5, 3):
        ...     stream.push(sample).sum().backward()  # adds to layer.weight_ih_l0.grad
    """

    def __init__(self, layer: nn.Module, learn: Literal["rtrl"] | None = None) -> None:
        self._view = view(layer)
        self._cell = self._view.cell
        if self._view.is_step:
            raise TypeError(
                f"Stream: a {type(layer).__name__} is fed one sample at a time as it is; expected "
                "a torch.nn.RNN, LSTM or GRU or a steadygrad layer"
            )
        if self._view.num_directions == 2:
            raise ValueError(
                "Stream: expected a layer that runs forward in time, got a bidirectional "
                f"{type(layer).__name__}, whose second scan begins at the last sample; "
                "build the layer with bidirectional=False"
            )
        self._layer: Any = layer
        self._learn = learn
        if learn is not None and (reason := _why_not(self._view, learn)):
            raise ValueError(f"Stream: learn={learn!r} {reason}")
        # Rows of a sample, while a state is held: (B,), or () without a batch axis. And what the
        # samples are: their shape and dtype, once there was one.
        self._rows: tuple[int, ...] | None = None
        self._kind: tuple[torch.Size, torch.dtype] | None = None
        self._engine: Steps | None = None
        self._batch = 0
        self.refresh()
        when_forked(self._forked)

    def push(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Advance by one time step.

        Args:
            x: One sample ``(I,)``, or one of each of ``B`` sequences ``(B, I)``; instead of
                one-hot features also codes, whole numbers ``()`` or ``(B,)`` below ``I``. The same
                shape and dtype until `reset`.
            out: Where to put the result; a new tensor if not given. Not where the stream learns.

        Returns:
            h of the top layer, ``(P,)`` or ``(B, P)``.

        Raises:
            TypeError: ``x`` is no tensor.
            ValueError: Shape or dtype of ``x`` or ``out`` is not what the stream expects, or there
                is no such code. Or the stream learns, and ``x`` requires a gradient.
        """
        if self._learn is not None:
            self._check_learning(x, out)
        if self._counts() != self._counted:
            self.refresh()
        engine = self._engine
        if engine is None or type(x) is not Tensor or (x.shape, x.dtype) != self._kind:
            engine = self._begin(x)
        if out is not None:
            self._check_out(out)
        if x.requires_grad:
            x = x.detach()
        try:
            hidden = engine.step(x if self._rows else x.unsqueeze(0))
        except (IndexError, RuntimeError):
            if is_codes(x):
                check_codes(self._twin, x)  # says what is wrong, if that is it
            raise
        if not self._rows:
            hidden = hidden.squeeze(0)
        if out is None:
            return hidden.clone()  # the engine writes over its own at the next push
        with torch.no_grad():
            return out.copy_(hidden)

    @property
    def state(self) -> Tensor | State | None:
        """The state after the last push, as the layer returns it; None before the first.

        A copy ``(L, B, ·)``, or ``(L, ·)`` after samples ``(I,)``; a tuple if the cell has more
        than one state. Set it to go on from there; None is `reset`.
        """
        if self._rows is None or self._engine is None:
            return None
        held = tuple(s if self._rows else s.squeeze(1) for s in self._engine.state())
        return held if len(self._cell.states) > 1 else held[0]

    @state.setter
    def state(self, state: Tensor | State | None) -> None:
        if state is None:
            return self.reset()
        given = (state,) if isinstance(state, Tensor) else tuple(state)
        batched = bool(given) and given[0].dim() == 3
        rows = given[0].shape[1:2] if batched else ()
        wanted = [(self._view.num_layers, *rows, width) for width in self._view.widths]
        got = [tuple(s.shape) for s in given]
        if got != wanted or any(s.dtype != self._dtype for s in given):
            raise ValueError(
                f"Stream.state: expected {', '.join(self._cell.states)} of shape "
                f"{' and '.join(map(str, wanted))}, {self._dtype}, got "
                f"{' and '.join(map(str, got)) or 'nothing'}, "
                f"{', '.join(str(s.dtype) for s in given)}"
            )
        engine = self._engine_for(tuple(rows))
        engine.hold(tuple(s.detach() if batched else s.detach().unsqueeze(1) for s in given))
        self._rows, self._kind = tuple(rows), None

    def reset(self) -> None:
        """Forget the state: the next push begins anew, with any number of rows."""
        self._rows = self._kind = None
        if self._learn is not None:
            self._engine = None

    def refresh(self) -> None:
        """Copy the layer's weights again; the state stays."""
        held = None if self._learn is not None else self.state
        # A parameter made under inference mode counts no changes; its address is all there is.
        self._parameters = list(self._layer.parameters())
        self._versioned = [p for p in self._parameters if not p.is_inference()]
        self._counted = self._counts()
        if self._learn is not None:
            return self._follow()
        self._twin = twin_of(self._layer).requires_grad_(False).eval()
        self._dtype = self._twin.weight_ih_l0.dtype
        self._twin.batch_first = False
        weights = self._twin.weights(0)
        self._backend = choose(self._sample_call(weights))
        self._twin.backend = self._backend.name  # as chosen now, whatever may change outside
        self._engine = None
        if held is not None:
            parts = (held,) if isinstance(held, Tensor) else held
            moved = tuple(p.to(weights.weight_ih) for p in parts)
            self.state = moved

    def _follow(self) -> None:
        """The same for a stream that learns, which reads the layer's weights at every push."""
        self._twin, dtype = self._layer, self._view.dtype
        if self._engine is not None and dtype != self._dtype:
            raise ValueError(
                f"Stream: the layer's weights became {dtype} while it learns, from {self._dtype}; "
                "call reset() before the layer is converted"
            )
        self._dtype = dtype

    def _sample_call(self, weights: Weights) -> ScanCall:
        """A call of one step of one row, as the back end is to run it."""
        like = weights.weight_ih
        widths = [self._twin.output_size]
        widths += [self._twin.hidden_size] * (len(self._cell.states) - 1)
        return ScanCall(
            self._cell,
            like.new_zeros(1, like.shape[1]),
            weights,
            tuple(like.new_zeros(1, width) for width in widths),
            Layout.dense(1, 1),
            backend=self._view.backend,
        )

    def _forked(self) -> None:
        """In a child process: prepare the calls anew at the next push, for its own threads."""
        self._counted = [], []

    def _counts(self) -> tuple[list[int], list[int]]:
        """What changes with the parameters, as far as torch counts it."""
        return [p._version for p in self._versioned], [p.data_ptr() for p in self._parameters]

    def _begin(self, x: Tensor) -> Steps:
        """Look at a sample closely; take a zero state if none is held."""
        if not isinstance(x, Tensor):
            raise TypeError(f"Stream.push: expected a tensor, got {type(x).__name__}")
        size, codes = self._view.input_size, is_codes(x)
        features = () if codes else (size,)
        rows = tuple(x.shape[: x.dim() - len(features)])
        fits = len(rows) < 2 and tuple(x.shape) == (*rows, *features) and 0 not in rows
        if self._rows is None and not fits:
            raise ValueError(
                f"Stream.push: expected one sample ({size},) or a batch (B, {size}) of one time "
                f"step, or codes () or (B,), got {tuple(x.shape)}, {x.dtype}"
            )
        if self._rows is not None and (not fits or rows != self._rows):
            raise ValueError(
                f"Stream.push: expected {(*self._rows, *features)} as before, got "
                f"{tuple(x.shape)}; call reset() to begin with another shape"
            )
        if not codes and x.dtype != self._dtype:
            raise ValueError(
                f"Stream.push: expected {self._dtype} as the layer's weights, got {x.dtype}; "
                f"use x.to({self._dtype})"
            )
        engine = self._engine_for(rows)
        if self._rows is None:
            engine.clear()
        self._rows, self._kind = rows, (x.shape, x.dtype)
        return engine

    @staticmethod
    def _check_learning(x: Any, out: Tensor | None) -> None:
        if out is not None:
            raise ValueError(
                "Stream.push: expected no out, which could not carry the gradient of a stream that "
                "learns; use the tensor that push returns"
            )
        if isinstance(x, Tensor) and x.requires_grad:
            raise ValueError(
                "Stream.push: a stream that learns passes a gradient to the weights alone, got x "
                "that requires a gradient; use x.detach()"
            )

    def _check_out(self, out: Tensor) -> None:
        wanted = (*(self._rows or ()), self._twin.output_size)
        if tuple(out.shape) != wanted or out.dtype != self._dtype:
            raise ValueError(
                f"Stream.push: expected out of shape {wanted} and {self._dtype}, "
                f"got {tuple(out.shape)} and {out.dtype}"
            )

    def _engine_for(self, rows: tuple[int, ...]) -> Steps:
        batch = rows[0] if rows else 1
        if self._engine is None or self._batch != batch:
            learn = self._learn is not None
            self._engine = (
                LearningSteps(self._twin) if learn else steps_of(self._twin, self._backend, batch)
            )
            self._batch = batch
        return self._engine

    def __getstate__(self) -> dict[str, Any]:
        # Engines hold addresses of their own buffers: a copy makes its own.
        held = {"layer": self._layer, "state": self.state, "learn": self._learn}
        if isinstance(self._engine, LearningSteps):
            held["sensitivities"] = self._engine.sensitivities
        return held

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.__init__(saved["layer"], saved["learn"])
        self.state = saved["state"]
        if isinstance(self._engine, LearningSteps):
            self._engine.sensitivities = saved["sensitivities"]


def _why_not(seen: LayerView, learn: str) -> str | None:
    """Why a layer cannot learn while it streams, as the end of a sentence."""
    if learn != "rtrl":
        return "is no way to learn; expected 'rtrl' or None"
    if not isinstance(seen.module, Recurrent) or not is_elementwise(seen.cell):
        return (
            "is exact where no unit sees another, such as in ind-rnn, lru, mingru or rg-lru; those "
            f"of {seen.cell.name} do"
        )
    if seen.num_layers > 1:
        return (
            f"is exact for one layer, got {seen.num_layers}; what reaches a lower one passes units "
            "that mix in the upper: use num_layers=1"
        )
    if seen.module.learn_initial_state:
        return "does not reach the initial state; use learn_initial_state=False"
    if seen.clip is not None or seen.truncate is not None:
        return "has no backward loop to clip or to cut; set loop_clip and truncate to None"
    return None
