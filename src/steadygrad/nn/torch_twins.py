"""Drop-in layers: the names, arguments and weights of `torch.nn.RNN`, `LSTM` and `GRU`."""

import weakref
from collections.abc import Sequence
from typing import Any, Literal, final, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from steadygrad.cells import GRU as GRUCell
from steadygrad.cells import LSTM as LSTMCell
from steadygrad.cells import Elman
from steadygrad.nn.checks import refuse_unknown
from steadygrad.nn.recurrent import Recurrent

Lengths = Tensor | Sequence[int] | None
Resets = PackedSequence | None

Pair = tuple[Tensor, Tensor]


class _DropIn(Recurrent, nn.RNNBase):
    """What code written for `torch.nn.RNNBase` reads, beside what `Recurrent` has.

    The base class makes ``isinstance(layer, torch.nn.RNNBase)`` true and brings ``check_input``,
    ``get_expected_hidden_size`` and their like. It is not `torch.nn.LSTM` itself: torch.compile
    refuses to trace any instance of that. What RNNBase keeps in step with its list of flat weights
    is taken from `torch.nn.Module` again, for here the list is made when it is read.
    """

    __setattr__ = nn.Module.__setattr__  # pyright: ignore[reportAssignmentType]
    _replicate_for_data_parallel = nn.Module._replicate_for_data_parallel  # pyright: ignore[reportAssignmentType]

    def _init_flat_weights(self) -> None:
        """Do nothing: the list is made when it is read."""

    _update_flat_weights = _init_flat_weights

    def _weights_have_changed(self) -> bool:
        return False

    @property
    def _all_weights(self) -> list[list[str]]:
        """Names of the weights, one list per layer and direction."""
        return [
            [name + suffix for name in self._names]
            for layer in range(self.num_layers)
            for suffix in self._suffixes(layer)
        ]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> list[Any]:
        """Weights as they are used: a pruned or parametrised one is no parameter."""
        return [getattr(self, name, None) for name in self._flat_weights_names]

    @property
    def _flat_weight_refs(self) -> list[Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return [None if w is None else weakref.ref(w) for w in self._flat_weights]

    def to_torch(self) -> Any:
        """Build torch's layer of the same name with copies of the weights.

        What bounds or cuts the gradient here (``loop_clip``, ``truncate``, ``checkpoint``,
        ``burn_in``) torch's layers do not have: the values are the same, the gradient then is the
        whole one.

        Raises:
            ValueError: torch has no such layer: an RNN with the sigmoid, or an initial state that
                is learnt.
        """
        if self.learn_initial_state:
            raise ValueError(
                f"torch.nn.{type(self).__name__} has no learnt initial state: it would begin at "
                "zeros and compute something else. Copy the weights into a layer without "
                "learn_initial_state, and hand the states in as hx"
            )
        if self.mode not in _TORCH_MODES:
            raise ValueError(f"torch.nn.RNN has no {self.mode.removeprefix('RNN_').lower()}")
        named: dict[str, Any] = {}
        if self.mode.startswith("RNN"):
            named["nonlinearity"] = self.mode[4:].lower()
        if self.proj_size:
            named["proj_size"] = self.proj_size
        twin = _TORCH_MODES[self.mode](
            self.input_size,
            self.hidden_size,
            self.num_layers,
            bias=self.bias,
            batch_first=self.batch_first,
            bidirectional=self.bidirectional,
            device=self._flat_weights[0].device,
            dtype=self._flat_weights[0].dtype,
            **named,
        )
        twin.dropout = self.dropout  # set, not given: of one layer torch would warn again
        with torch.no_grad():
            for name in self._flat_weights_names:
                weight = getattr(self, name)
                getattr(twin, name).copy_(weight).requires_grad_(weight.requires_grad)
        return twin.train(self.training)


_TORCH_MODES: dict[str, Any] = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "RNN_TANH": nn.RNN,
    "RNN_RELU": nn.RNN,
}


@final
class RNN(_DropIn):
    r"""`torch.nn.RNN` with the gradient visible at every time step; also ``"sigmoid"``.

    .. math:: h_t = \phi(W x_t + b_{ih} + R h_{t-1} + b_{hh})

    Same arguments, shapes, weights and ``state_dict`` as `torch.nn.RNN`; what is new is keyword
    only.

    Args:
        input_size: Features of the input, ``I``.
        hidden_size: Features of the hidden state, ``H``.
        num_layers: Layers stacked, ``L``.
        nonlinearity: ``"tanh"``, ``"relu"`` or ``"sigmoid"`` (which torch does not have).
        bias: Whether the layers have ``bias_ih`` and ``bias_hh``.
        batch_first: Whether input and output are ``(B, T, ·)`` instead of ``(T, B, ·)``.
        dropout: Probability of dropping an element of the output of each layer but the last.
        bidirectional: Whether a second scan runs from the last time step to the first.
        device: Where the weights are made.
        dtype: Of the weights.
        backend, truncate, checkpoint, learn_initial_state, burn_in: As `steadygrad.Recurrent`.

    Shapes:
        Input ``(T, B, I)``, with ``batch_first`` ``(B, T, I)``, unbatched ``(T, I)``, or a
        `PackedSequence`; ``hx`` ``(L*D, B, H)``, zeros if not given. Output ``(T, B, D*H)`` and the
        last state ``(L*D, B, H)``, with ``D`` directions. See `steadygrad.Recurrent` for codes of
        symbols, ``lengths``, ``resets`` and autocast.
    """

    @refuse_unknown
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu", "sigmoid"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str | None = None,
        truncate: int | None = None,
        checkpoint: bool = False,
        learn_initial_state: bool = False,
        burn_in: int = 0,
    ) -> None:
        super().__init__(
            Elman(nonlinearity),
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
            backend=backend,
            truncate=truncate,
            checkpoint=checkpoint,
            learn_initial_state=learn_initial_state,
            burn_in=burn_in,
        )
        self.mode = f"RNN_{nonlinearity.upper()}"

    @property
    def nonlinearity(self) -> str:
        """The cell's nonlinearity."""
        assert isinstance(self.cell, Elman)
        return self.cell.nonlinearity

    @overload
    def forward(
        self,
        input: Tensor,
        hx: Tensor | None = None,
        lengths: Lengths = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]: ...
    @overload
    def forward(
        self,
        input: PackedSequence,
        hx: Tensor | None = None,
        lengths: None = None,
        resets: Resets = None,
    ) -> tuple[PackedSequence, Tensor]: ...
    def forward(
        self, input: Any, hx: Any = None, lengths: Any = None, resets: Any = None
    ) -> tuple[Any, Any]:
        """Run the layers; see the class for shapes."""
        return super().forward(input, hx, lengths, resets)


@final
class LSTM(_DropIn):
    r"""`torch.nn.LSTM` with the gradient visible at every time step.

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + b_i) \qquad f_t = \sigma(W_f x_t + R_f h_{t-1} + b_f)

        g_t &= \tanh(W_g x_t + R_g h_{t-1} + b_g) \qquad o_t = \sigma(W_o x_t + R_o h_{t-1} + b_o)

        c_t &= f_t c_{t-1} + i_t g_t \qquad h_t = o_t \tanh(c_t)

    Same arguments, shapes, weights and ``state_dict`` as `torch.nn.LSTM`; what is new is keyword
    only.

    Args:
        input_size: Features of the input, ``I``.
        hidden_size: Features of the states, ``H``.
        num_layers: Layers stacked, ``L``.
        bias: Whether the layers have ``bias_ih`` and ``bias_hh``.
        batch_first: Whether input and output are ``(B, T, ·)`` instead of ``(T, B, ·)``.
        dropout: Probability of dropping an element of the output of each layer but the last.
        bidirectional: Whether a second scan runs from the last time step to the first.
        proj_size: If positive, h is projected to so many features.
        device: Where the weights are made.
        dtype: Of the weights.
        backend, truncate, checkpoint, learn_initial_state, burn_in: As `steadygrad.Recurrent`.

    Shapes:
        Input ``(T, B, I)``, with ``batch_first`` ``(B, T, I)``, unbatched ``(T, I)``, or a
        `PackedSequence`; ``hx`` is ``(h, c)``, ``(L*D, B, P)`` and ``(L*D, B, H)``, zeros if not
        given. Output ``(T, B, D*P)`` and the last ``(h, c)``, with ``D`` directions and
        ``P = proj_size or hidden_size``. See `steadygrad.Recurrent` for codes of symbols,
        ``lengths``, ``resets`` and autocast.

    Example:
        >>> output, (h, c) = LSTM(3, 8, batch_first=True)(torch.randn(4, 20, 3))
        >>> output.shape, c.shape
        (torch.Size([4, 20, 8]), torch.Size([1, 4, 8]))
    """

    get_expected_cell_size = nn.LSTM.get_expected_cell_size
    check_forward_args = nn.LSTM.check_forward_args  # pyright: ignore[reportAssignmentType]
    permute_hidden = nn.LSTM.permute_hidden  # pyright: ignore[reportAssignmentType]

    @refuse_unknown
    def __init__(
        self,
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
        *,
        backend: str | None = None,
        truncate: int | None = None,
        checkpoint: bool = False,
        learn_initial_state: bool = False,
        burn_in: int = 0,
    ) -> None:
        super().__init__(
            LSTMCell(),
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
            backend,
            truncate,
            checkpoint,
            learn_initial_state,
            burn_in,
        )
        self.mode = "LSTM"

    @overload
    def forward(
        self,
        input: Tensor,
        hx: Pair | None = None,
        lengths: Lengths = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, Pair]: ...
    @overload
    def forward(
        self,
        input: PackedSequence,
        hx: Pair | None = None,
        lengths: None = None,
        resets: Resets = None,
    ) -> tuple[PackedSequence, Pair]: ...
    def forward(
        self, input: Any, hx: Any = None, lengths: Any = None, resets: Any = None
    ) -> tuple[Any, Any]:
        """Run the layers; see the class for shapes."""
        return super().forward(input, hx, lengths, resets)


@final
class GRU(_DropIn):
    r"""`torch.nn.GRU` with the gradient visible at every time step.

    .. math::
        r_t &= \sigma(W_r x_t + b_{ir} + R_r h_{t-1} + b_{hr}) \qquad
        z_t = \sigma(W_z x_t + b_{iz} + R_z h_{t-1} + b_{hz})

        n_t &= \tanh(W_n x_t + b_{in} + r_t (R_n h_{t-1} + b_{hn})) \qquad
        h_t = (1 - z_t) n_t + z_t h_{t-1}

    Same arguments, shapes, weights and ``state_dict`` as `torch.nn.GRU`; what is new is keyword
    only. The GRU of the paper, which resets before the product, is the cell ``gru-original``.

    Args:
        input_size: Features of the input, ``I``.
        hidden_size: Features of the hidden state, ``H``.
        num_layers: Layers stacked, ``L``.
        bias: Whether the layers have ``bias_ih`` and ``bias_hh``.
        batch_first: Whether input and output are ``(B, T, ·)`` instead of ``(T, B, ·)``.
        dropout: Probability of dropping an element of the output of each layer but the last.
        bidirectional: Whether a second scan runs from the last time step to the first.
        device: Where the weights are made.
        dtype: Of the weights.
        backend, truncate, checkpoint, learn_initial_state, burn_in: As `steadygrad.Recurrent`.

    Shapes:
        Input ``(T, B, I)``, with ``batch_first`` ``(B, T, I)``, unbatched ``(T, I)``, or a
        `PackedSequence`; ``hx`` ``(L*D, B, H)``, zeros if not given. Output ``(T, B, D*H)`` and the
        last state ``(L*D, B, H)``, with ``D`` directions. See `steadygrad.Recurrent` for codes of
        symbols, ``lengths``, ``resets`` and autocast, under which output and state are as torch's
        here: on a CPU in the dtype of the state before the first step (of the input, if none is
        given) where that is wider than autocast's.
    """

    @refuse_unknown
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str | None = None,
        truncate: int | None = None,
        checkpoint: bool = False,
        learn_initial_state: bool = False,
        burn_in: int = 0,
    ) -> None:
        super().__init__(
            GRUCell(),
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
            backend=backend,
            truncate=truncate,
            checkpoint=checkpoint,
            learn_initial_state=learn_initial_state,
            burn_in=burn_in,
        )
        self.mode = "GRU"

    def _autocast_dtype(self, lower: torch.dtype, start: Tensor) -> torch.dtype:
        # Torch's GRU on a CPU adds to the state in the wider dtype of the two; that of cuDNN not.
        return torch.promote_types(lower, start.dtype) if start.is_cpu else lower

    @overload
    def forward(
        self,
        input: Tensor,
        hx: Tensor | None = None,
        lengths: Lengths = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]: ...
    @overload
    def forward(
        self,
        input: PackedSequence,
        hx: Tensor | None = None,
        lengths: None = None,
        resets: Resets = None,
    ) -> tuple[PackedSequence, Tensor]: ...
    def forward(
        self, input: Any, hx: Any = None, lengths: Any = None, resets: Any = None
    ) -> tuple[Any, Any]:
        """Run the layers; see the class for shapes."""
        return super().forward(input, hx, lengths, resets)
