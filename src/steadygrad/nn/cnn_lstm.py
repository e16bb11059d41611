"""Convolutions that see a window or a frame, and a recurrence over what they found."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, final

from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.cells import Cell
from steadygrad.nn.recurrent import Recurrent


@final
class CNNLSTM(nn.Module):
    r"""Convolutional features, then a recurrent layer: CNN-LSTM.

    - Series (``dims=1``): convolutions along time, each followed by ReLU and max pooling by
      ``pool``, so that the recurrence takes :math:`T / \text{pool}^n` steps. The gradient has that
      much less far to go.
    - Frames (``dims=2``): the same convolutions over each frame, averaged over its pixels; the
      recurrence takes T steps.

    There is no canonical equation beyond the composition. `steadygrad.diagnose` sees ``rnn``
    inside, and any cell of the house runs there; only it is compiled, the convolutions are torch's.

    Args:
        input_size: Features of a series, or channels of a frame, ``I``.
        hidden_size: Units of the recurrence, ``H``.
        channels: Channels of each convolution.
        kernel_size: Width of each, odd.
        pool: Pooling after each; 1 for none.
        dims: 1 for series, 2 for frames.
        causal: Series only: pad on the left alone, so that no step sees a later one beyond its
            pooling window.
        cell: The recurrence.
        batch_first: Whether input and output have the batch first.
        **options: As `Recurrent`: ``num_layers``, ``bidirectional``, ``dropout``, ...

    Shapes:
        Input ``(T, B, I)``, or frames ``(T, B, I, Y, X)``. Output ``(T', B, D*H)`` with ``T' = T``
        for frames, else T floor-divided by ``pool`` once per convolution; and the last state.

    Raises:
        ValueError: An even kernel, a pool below 1, dims other than 1 or 2, an input too short.

    References:
        Donahue et al., *Long-term Recurrent Convolutional Networks*, 2015 (frames).
        Sainath et al., *Convolutional, Long Short-Term Memory, Fully Connected DNNs*, 2015.

    Example:
        >>> layer = CNNLSTM(6, 16, channels=(8,), pool=2)
        >>> layer(torch.randn(100, 4, 6))[0].shape
        torch.Size([50, 4, 16])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        channels: Sequence[int] = (32,),
        kernel_size: int = 5,
        pool: int = 2,
        dims: int = 1,
        causal: bool = False,
        cell: Cell | str = "lstm",
        batch_first: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        _check(channels, kernel_size, pool, dims, causal)
        conv = nn.Conv1d if dims == 1 else nn.Conv2d
        widths = [input_size, *channels]
        self.kernel_size, self.pool, self.dims, self.causal = kernel_size, pool, dims, causal
        self.input_size, self.batch_first = input_size, batch_first
        self.convs = nn.ModuleList(conv(a, b, kernel_size) for a, b in pairwise(widths))
        self.rnn = Recurrent(cell, widths[-1], hidden_size, **options)

    def features(self, x: Tensor) -> Tensor:
        """What the recurrence reads: ``(T', B, channels)`` of an input with time first."""
        if self.dims == 2:
            frames = self._convolve(x.flatten(0, 1)).flatten(2).mean(-1)
            return frames.unflatten(0, x.shape[:2])
        return self._convolve(x.permute(1, 2, 0)).permute(2, 0, 1)

    def forward(self, x: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """Run convolutions and recurrence; see the class for shapes."""
        axes, width = (3 if self.dims == 1 else 5), self.input_size
        if x.dim() != axes or x.shape[2] != width:
            kind = f"(T, B, {width})" if self.dims == 1 else f"(T, B, {width}, Y, X)"
            raise ValueError(f"CNNLSTM: expected an input {kind}, got {tuple(x.shape)}")
        x = x.transpose(0, 1) if self.batch_first else x
        if x.shape[0] < self.pool ** len(self.convs) and self.dims == 1:
            raise ValueError(
                f"CNNLSTM: {x.shape[0]} time steps are fewer than one pooled step "
                f"({self.pool ** len(self.convs)}); use a smaller pool"
            )
        output, last = self.rnn(self.features(x), hx)
        return (output.transpose(0, 1) if self.batch_first else output), last

    def _convolve(self, x: Tensor) -> Tensor:
        half = self.kernel_size - 1
        sides = [half, 0] if self.causal else [half // 2, half // 2]
        pool = F.max_pool1d if self.dims == 1 else F.max_pool2d
        for conv in self.convs:
            x = F.relu(conv(F.pad(x, sides * self.dims)))
            x = pool(x, self.pool) if self.pool > 1 else x
        return x


def _check(channels: Sequence[int], kernel: int, pool: int, dims: int, causal: bool) -> None:
    if not channels or min(channels) < 1:
        raise ValueError(f"CNNLSTM: channels must name at least one convolution, got {channels}")
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"CNNLSTM: kernel_size must be odd, got {kernel}")
    if pool < 1:
        raise ValueError(f"CNNLSTM: pool must be at least 1, got {pool}")
    if dims not in (1, 2):
        raise ValueError(f"CNNLSTM: dims must be 1 (series) or 2 (frames), got {dims}")
    if causal and dims == 2:
        raise ValueError("CNNLSTM: causal is for series (dims=1); frames are causal as they are")
