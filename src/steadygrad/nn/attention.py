"""Attention of a decoder over the states of an encoder."""

from typing import final

import torch
from torch import Tensor, nn


@final
class LuongAttention(nn.Module):
    r"""Global attention with the general score, after the recurrence.

    .. math::
        \alpha_{t,s} &= \operatorname{softmax}_s (h_t^\top W_a \bar h_s)
            &&\text{weights over source steps} \\
        \tilde h_t &= \tanh(W_c [\textstyle\sum_s \alpha_{t,s} \bar h_s ; h_t])

    The gradient of a loss at t reaches every source step in one step, however long ago it was.
    There is no input feeding, so that the decoder's recurrence needs no attention inside its loop,
    runs compiled, and all steps attend at once. (Bahdanau's additive form attends before the
    recurrence, inside the loop; it is not this one.)

    Args:
        hidden_size: Features of the decoder's states and of the result, ``H``.
        memory_size: Features of the encoder's states; ``H`` if not given.

    Shapes:
        ``query (T', B, H)``, ``memory (T, B, M)``; result ``(T', B, H)`` and weights
        ``(T', B, T)``, whose rows sum to one.

    References:
        Luong, Pham and Manning, *Effective Approaches to Attention-based Neural Machine
        Translation*, 2015, sections 3.1 (global, general).
    """

    def __init__(self, hidden_size: int, memory_size: int | None = None) -> None:
        super().__init__()
        memory_size = hidden_size if memory_size is None else memory_size
        self.score = nn.Linear(memory_size, hidden_size, bias=False)
        self.combine = nn.Linear(memory_size + hidden_size, hidden_size, bias=False)

    def forward(
        self, query: Tensor, memory: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend; ``lengths (B,)`` hides the padding of the memory."""
        if query.dim() != 3 or memory.dim() != 3 or query.shape[1] != memory.shape[1]:
            raise ValueError(
                "LuongAttention: expected query (T', B, H) and memory (T, B, M) with one B, got "
                f"{tuple(query.shape)} and {tuple(memory.shape)}"
            )
        scores = torch.einsum("qbh,sbh->qbs", query, self.score(memory))
        if lengths is not None:
            steps = torch.arange(memory.shape[0], device=memory.device)
            padding = steps >= lengths.to(memory.device)[:, None]
            scores = scores.masked_fill(padding, -torch.inf)
        weights = scores.softmax(-1)
        context = torch.einsum("qbs,sbm->qbm", weights, memory)
        return torch.tanh(self.combine(torch.cat([context, query], -1))), weights
