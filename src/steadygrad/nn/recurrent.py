"""Any cell as a layer: stacked, in both directions, packed, with torch.nn's surface."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.fx import Proxy
from torch.jit._trace import is_tracing
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from steadygrad.cells import Cell, Noise, State, parse
from steadygrad.nn.arrangement import Arrangement
from steadygrad.nn.checks import (
    check_axes,
    check_input,
    check_lengths,
    check_options,
    check_resets,
    check_state,
    is_autocast,
    refuse_unknown,
)
from steadygrad.nn.graph_segments import scan_graph_in_segments
from steadygrad.nn.jit_traces import run_padded
from steadygrad.nn.leaf import as_leaf, refuse_script
from steadygrad.nn.prepared import PreparedCalls
from steadygrad.nn.segments import Cuts, scan_in_segments
from steadygrad.scan import (
    Layout,
    LoopClip,
    ScanCall,
    Tap,
    Weights,
    clip_text,
    is_codes,
    is_plain,
    is_profiled,
    operator_text,
    scan_in_graph,
    with_options,
)

_CALLED = (
    "_run", "_arranged", "_starts", "_zeros", "_layers", "_now", "_draws", "noise", "weights",
    "_own", "_hand_out",
)  # fmt: skip
"""Methods that say what a call does."""
NO_NOISE: Mapping[str, Tensor] = {}
LayerTap = Callable[[int, bool, Tap], None]
"""Receives layer, whether it is the reverse direction, and what its backward loop saw."""


class Recurrent(nn.Module):
    r"""A cell over time, with the arguments, shapes and weight names of `torch.nn.LSTM`.

    Args:
        cell: The recurrence: a `steadygrad.cells.Cell`, or its text as `steadygrad.cells.parse`
            reads it: ``"lstm-peephole"``, ``"elman:nonlinearity=relu"``, or ``"module:Class"`` or
            ``"file.py:Class"`` for one of your own.
        input_size: Features of :math:`x_t`, ``I``.
        hidden_size: Features of the states, ``H``.
        num_layers: Layers stacked; each reads the hidden states of the one below.
        bias: Whether the layers have ``bias_ih`` and ``bias_hh``.
        batch_first: Whether input and output are ``(B, T, ·)`` instead of ``(T, B, ·)``.
        dropout: Probability of dropping an element of the output of each layer but the last.
        bidirectional: Whether a second scan runs from the last time step to the first.
        proj_size: If positive, h is projected to so many features (cells that allow it).
        device: Where the weights are made.
        dtype: Of the weights.
        backend: ``"c"`` for the compiled recurrence, ``"eager"`` for plain torch operations,
            ``"parallel"`` for all time steps at once (a cell that is linear in its state),
            ``"auto"`` for the first that can; the variable ``STEADYGRAD_BACKEND`` if not given.
        truncate: Cut the gradient every so many steps of a scan, counted from its first step and
            the same for the whole batch: the state is handed on by value alone. Values stay.
        checkpoint: Keep about every sqrt(T)-th state instead of all that a step computes, and
            compute the steps in between again in the backward pass: same gradients, one forward
            pass more.
        learn_initial_state: Whether the state before the first step, where none is given, and
            after a reset, is learnt: one parameter per state, layer and direction, ``h0_l0``,
            ``c0_l0``, ``h0_l0_reverse``..., the same for all rows; they start at zero.
        burn_in: The first so many steps of each call only warm the state up: their output is there,
            and no gradient enters it, nor passes to what came before. For layers that run forward
            in time. Values stay.

    Shapes:
        Input ``(T, B, I)``, ``(B, T, I)``, unbatched ``(T, I)``, or a `PackedSequence`; instead of
        one-hot features also the codes themselves, whole numbers ``(T, B)``, ``(B, T)`` or
        ``(T,)`` below ``I``: no product is formed then. ``lengths (B,)`` says how long each row of
        a padded batch is, in any order: beyond it nothing is computed, the output is zero, and
        the last state is the one at the row's own last step. ``resets``, bool, of the shape of the
        input without its features (packed if that is packed), is True where a new segment of a row
        begins, such as an episode: all is as if the layer had been called for each segment by
        itself. Before such a step the forward scan's state is set to the start (zeros, or what is
        learnt), and so is that of the reverse scan where it enters the segment before, at its last
        step. The initial state is ``(L*D, B, H)`` per state of the cell (a tuple if it has more
        than one); zeros if not given; it belongs to the segment that a row's scan meets first, and
        is not read where the first step resets.
        Output ``(T, B, D*P)`` and the last state, with ``D`` directions and
        ``P = proj_size or hidden_size``. Under autocast both have its dtype, as those of torch's
        layers; inside, everything is computed in the dtype of the weights. Double stays double, and
        needs input, state and weights alike.

    Attributes:
        loop_clip: A `steadygrad.scan.LoopClip` that bounds the gradient inside backpropagation
            through time, or None.
        on_tap: Called in every backward pass, per layer and direction, with the norm of the
            gradient at each time step; or None. A step that no gradient reaches counts as zero.
        truncate, checkpoint, burn_in: As given; may be set at any time.
        noise_seed: Where the draws of the latest call began; None if it drew nothing.
        fixed_noise: What to read instead of drawing, one entry per layer and direction; or None.

    Raises:
        ValueError, TypeError, RuntimeError: As the torch layers do, with their words.

    Example:
        >>> layer = Recurrent("gru-original", 3, 8, bidirectional=True)
        >>> output, last = layer(torch.randn(20, 4, 3))
        >>> output.shape, last.shape
        (torch.Size([20, 4, 16]), torch.Size([2, 4, 8]))
    """

    @refuse_unknown
    def __init__(
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str | None = None,
        truncate: int | None = None,
        checkpoint: bool = False,
        learn_initial_state: bool = False,
        burn_in: int = 0,
    ) -> None:
        nn.Module.__init__(self)  # not super(): the drop-in layers have torch.nn.RNNBase next
        cuts = Cuts(truncate, checkpoint, burn_in)
        if burn_in and bidirectional:
            raise ValueError(
                f"burn_in: expected 0 for a bidirectional layer, got {burn_in}: the scan that runs "
                "from the last step to the first ends in the steps that would be cut off"
            )
        if not isinstance(learn_initial_state, bool):
            raise TypeError(
                "learn_initial_state should be of type bool, got: "
                f"{type(learn_initial_state).__name__}"
            )
        self.backend = backend
        self.truncate = cuts.truncate
        self.checkpoint = cuts.checkpoint
        self.burn_in = cuts.burn_in
        self.learn_initial_state = learn_initial_state
        self.cell = _cell(cell)
        self._cell_text = operator_text(self.cell)
        check_options(input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size)
        if proj_size and not self.cell.can_project:
            raise ValueError(
                "proj_size argument is only supported for LSTM, not RNN or GRU: "
                f"{type(self.cell).__name__} uses h outside of products"
            )
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero "
                f"dropout expects num_layers greater than 1, but got dropout={dropout} and "
                f"num_layers={num_layers}",
                stacklevel=_caller_level(self),
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.loop_clip = None
        self.on_tap: LayerTap | None = None
        self.noise_seed: int | None = None
        self.fixed_noise: Sequence[dict[str, Tensor]] | None = None
        self._prepared = PreparedCalls()
        self._names = tuple(self._shapes(0))
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                for name, shape in self._shapes(layer).items():
                    value = torch.empty(shape, device=device, dtype=dtype)
                    self.register_parameter(name + suffix, nn.Parameter(value))
                for name, width in zip(self._start_names(suffix), self._widths, strict=True):
                    value = torch.empty(width, device=device, dtype=dtype)
                    self.register_parameter(name, nn.Parameter(value))
        for name, value in _constants(self.cell, hidden_size).items():
            value = value.to(device=device, dtype=dtype or torch.get_default_dtype())
            self.register_buffer(f"constant_{name}", value, persistent=False)
        self.reset_parameters()

    @property
    def loop_clip(self) -> LoopClip | None:
        """What bounds the gradient inside backpropagation through time."""
        return self._loop_clip

    @loop_clip.setter
    def loop_clip(self, clip: LoopClip | None) -> None:
        self._loop_clip, self._clip_text = clip, clip_text(clip)

    def _fill_constants(self) -> None:
        """Write the cell's constants into their buffers, which `to_empty` leaves without values."""
        with torch.no_grad():
            for name, value in _constants(self.cell, self.hidden_size).items():
                self.get_buffer(f"constant_{name}").copy_(value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        like = next(self.parameters())
        was_meta = like.is_meta
        nn.Module._apply(self, fn, recurse)
        if was_meta and not next(self.parameters()).is_meta:
            self._fill_constants()
        return self

    @property
    def qconfig(self) -> Any:
        """What `torch.ao.quantization` attaches to every module before it converts some."""
        try:
            return self.__dict__["_qconfig"]
        except KeyError:
            raise AttributeError("qconfig") from None  # so that torch takes the parent's

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        kind = type(self).__name__
        how = (
            "torch.ao.quantization converts torch's own classes alone; for int8, put "
            "layer.to_torch() in its place first, or train with steadygrad.nn.quantise_"
        )
        if value is not None:
            raise RuntimeError(f"steadygrad {kind} cannot be converted: {how}")
        warnings.warn(f"steadygrad {kind} stays in floating point: {how}", stacklevel=2)
        self.__dict__["_qconfig"] = None

    @qconfig.deleter
    def qconfig(self) -> None:
        self.__dict__.pop("_qconfig", None)

    @property
    def output_size(self) -> int:
        """Features of h: ``P``."""
        return self.proj_size or self.hidden_size

    @property
    def num_directions(self) -> int:
        """One, or two if bidirectional."""
        return 2 if self.bidirectional else 1

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """Parameters, one list per layer and direction, as `torch.nn.RNNBase` gives them."""
        return [
            [getattr(self, name + suffix) for name in self._names]
            for layer in range(self.num_layers)
            for suffix in self._suffixes(layer)
        ]

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.num_directions]

    def _shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """Weights of one direction, in the order in which torch registers them."""
        rows = len(self.cell.gates) * self.hidden_size
        recurrent_rows = len(self.cell.recurrent) * self.hidden_size
        inputs = self.input_size if layer == 0 else self.output_size * self.num_directions
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, inputs),
            "weight_hh": self.cell.stored_shape(self.hidden_size)
            or (recurrent_rows, self.output_size),
        }
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (recurrent_rows,)}
        if not recurrent_rows:  # a cell without products has no recurrent matrix
            shapes = {name: shape for name, shape in shapes.items() if name.endswith("ih")}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        return shapes | dict.fromkeys(self.cell.per_unit, (self.hidden_size,))

    @property
    def _widths(self) -> tuple[int, ...]:
        """Features of each state where initial states are learnt; empty where they are not."""
        if not self.learn_initial_state:
            return ()
        return (self.output_size, *[self.hidden_size] * (len(self.cell.states) - 1))

    def _start_names(self, suffix: str) -> list[str]:
        """Names of the learnt initial states of one direction of one layer."""
        return [f"{s}0{suffix}" for s in self.cell.states] if self.learn_initial_state else []

    def initial_state(self, layer: int, reverse: bool = False) -> State | None:
        """The state that one direction of one layer begins with, ``(·,)`` each; None for zeros."""
        if not self.learn_initial_state:
            return None
        return tuple(self._own(n) for n in self._start_names(self._suffixes(layer)[reverse]))

    def reset_parameters(self) -> None:
        r"""Draw all weights from U(-1/√H, 1/√H), as torch does; then the cell has its say.

        Learnt initial states start at zero.
        """
        bound = 1 / math.sqrt(self.hidden_size)
        starts = {n for k in range(self.num_layers) for s in self._suffixes(k)
                  for n in self._start_names(s)}  # fmt: skip
        for name, parameter in self.named_parameters(recurse=False):
            start = self.cell.per_unit.get(name.partition("_l")[0])
            start = 0.0 if name in starts else start
            if start is None:
                nn.init.uniform_(parameter, -bound, bound)
            else:
                nn.init.constant_(parameter, start)
        if self.weight_ih_l0.is_meta:  # no values to move, and no draws to be used up
            return
        self._fill_constants()
        with torch.no_grad():
            for layer in range(self.num_layers):
                for suffix in self._suffixes(layer):
                    own = {name: getattr(self, name + suffix) for name in self._names}
                    self.cell.reset_(own)

    def weights(
        self,
        layer: int,
        reverse: bool = False,
        noise: Mapping[str, Tensor] = NO_NOISE,
        dtype: torch.dtype | None = None,
    ) -> Weights:
        """The weights of one direction of one layer, R in the form that its cell gives it.

        Args:
            layer: Which, from 0, the lowest.
            reverse: Take the reverse direction.
            noise: What the cell's noise is in this call.
            dtype: Convert what is stored before R is given its form: an orthogonal matrix that is
                made in float32 is one to seven digits only.
        """
        suffix = self._suffixes(layer)[reverse]
        own = {name: self._own(name + suffix) for name in self._names}
        constants = {
            name.removeprefix("constant_"): value
            for name, value in self._buffers.items()
            if value is not None and name.startswith("constant_")
        }
        if dtype is not None:
            own = {name: value.to(dtype) for name, value in own.items()}
            constants = {name: value.to(dtype) for name, value in constants.items()}
        fixed = {name: value for name, value in own.items() if name not in self.cell.per_unit}
        fixed["weight_hh"] = (
            self.cell.recurrent_matrix(fixed["weight_hh"])
            if self.cell.recurrent
            else fixed["weight_ih"].new_zeros(0, self.output_size)
        )
        units = tuple(own[name] for name in self.cell.per_unit)
        return Weights(**fixed, per_unit=units, constants=constants, noise=noise)

    def _own(self, name: str) -> Any:
        """A weight; getattr, which also finds what is computed from others, takes a detour."""
        found = self._parameters.get(name)
        return getattr(self, name) if found is None else found

    def noise(self, rows: int, batch: int, seed: int | None) -> Iterator[dict[str, Tensor]]:
        """What the cell's noise is in each layer and direction, one after another.

        Args:
            rows: Rows of all time steps, ``N``.
            batch: Rows of the batch, ``B``.
            seed: Where the draws begin; None for the mean of each, as in evaluation.
        """
        like = self.weight_ih_l0
        assert isinstance(like, Tensor)
        if seed is None:
            return self._noise(lambda noise: like.new_full((self.hidden_size,), noise.mean))
        generator = torch.Generator(like.device).manual_seed(seed)

        def drawn(noise: Noise) -> Tensor:
            mask = like.new_empty(batch if noise.shared else rows, self.hidden_size)
            return mask.bernoulli_(noise.mean, generator=generator)

        return self._noise(drawn)

    def _noise(self, value: Callable[[Noise], Tensor]) -> Iterator[dict[str, Tensor]]:
        for _ in range(self.num_layers * self.num_directions):
            yield {name: value(noise) for name, noise in self.cell.noise.items()}

    def _draws(self, x: Tensor, arranged: Arrangement) -> Iterator[Mapping[str, Tensor]]:
        """The noise of one call, from torch's generator by way of a seed that can be told."""
        if self.fixed_noise is not None:
            return iter(self.fixed_noise)
        if not self.cell.noise:
            return repeat(NO_NOISE)
        self.noise_seed = None
        rows, batch = x.shape[0], arranged.batch
        if self.training and (arranged.is_traced or not is_plain((x,))):
            # A seed is a value, which a graph does not have: drawn by torch's generator itself.
            like: Any = self.weight_ih_l0
            size = self.hidden_size

            def drawn(noise: Noise) -> Tensor:
                mean = like.new_full((batch if noise.shared else rows, size), noise.mean)
                return torch.bernoulli(mean)

            return self._noise(drawn)
        if self.training:
            self.noise_seed = int(torch.randint(2**62, ()))
        return self.noise(rows, batch, self.noise_seed)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input: Any, hx: Any = None, lengths: Any = None, resets: Any = None
    ) -> tuple[Any, Any]:
        """Run the layers; see the class for shapes."""
        if torch.compiler.is_dynamo_compiling() and not self._fits_a_graph(input, lengths):
            return self._uncompiled(input, hx, lengths, resets)
        if lengths is not None or resets is not None or torch.compiler.is_compiling():
            return self._run(input, hx, lengths, resets)
        key = self._prepared.key(self, input, hx)
        if key is None:
            return self._run(input, hx, lengths, resets)
        found = self._prepared.run(self, key, input, hx)
        if found is None:
            found = self._run(input, hx, lengths, resets)
            if self._runs_as_written():
                self._prepared.note(self, key, input)
        return found

    def _runs_as_written(self) -> bool:
        """Whether neither a subclass nor a patched attribute decides what a call does."""
        kind = type(self)
        return self.__dict__.keys().isdisjoint(_CALLED) and (
            all(getattr(kind, name) is getattr(Recurrent, name) for name in _CALLED)
        )

    def _fits_a_graph(self, input: Any, lengths: Any) -> bool:
        """Whether torch.compile can take a call as one operator a layer; else the graph breaks."""
        return (
            isinstance(input, Tensor)
            and (lengths is None or isinstance(lengths, Tensor))
            and self.on_tap is None
            and self.fixed_noise is None
        )

    # A graph break, said aloud: a loop unrolled compiles for minutes. torch.compiler.disable would
    # import all of Dynamo with this file, seconds of every start; this is torch's own lazy form.
    @_disable_dynamo
    def _uncompiled(self, input: Any, hx: Any, lengths: Any, resets: Any) -> tuple[Any, Any]:
        return self._run(input, hx, lengths, resets)

    def _run(self, input: Any, hx: Any, lengths: Any = None, resets: Any = None) -> tuple[Any, Any]:
        if isinstance(input, Proxy):
            return as_leaf(self, input, hx=hx, lengths=lengths, resets=resets)
        if lengths is None and isinstance(input, PackedSequence) and is_tracing():
            return run_padded(self._run, input, hx, resets, self.batch_first)
        arranged = self._arranged(input, hx, lengths)
        if resets is not None:
            arranged.resets = check_resets(self, resets, input)
        rows = arranged.rows(input)
        if not arranged.is_traced and not arranged.steps:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        starts = self._starts(rows, arranged, hx)
        output, last = self._layers(rows, starts, arranged)
        return arranged.laid(output), self._hand_out(arranged.handed(last))

    def _arranged(self, input: Any, hx: Any, lengths: Any) -> Arrangement:
        """The layout of a call; or refuse it, in torch's words."""
        kind = type(self).__name__
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError(_no_lengths(kind, type(input).__name__))
            check_input(self, input.data, 2)
            return Arrangement.of(input)
        features = 0 if is_codes(input) and input.dim() < 3 else 1
        if lengths is not None:
            if input.dim() != 2 + features:
                raise ValueError(_no_lengths(kind, f"{input.dim()}-D"))
            steps, batch = input.shape[:2][:: -1 if self.batch_first else 1]
            lengths = check_lengths(self, lengths, batch, steps)
            check_input(self, input, 3)
            return Arrangement.of(input, self.batch_first, lengths)
        if input.dim() + (not features) not in (2, 3):
            thing = "D tensor" if kind == "RNN" else "D"  # torch's RNN words it so
            raise ValueError(
                f"{kind}: Expected input to be 2D or 3D, got {input.dim()}{thing} instead"
            )
        batched = input.dim() == 2 + features
        if hx is not None:
            check_axes(hx, batched)
        check_input(self, input, 3 if batched else 2)
        return Arrangement.of(input, self.batch_first)

    def _hand_out(self, state: State) -> Tensor | State:
        return state if len(self.cell.states) > 1 else state[0]

    def _starts(self, x: Tensor, arranged: Arrangement, hx: Tensor | State | None) -> list[State]:
        """The state before the first step, per layer and direction: as given, or zeros."""
        count = self.num_layers * self.num_directions
        if hx is None and self.learn_initial_state:
            keys = [(k, r) for k in range(self.num_layers) for r in (False, True)]
            learnt = [self.initial_state(k, r) or () for k, r in keys[:: 3 - self.num_directions]]
            return [tuple(s.expand(arranged.batch, -1) for s in start) for start in learnt]
        if hx is None:
            like = next(self.parameters()) if is_codes(x) else x
            # Nothing writes into them.
            return [self._zeros(like, arranged.batch)] * count
        given = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        wide = given if arranged.is_batched else tuple(s.unsqueeze(1) for s in given)
        check_state(self, wide, arranged.batch)  # before its rows are sorted
        state = arranged.states(given)
        return [tuple(s[k] for s in state) for k in range(count)]

    def _zeros(self, like: Tensor, batch: int) -> State:
        h = like.new_zeros(batch, self.output_size)
        others = like.new_zeros(batch, self.hidden_size) if self.proj_size else h
        return (h,) + (others,) * (len(self.cell.states) - 1)

    def _layers(
        self, x: Tensor, starts: list[State], arranged: Arrangement
    ) -> tuple[Tensor, State]:
        """All layers and directions over rows ``(N, I)``."""
        kind = x.device.type
        if is_autocast(x):
            # Sixteen bits lose a gradient that is carried over many steps: full precision inside.
            with torch.autocast(kind, enabled=False):
                dtype = next(self.parameters()).dtype
                given = x if is_codes(x) else x.to(dtype)
                full = [tuple(s.to(dtype) for s in start) for start in starts]
                output, state = self._layers(given, full, arranged)
            if dtype == torch.float64:  # autocast leaves double alone
                return output, state
            dtype = self._autocast_dtype(torch.get_autocast_dtype(kind), starts[0][0])
            return output.to(dtype), tuple(s.to(dtype) for s in state)
        if x.is_meta or not (arranged.is_traced or arranged.batch):
            return self._without_values(x, starts)
        x = x.long() if is_codes(x) else x
        last: list[State] = []
        run = self._in_graph if arranged.is_traced else self._now
        noise = self._draws(x, arranged)
        ways = (False, True)[: self.num_directions]
        begins = [arranged.begins(reverse) for reverse in ways]
        for layer in range(self.num_layers):
            if layer:
                x = F.dropout(x, self.dropout, self.training)
            directions = []
            for reverse in ways:
                weights, own = self.weights(layer, reverse, next(noise)), starts[len(last)]
                hidden, final = run(x, weights, own, arranged, layer, reverse, begins[reverse])
                directions.append(hidden)
                last.append(final)
            x = torch.cat(directions, -1) if self.bidirectional else directions[0]
        # The backward pass reads h. What the caller gets is its own, to be changed in place; joined
        # directions and padded rows are copies already, and a graph sees to it by itself.
        is_shared = not (self.bidirectional or self.checkpoint or arranged.is_traced)
        if is_shared and arranged.places is None and x.requires_grad:
            x = x.clone()
        return x, tuple(torch.stack(states) for states in zip(*last, strict=True))

    def _autocast_dtype(self, lower: torch.dtype, start: Tensor) -> torch.dtype:
        """Of output and state under autocast to ``lower``, if the state begins as ``start``."""
        return lower

    def _now(
        self,
        x: Tensor,
        weights: Weights,
        state: State,
        arranged: Arrangement,
        layer: int,
        reverse: bool,
        begins: Tensor | None,
    ) -> tuple[Tensor, State]:
        """One layer in one direction."""
        call = ScanCall(
            self.cell,
            x,
            weights,
            state,
            Layout(arranged.batch_sizes, reverse),
            begins,
            None if begins is None else self.initial_state(layer, reverse),
            clip=self.loop_clip,
            on_tap=self._tap_of(layer, reverse),
            backend=self.backend,
        )
        cuts = Cuts(self.truncate, self.checkpoint, self.burn_in)
        if not is_profiled():
            return scan_in_segments(call, cuts)
        with torch.autograd.profiler.record_function(self._region(layer, reverse)):
            return scan_in_segments(call, cuts)

    def _region(self, layer: int, reverse: bool) -> str:
        """What a profiler calls one direction of one layer."""
        return f"steadygrad {self.cell.name} l{layer}{'_reverse' * reverse}"

    def _in_graph(
        self,
        x: Tensor,
        weights: Weights,
        state: State,
        arranged: Arrangement,
        layer: int,
        reverse: bool,
        begins: Tensor | None,
    ) -> tuple[Tensor, State]:
        """The same as one operator of a graph that torch makes, every size free."""
        text = with_options(self._cell_text, self._clip_text, self.backend)
        start = None if begins is None else self.initial_state(layer, reverse)
        sizes = arranged.open_sizes
        is_cut = self.truncate is not None or self.checkpoint or self.burn_in
        # torch.jit.trace traces once more without gradients, and wants the same graph.
        if not is_cut or not (torch.is_grad_enabled() or is_tracing()):
            return scan_in_graph(text, x, weights, state, reverse, sizes, begins, start)
        steps = arranged.steps
        cuts = Cuts(self.truncate, self.checkpoint, self.burn_in)
        is_free = type(steps) is not int  # a number of pieces cannot be
        if self.truncate is not None and is_free and self.training:
            raise ValueError(
                f"{type(self).__name__}: truncate cuts the gradient between steps, which a graph "
                "of any number of steps cannot; set layer.truncate = None, or call layer.eval() "
                "if the graph is not to be trained"
            )
        if is_free:
            cuts = Cuts(burn_in=self.burn_in)
        return scan_graph_in_segments(
            text, x, weights, state, reverse, sizes, begins, start, steps, cuts
        )

    def _without_values(self, x: Tensor, starts: list[State]) -> tuple[Tensor, State]:
        """Output and state where there is nothing to compute: no rows, or the meta device."""
        sources = [*self.parameters(), *starts[0], *([] if is_codes(x) else [x])]
        # Connected with what they would depend on, so that its gradient is zero and not None.
        nothing = sum((s.sum() * 0 for s in sources), start=sources[0].new_zeros(()))
        rows, kind = len(x), {"dtype": sources[0].dtype, "device": x.device}
        output = torch.zeros(rows, self.output_size * self.num_directions, **kind) + nothing
        last = tuple(torch.stack(states) for states in zip(*starts, strict=True))
        return output, tuple(s + nothing for s in last)

    def _tap_of(self, layer: int, reverse: bool) -> Callable[[Tap], None] | None:
        on_tap = self.on_tap
        return None if on_tap is None else partial(on_tap, layer, reverse)

    def __prepare_scriptable__(self) -> nn.Module:
        refuse_script(self)

    def flatten_parameters(self) -> None:
        """Do nothing: the weights need not be one block. Here because torch's layers have it."""

    def __getstate__(self) -> dict[str, Any]:
        # An observer belongs to the session that set it, not to the layer.
        return self.__dict__ | {"on_tap": None, "fixed_noise": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # What was pickled before there were such options has them not.
        before = {"learn_initial_state": False, "burn_in": 0}
        clip = state.get("loop_clip", state.get("_loop_clip"))
        state = {name: value for name, value in state.items() if name != "loop_clip"}
        nn.Module.__setstate__(self, before | state)
        self.loop_clip = clip
        self._cell_text = operator_text(self.cell)  # which may hold in one process alone
        self._prepared = PreparedCalls()

    def extra_repr(self) -> str:
        """What `torch.nn` prints, options at their default left out."""
        parts = [] if type(self) is not Recurrent else [repr(self.cell)]
        parts += [str(self.input_size), str(self.hidden_size)]
        defaults = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
            "truncate": None,
            "checkpoint": False,
            "learn_initial_state": False,
            "burn_in": 0,
        }
        parts += [f"{n}={getattr(self, n)}" for n, d in defaults.items() if getattr(self, n) != d]
        return ", ".join(parts)


def _cell(cell: Cell | str) -> Cell:
    if isinstance(cell, Cell):
        return cell
    if not isinstance(cell, str):
        raise TypeError(f"expected a Cell or the name of one, got {cell!r}")
    return parse(cell)


def _constants(cell: Cell, hidden_size: int) -> Mapping[str, Tensor]:
    """Values per unit of a cell, looked at."""
    found = cell.constants(hidden_size)
    for name, value in found.items():
        if tuple(value.shape) != (hidden_size,) or value.requires_grad:
            raise ValueError(
                f"{type(cell).__name__}.constants: expected {name!r} of shape ({hidden_size},) "
                f"without gradient, got {tuple(value.shape)}"
            )
    taken = (*cell.gates, *cell.per_unit)
    twice = [name for name in (*found, *cell.noise) if name in taken]
    if twice:
        raise ValueError(f"{type(cell).__name__}: {twice[0]!r} names two different things")
    return found


def _caller_level(layer: Recurrent) -> int:
    return 3 if type(layer) is Recurrent else 5  # past `refuse_unknown` around each constructor


def _no_lengths(kind: str, got: str) -> str:
    return f"{kind}: lengths belong to a padded batch, (T, B, I) or codes (T, B); got {got}"
