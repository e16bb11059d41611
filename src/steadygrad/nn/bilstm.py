"""An LSTM that reads both ways, and what it knows at the end."""

from typing import Any, final

import torch
from torch import Tensor

from steadygrad.cells import LSTM as LSTMCell
from steadygrad.nn.recurrent import Recurrent


@final
class BiLSTM(Recurrent):
    r"""A forward and a backward LSTM, `torch.nn.LSTM` with ``bidirectional=True``.

    .. math::
        y_t = [\overrightarrow{h}_t ; \overleftarrow{h}_t]

    The gradient of a loss at step t flows to both ends. A read-out of the whole sequence must not
    take ``output[-1]``: there the backward half has read one step only. `ends` takes what each
    direction has made after all steps, :math:`[\overrightarrow{h}_T ; \overleftarrow{h}_1]`.

    Args:
        input_size: Features of the input.
        hidden_size: Features of each direction.
        **options: As `Recurrent`, all but ``bidirectional``.

    References:
        Schuster and Paliwal, *Bidirectional Recurrent Neural Networks*, 1997.
        Graves and Schmidhuber, *Framewise Phoneme Classification with Bidirectional LSTM*, 2005.

    Example:
        >>> layer = BiLSTM(3, 8)
        >>> output, last = layer(torch.randn(20, 4, 3))
        >>> torch.equal(layer.ends(last), torch.cat([output[-1, :, :8], output[0, :, 8:]], -1))
        True
    """

    def __init__(self, input_size: int, hidden_size: int, *options: Any, **named: Any) -> None:
        if "bidirectional" in named or len(options) > 4:
            raise ValueError("BiLSTM runs both ways: leave out bidirectional, name later options")
        super().__init__(LSTMCell(), input_size, hidden_size, *options, bidirectional=True, **named)

    def ends(self, last: tuple[Tensor, Tensor]) -> Tensor:
        """What each direction of the top layer knows after all steps of each sequence.

        Args:
            last: The second result of the layer. For packed sequences it ends where each ends.

        Returns:
            ``(B, 2P)``, or ``(2P,)`` for an unbatched call.
        """
        h = last[0]
        if h.shape[0] != 2 * self.num_layers:
            raise ValueError(
                f"BiLSTM.ends: expected the final (h, c) with {2 * self.num_layers} rows of h, "
                f"got h of shape {tuple(h.shape)}; pass the second result of the layer"
            )
        return torch.cat([h[-2], h[-1]], -1)
