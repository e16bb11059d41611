"""Sequence to sequence: one recurrence reads, another writes."""

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from steadygrad.cells import Cell
from steadygrad.nn.attention import LuongAttention
from steadygrad.nn.recurrent import Recurrent


def reverse_in_time(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Turn sequences ``(T, B, ...)`` round; the padding of shorter ones stays at the end.

    Args:
        x: Time first.
        lengths: ``(B,)``; all are T if not given.
    """
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0], device=x.device)[:, None]
    ends = lengths.to(x.device)[None]
    order = torch.where(steps < ends, ends - 1 - steps, steps)
    return x[order, torch.arange(x.shape[1], device=x.device)]


@final
class EncoderDecoder(nn.Module):
    r"""Encoder and decoder over tokens, with source reversal and attention as options.

    .. math::
        \bar h_s &= \mathrm{enc}(E x_s, \bar h_{s-1}), \qquad h_0 = \bar h_S \\
        h_t &= \mathrm{dec}(E' y_{t-1}, h_{t-1}), \qquad p(y_t) = \operatorname{softmax}(V h_t + b)

    With the source reversed, the average distance of a source token to its target stays the same,
    but the first ones come to lie next to each other: the shortest gradient path falls from S
    steps to 1, from where learning starts. With attention every path is one step
    (`LuongAttention`).

    `steadygrad.diagnose` sees ``encoder`` and ``decoder``; both run compiled where the cell is.
    Embeddings, attention and output layer are torch's operations.

    Args:
        source_size: Source tokens.
        target_size: Target tokens; ``y_0``, the start, is one of them.
        hidden_size: Units of both recurrences, ``H``.
        embedding_size: Features of a token; ``H`` if not given.
        num_layers: Layers of each.
        cell: The recurrence of both.
        reverse_source: Whether the encoder reads from the last token to the first.
        attention: Whether the decoder attends to the encoder's states.
        dropout: Between layers.
        **options: Of both `Recurrent` layers.

    Shapes:
        ``source (S, B)``, ``target (T, B)`` int64; logits ``(T, B, target_size)``.

    References:
        Sutskever, Vinyals and Le, *Sequence to Sequence Learning with Neural Networks*, 2014.

    Example:
        >>> model = EncoderDecoder(9, 9, 16)
        >>> source = torch.randint(9, (7, 4))
        >>> model(source, source).shape, model.write(source, 7, start=0).shape
        (torch.Size([7, 4, 9]), torch.Size([7, 4]))
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        hidden_size: int,
        embedding_size: int | None = None,
        num_layers: int = 1,
        cell: Cell | str = "lstm",
        reverse_source: bool = True,
        attention: bool = False,
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        if {"bidirectional", "batch_first", "proj_size"} & set(options):
            raise ValueError(
                "EncoderDecoder: bidirectional, batch_first and proj_size are not offered: the "
                "encoder's last state starts the decoder"
            )
        width = hidden_size if embedding_size is None else embedding_size
        options |= {"num_layers": num_layers, "dropout": dropout}
        self.reverse_source = reverse_source
        self.source_embedding = nn.Embedding(source_size, width)
        self.target_embedding = nn.Embedding(target_size, width)
        self.encoder = Recurrent(cell, width, hidden_size, **options)
        self.decoder = Recurrent(cell, width, hidden_size, **options)
        self.attention = LuongAttention(hidden_size) if attention else None
        self.readout = nn.Linear(hidden_size, target_size)

    def forward(self, source: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits of every target step, each given the true tokens before it.

        Args:
            source: ``(S, B)``.
            target: What the decoder reads, ``(T, B)``: the start token, then all but the last.
            lengths: Source lengths ``(B,)``; all are S if not given.
        """
        memory, state = self.read(source, lengths)
        hidden, _ = self.decoder(self.target_embedding(_tokens(target, "target")), state)
        return self._logits(hidden, memory, lengths)

    def read(self, source: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """The encoder's states ``(S, B, H)``, in the order it read, and its last state."""
        source = _tokens(source, "source")
        if lengths is not None and (lengths.shape != source.shape[1:] or int(lengths.min()) < 1):
            raise ValueError(
                f"EncoderDecoder: expected lengths ({source.shape[1]},) of at least 1, got "
                f"{tuple(lengths.shape)}"
            )
        read = reverse_in_time(source, lengths) if self.reverse_source else source
        embedded = self.source_embedding(read)
        if lengths is None:
            return self.encoder(embedded)
        packed = pack_padded_sequence(embedded, lengths.cpu(), enforce_sorted=False)
        output, state = self.encoder(packed)
        return pad_packed_sequence(output, total_length=source.shape[0])[0], state

    @torch.no_grad()
    def write(
        self, source: Tensor, steps: int, start: int, lengths: Tensor | None = None
    ) -> Tensor:
        """Write ``steps`` tokens ``(T, B)``, the most likely one each time, from ``start`` on."""
        memory, state = self.read(source, lengths)
        token = source.new_full((1, source.shape[1]), start)
        written = []
        for _ in range(steps):
            hidden, state = self.decoder(self.target_embedding(token), state)
            token = self._logits(hidden, memory, lengths).argmax(-1)
            written.append(token)
        return torch.cat(written)

    def _logits(self, hidden: Tensor, memory: Tensor, lengths: Tensor | None) -> Tensor:
        if self.attention is not None:
            hidden, _ = self.attention(hidden, memory, lengths)
        return self.readout(hidden)


def _tokens(x: Tensor, what: str) -> Tensor:
    if x.dim() != 2 or x.dtype != torch.long or not x.shape[0]:
        raise ValueError(
            f"EncoderDecoder: expected {what} tokens (T, B) of type int64 with T at least 1, got "
            f"{tuple(x.shape)} {x.dtype}"
        )
    return x
