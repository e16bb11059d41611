"""An LSTM whose states are images and whose products are convolutions."""

import math
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn, sigmoid, tanh
from torch.nn import functional as F

from steadygrad.nn.step_gradient import Looped

Images = tuple[Tensor, Tensor]


@final
class ConvLSTM(Looped):
    r"""Convolutional LSTM, with peepholes.

    .. math::
        i_t &= \sigma(W_i * X_t + R_i * H_{t-1} + p_i \odot C_{t-1} + b_i) \\
        f_t &= \sigma(W_f * X_t + R_f * H_{t-1} + p_f \odot C_{t-1} + b_f) \\
        C_t &= f_t \odot C_{t-1} + i_t \odot \tanh(W_g * X_t + R_g * H_{t-1} + b_g) \\
        o_t &= \sigma(W_o * X_t + R_o * H_{t-1} + p_o \odot C_t + b_o) \\
        H_t &= o_t \odot \tanh C_t

    with zero padding, so that the images keep their size. The gradient lives along the memory as
    in the LSTM, pixel by pixel: :math:`\partial C_t / \partial C_{t-1} = f_t` (and what the
    peepholes add).

    It is no `Cell` and is not compiled: a convolution mixes pixels inside a step, which a step of
    pointwise operations and matrix products cannot. The loop is plain torch; the gradient at every
    step is seen by `steadygrad.diagnose`, and through `on_step_gradient`.

    Args:
        input_size: Channels of the input, ``I``.
        hidden_size: Channels of the states, ``H``.
        size: Pixels along each axis: one to three of them. Needed by the peepholes.
        kernel_size: Width of both convolutions, odd.
        num_layers: Layers stacked.
        bias: Whether there is one.
        peephole: Whether the gates see the memory.
        batch_first: Whether input and output are ``(B, T, I, ...)``.
        device: Where the weights are made.
        dtype: Of the weights.

    Shapes:
        Input ``(T, B, I, *size)``, state ``(h, c)`` each ``(L, B, H, *size)``; output
        ``(T, B, H, *size)`` and the last state. ``weight_ih_l0 (4H, I, k, ...)``,
        ``weight_hh_l0 (4H, H, k, ...)``, ``bias_l0 (4H,)``, ``peephole_l0 (3, H, *size)`` for
        input, forget and output gate; gates in the order input, forget, candidate, output.

    Attributes:
        on_step_gradient: A `StepGradient`, or None. States are named ``h_l0``, ``c_l0``, ...

    Raises:
        ValueError: Options or an input of the wrong shape.

    References:
        Shi et al., *Convolutional LSTM Network*, NeurIPS 2015, equation 3.

    Example:
        >>> layer = ConvLSTM(1, 4, (8, 8), kernel_size=3)
        >>> layer(torch.randn(5, 2, 1, 8, 8))[0].shape
        torch.Size([5, 2, 4, 8, 8])
    """

    states: ClassVar[tuple[str, ...]] = ("h", "c")
    is_streaming: ClassVar[bool] = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        size: Sequence[int],
        kernel_size: int = 3,
        num_layers: int = 1,
        bias: bool = True,
        peephole: bool = True,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check(input_size, hidden_size, size, kernel_size, num_layers)
        self.input_size, self.hidden_size, self.size = input_size, hidden_size, tuple(size)
        self.kernel_size, self.num_layers = kernel_size, num_layers
        self.bias, self.peephole, self.batch_first = bias, peephole, batch_first
        kernel = (kernel_size,) * len(self.size)
        for layer in range(num_layers):
            width = hidden_size if layer else input_size
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (4 * hidden_size, width, *kernel),
                "weight_hh": (4 * hidden_size, hidden_size, *kernel),
            }
            shapes |= {"bias": (4 * hidden_size,)} if bias else {}
            shapes |= {"peephole": (3, hidden_size, *self.size)} if peephole else {}
            for name, shape in shapes.items():
                value = torch.empty(shape, device=device, dtype=dtype)
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(value))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights from U(-k, k), k = 1/√(H · kernel pixels); peepholes start at zero."""
        bound = 1 / math.sqrt(self.hidden_size * self.kernel_size ** len(self.size))
        for name, parameter in self.named_parameters():
            if name.startswith("peephole"):
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor, hx: Images | None = None) -> tuple[Tensor, Images]:
        """Run the layers; see the class for shapes."""
        wanted = (self.input_size, *self.size)
        if x.dim() != len(wanted) + 2 or tuple(x.shape[2:]) != wanted:
            raise ValueError(
                f"ConvLSTM: expected an input (T, B, {', '.join(map(str, wanted))}), "
                f"got {tuple(x.shape)}"
            )
        x = x.transpose(0, 1) if self.batch_first else x
        if x.shape[0] == 0:
            raise ValueError("ConvLSTM: expected at least one time step, got none")
        state = self._initial(x, hx)
        last: list[Images] = []
        for layer in range(self.num_layers):
            x, final = self._layer(x, (state[0][layer], state[1][layer]), layer)
            last.append(final)
        output = x.transpose(0, 1) if self.batch_first else x
        return output, (torch.stack([h for h, _ in last]), torch.stack([c for _, c in last]))

    def _initial(self, x: Tensor, hx: Images | None) -> Images:
        shape = (self.num_layers, x.shape[1], self.hidden_size, *self.size)
        if hx is None:
            return x.new_zeros(shape), x.new_zeros(shape)
        for name, value in zip(("h", "c"), hx, strict=True):
            if tuple(value.shape) != shape:
                raise ValueError(f"ConvLSTM: expected {name} {shape}, got {tuple(value.shape)}")
        return hx

    def _layer(self, x: Tensor, state: Images, layer: int) -> tuple[Tensor, Images]:
        def get(name: str) -> Tensor | None:
            return getattr(self, f"{name}_l{layer}", None)

        weight_ih, weight_hh, peep = get("weight_ih"), get("weight_hh"), get("peephole")
        assert weight_ih is not None and weight_hh is not None
        conv = (F.conv1d, F.conv2d, F.conv3d)[len(self.size) - 1]
        half = self.kernel_size // 2
        # The input's part is the same at every step: one convolution over all of them.
        from_x = conv(x.flatten(0, 1), weight_ih, get("bias"), padding=half)
        from_x = from_x.unflatten(0, x.shape[:2])
        h, c = state
        hidden = []
        for t, x_t in enumerate(from_x):
            i, f, g, o = (x_t + conv(h, weight_hh, padding=half)).chunk(4, 1)
            if peep is not None:
                i, f = i + peep[0] * c, f + peep[1] * c
            c = sigmoid(f) * c + sigmoid(i) * tanh(g)
            o = o if peep is None else o + peep[2] * c
            h = sigmoid(o) * tanh(c)
            self.offer(f"h_l{layer}", t, h)
            self.offer(f"c_l{layer}", t, c)
            hidden.append(h)
        return torch.stack(hidden), (h, c)

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, {self.size}, kernel_size={self.kernel_size}, "
            f"num_layers={self.num_layers}, peephole={self.peephole}"
        )


def _check(inputs: int, hidden: int, size: Sequence[int], kernel: int, layers: int) -> None:
    if min(inputs, hidden, layers) < 1:
        raise ValueError(
            "ConvLSTM: input_size, hidden_size and num_layers must be at least 1, got "
            f"{inputs}, {hidden}, {layers}"
        )
    if not 1 <= len(size) <= 3 or min(size) < 1:
        raise ValueError(f"ConvLSTM: size must be one to three positive numbers, got {size}")
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"ConvLSTM: kernel_size must be odd, got {kernel}")
