"""The one reading of a recurrent layer, torch's or ours: its cell, its weights, its calls.

Measurements, remedies and streams read a layer through its view alone. A
replay through the view gives what the layer gives, for every cell and every option.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from steadygrad.cells import GRU as GRUCell
from steadygrad.cells import LSTM as LSTMCell
from steadygrad.cells import Cell, Elman
from steadygrad.nn.arrangement import Arrangement
from steadygrad.nn.recurrent import NO_NOISE, Recurrent
from steadygrad.scan import Layout, LoopClip, Weights, is_codes

Key = tuple[int, bool]
"""A layer of a stack, from 0, and whether it is the reverse direction."""
Noise = tuple[dict[str, Tensor], ...]
"""What a cell drew, for each layer and direction; see `Recurrent.fixed_noise`."""
R = TypeVar("R")
Scan = Callable[[Key, Tensor, Weights, tuple[Tensor, ...], Layout], tuple[Tensor, R]]
"""Runs one direction of one layer: key, rows ``(N, I)``, weights, state before the first step and
layout, to h of every step ``(N, P)`` and whatever else is wanted of it."""


@dataclass(frozen=True, kw_only=True)
class Drive:
    """What drives a layer in one call, in rows: time first, batched, padding gone.

    Attributes:
        x: Features of all time steps, ``(N, I)``; codes as the one-hot features they stand for.
        batch_sizes: Rows at each time step.
        state: State before the first step, each ``(L*D, B, ·)``; empty if none was given.
        noise: What the cell drew; None for the mean of each, as in evaluation.
    """

    x: Tensor
    batch_sizes: tuple[int, ...]
    state: tuple[Tensor, ...] = ()
    noise: Noise | None = None


@dataclass(frozen=True)
class LayerView:
    """A layer as it computes; made by `view`, holds no copy of anything.

    Attributes:
        module: The layer.
        cell: Its recurrence.
        input_size: Features of the input, ``I``.
        hidden_size: Features of the states, ``H``.
        output_size: Features of h, ``P``.
        num_layers: Layers stacked, ``L``.
        num_directions: One or two, ``D``.
        is_step: Whether the module is a cell, called once for each time step.
    """

    module: nn.Module
    cell: Cell
    input_size: int
    hidden_size: int
    output_size: int
    num_layers: int = 1
    num_directions: int = 1
    is_step: bool = False

    @property
    def batch_first(self) -> bool:
        """Whether the layer's tensors are ``(B, T, ·)``."""
        return bool(getattr(self.module, "batch_first", False))

    @property
    def dropout(self) -> float:
        """Probability of dropping an element between the layers of the stack, as it is now."""
        if self.num_layers == 1 or not self.module.training:
            return 0.0
        return float(getattr(self.module, "dropout", 0.0))

    @property
    def truncate(self) -> int | None:
        """Steps after which the layer cuts the gradient; None for never."""
        return self.module.truncate if isinstance(self.module, Recurrent) else None

    @property
    def burn_in(self) -> int:
        """Steps at the beginning of each call that the layer runs without a gradient."""
        return self.module.burn_in if isinstance(self.module, Recurrent) else 0

    @property
    def clip(self) -> LoopClip | None:
        """What bounds the gradient inside the layer's backward loop."""
        return self.module.loop_clip if isinstance(self.module, Recurrent) else None

    @property
    def backend(self) -> str | None:
        """The back end that the layer was told to take."""
        return self.module.backend if isinstance(self.module, Recurrent) else None

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self._parameter("weight_ih", 0, False).dtype

    @property
    def keys(self) -> tuple[Key, ...]:
        """Every layer and direction, in the order in which states are stacked."""
        ways = (False, True)[: self.num_directions]
        return tuple((layer, way) for layer in range(self.num_layers) for way in ways)

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of each state of the cell."""
        return (self.output_size, *[self.hidden_size] * (len(self.cell.states) - 1))

    def check(self, index: int, reverse: bool) -> None:
        """Refuse a layer or a direction that is not there.

        Raises:
            ValueError: It is not.
        """
        kind = type(self.module).__name__
        if not 0 <= index < self.num_layers:
            count = f"{self.num_layers} layers, counted from 0"
            raise ValueError(f"{kind} has {count}; got index {index}")
        if reverse and self.num_directions == 1:
            raise ValueError(f"{kind} has one direction; reverse needs a bidirectional layer")

    def name(self, key: Key, module: str) -> str:
        """``lstm``, or ``lstm.l1`` and ``lstm.l0_reverse`` where a module holds several."""
        if len(self.keys) == 1:
            return module
        return f"{module}.l{key[0]}" + ("_reverse" if key[1] else "")

    def weights(
        self,
        index: int = 0,
        reverse: bool = False,
        noise: Mapping[str, Tensor] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Weights:
        """The weights of one direction of one layer as they are used, graph and all.

        Parametrised and quantised ones as they are computed with, R in the form of its own that
        the cell gives it, constants included.

        Args:
            index: Which layer of the stack.
            reverse: Take the reverse direction.
            noise: What the cell's noise is; the mean of each if not given, as in evaluation.
            dtype: Of the result; the layer's own if not given.
        """
        if isinstance(self.module, Recurrent):
            noise = self._mean_noise() if noise is None else noise
            noise = noise if dtype is None else {n: v.to(dtype) for n, v in noise.items()}
            return self.module.weights(index, reverse, noise, dtype)
        stems = ["weight_ih", "weight_hh"]
        stems += ["bias_ih", "bias_hh"] * bool(self.module.bias)
        stems += ["weight_hr"] * (self.output_size != self.hidden_size)
        own = [self._parameter(stem, index, reverse) for stem in stems]
        return Weights.from_flat(stems, own if dtype is None else [v.to(dtype) for v in own])

    def _parameter(self, stem: str, index: int, reverse: bool) -> Tensor:
        suffix = "" if self.is_step else f"_l{index}" + "_reverse" * reverse
        found = getattr(self.module, stem + suffix)  # finds what is computed from others, too
        assert isinstance(found, Tensor)
        return found

    def _mean_noise(self) -> Mapping[str, Tensor]:
        if not self.cell.noise:
            return NO_NOISE
        assert isinstance(self.module, Recurrent)
        return next(self.module.noise(0, 0, None))

    def noise(self, rows: int, batch: int, seed: int) -> Noise | None:
        """What the cell drew in a call whose draws began at ``seed``."""
        if not isinstance(self.module, Recurrent) or not self.cell.noise:
            return None
        return tuple(self.module.noise(rows, batch, seed))

    def arrange(self, input: Tensor | PackedSequence, lengths: Any = None) -> Arrangement:
        """The layout of a call with this input."""
        if self.is_step:
            assert isinstance(input, Tensor)
            return Arrangement.step(input)
        return Arrangement.of(input, self.batch_first, lengths)

    def read(
        self,
        input: Tensor | PackedSequence,
        state: Tensor | Sequence[Tensor] | None = None,
        lengths: Any = None,
        noise_seed: int | None = None,
        arranged: Arrangement | None = None,
    ) -> Drive:
        """What drives the layer in a call with these arguments; views, as far as may be.

        Args:
            input: As the layer takes it.
            state: As the layer takes it.
            lengths: As the layer takes it.
            noise_seed: Where the draws of the call began.
            arranged: The layout, where it is not the one that the layer itself would take.

        Raises:
            ValueError: A state of another shape than the layer's.
        """
        arranged = self.arrange(input, lengths) if arranged is None else arranged
        x = arranged.rows(input)
        if is_codes(x):
            x = nn.functional.one_hot(x.long(), self.input_size).to(self.dtype)
        given = () if state is None else (state,) if isinstance(state, Tensor) else tuple(state)
        states = arranged.states(given)
        want = [(len(self.keys), arranged.batch, width) for width in self.widths]
        if states and [tuple(s.shape) for s in states] != want:
            raise ValueError(
                f"{type(self.module).__name__}: state must be {', '.join(self.cell.states)} of "
                f"shapes {want}, got {[tuple(s.shape) for s in states]}"
            )
        noise = None
        if noise_seed is not None:
            noise = self.noise(len(x), arranged.batch, noise_seed)
        return Drive(x=x, batch_sizes=arranged.batch_sizes, state=states, noise=noise)

    def start(self, like: Tensor, batch: int) -> tuple[Tensor, ...]:
        """The state that a call begins with if it is given none, each ``(L*D, B, ·)``.

        Learnt or zeros; without a graph, in the dtype and on the device of ``like``.
        """
        if isinstance(self.module, Recurrent) and self.module.learn_initial_state:
            learnt = [self.module.initial_state(*key) or () for key in self.keys]
            each = (torch.stack(parts).detach() for parts in zip(*learnt, strict=True))
            return tuple(s.to(like)[:, None].expand(-1, batch, -1) for s in each)
        return tuple(like.new_zeros(len(self.keys), batch, width) for width in self.widths)

    def run(
        self,
        drive: Drive,
        scan: Scan[R],
        dtype: torch.dtype | None = None,
        last: Key | None = None,
    ) -> tuple[Tensor, dict[Key, R]]:
        """Run every layer and direction, the lowest first; dropout between layers is left out.

        Args:
            drive: What drives them.
            scan: Runs one direction of one layer.
            dtype: Of the run; that of the layer if not given.
            last: The layer and direction to end with; all if not given.

        Returns:
            Output of the last layer that was run, ``(N, D*P)``, and by layer and direction what
            ``scan`` returned beside h.
        """
        dtype = self.dtype if dtype is None else dtype
        x = drive.x.to(dtype)
        start = drive.state or self.start(x, Layout(drive.batch_sizes).batch)
        found: dict[Key, R] = {}
        made: list[Tensor] = []
        for place, key in enumerate(self.keys):
            index, reverse = key
            if made and not reverse:
                x, made = torch.cat(made, 1) if len(made) > 1 else made[0], []
            if last is not None and index == last[0] and key != last:
                continue
            drawn = None if drive.noise is None else drive.noise[place]
            weights = self.weights(index, reverse, drawn, dtype)
            own = tuple(s[place].to(dtype) for s in start)
            hidden, found[key] = scan(key, x, weights, own, Layout(drive.batch_sizes, reverse))
            made.append(hidden)
            if key == last:
                break
        return torch.cat(made, 1) if len(made) > 1 else made[0], found


TORCH_CELLS: dict[type[nn.Module], Callable[[Any], Cell]] = {
    nn.LSTM: lambda _: LSTMCell(),
    nn.GRU: lambda _: GRUCell(),
    nn.RNN: lambda layer: Elman(layer.nonlinearity),
    nn.LSTMCell: lambda _: LSTMCell(),
    nn.GRUCell: lambda _: GRUCell(),
    nn.RNNCell: lambda layer: Elman(layer.nonlinearity),
}
"""What torch's layers and cells run."""


def view(layer: nn.Module) -> LayerView:
    """Look at a recurrent layer.

    Args:
        layer: A `torch.nn.RNN`, `LSTM` or `GRU`, one of torch's cells, or a steadygrad layer.

    Raises:
        TypeError: Any other module.
    """
    module: Any = layer
    if isinstance(layer, Recurrent):
        cell: Cell | None = layer.cell
    else:
        makers = (make for kind, make in TORCH_CELLS.items() if isinstance(layer, kind))
        cell = next((make(layer) for make in makers), None)
    if cell is None:
        raise TypeError(
            "expected a torch.nn.RNN, LSTM or GRU or a steadygrad layer, "
            f"got {type(layer).__name__}"
        )
    hidden = int(module.hidden_size)
    return LayerView(
        layer,
        cell,
        int(module.input_size),
        hidden,
        int(getattr(module, "proj_size", 0)) or hidden,
        int(getattr(module, "num_layers", 1)),
        2 if getattr(module, "bidirectional", False) else 1,
        isinstance(layer, nn.RNNCellBase),
    )


def is_viewable(module: nn.Module) -> bool:
    """Whether `view` takes a module."""
    return isinstance(module, (Recurrent, *TORCH_CELLS))


def layers_in(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Path and module of every layer that `view` takes, cells left out, in model order."""
    for path, module in model.named_modules():
        if is_viewable(module) and not isinstance(module, nn.RNNCellBase):
            yield path, module


def cell_of(layer: nn.Module) -> Cell:
    """The recurrence that a layer runs, torch's or ours.

    Raises:
        TypeError: Any other module.
    """
    return view(layer).cell


def twin_of(layer: nn.Module, dtype: torch.dtype | None = None) -> Recurrent:
    """Build our layer with the weights of a torch layer, or a copy of one of ours.

    Weights are those that are used: parametrised ones arrive as they are computed with.

    Args:
        layer: A `torch.nn.RNN`, `LSTM` or `GRU`, one of torch's cells, or a `Recurrent`.
        dtype: Of the twin; that of ``layer`` if not given.

    Raises:
        TypeError: Any other module.
    """
    seen = view(layer)
    weight: Any = seen.weights().weight_ih
    twin: Any = nn.utils.skip_init(
        Recurrent,
        seen.cell,
        seen.input_size,
        seen.hidden_size,
        num_layers=seen.num_layers,
        bias=bool(layer.bias),
        batch_first=seen.batch_first,
        bidirectional=seen.num_directions == 2,
        proj_size=seen.output_size if seen.output_size != seen.hidden_size else 0,
        learn_initial_state=getattr(layer, "learn_initial_state", False),
        device=weight.device,
        dtype=dtype or weight.dtype,
    )
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            own = name.removesuffix("_l0") if seen.is_step else name
            parameter.copy_(getattr(layer, own))
        for name, value in twin.named_buffers():  # constants of the cell
            value.copy_(getattr(layer, name))
    # What bounds or cuts its gradient is part of what it does.
    twin.truncate, twin.loop_clip, twin.burn_in = seen.truncate, seen.clip, seen.burn_in
    twin.train(layer.training)
    return twin
