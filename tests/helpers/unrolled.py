"""An independent oracle: torch's layers unrolled by hand, every h_t an ordinary tensor.

Written from the formulas of the torch documentation, one sequence at a time, so that it shares
neither code nor layout with the library.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Unrolled:
    """Outputs per sequence, final h per layer and direction, and every h_t with its gradient."""

    outputs: list[Tensor]
    hidden: dict[tuple[int, bool, int, int], Tensor]  # (layer, reverse, time step, sequence)
    last: dict[tuple[int, bool, int], Tensor]

    def log10_norm(self, layer: int, reverse: bool, t: int) -> float:
        """log10 of |dL/dh_t| over all sequences that reach ``t``."""
        grads = [
            h.grad
            for (l, r, s, _), h in self.hidden.items()
            if (l, r, s) == (layer, reverse, t) and h.grad is not None
        ]
        return float(torch.cat(grads).norm().log10())


def _step(layer: nn.RNNBase, weights: list[Tensor], x: Tensor, state: list[Tensor]) -> list[Tensor]:
    w_ih, w_hh = weights[:2]
    b_ih, b_hh = weights[2:4] if layer.bias else (torch.zeros(()), torch.zeros(()))
    a, b = w_ih @ x + b_ih, w_hh @ state[0] + b_hh
    if isinstance(layer, nn.LSTM):
        i, f, g, o = (a + b).chunk(4)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return [weights[-1] @ h if layer.proj_size else h, c]
    if isinstance(layer, nn.GRU):
        (ar, az, an), (br, bz, bn) = a.chunk(3), b.chunk(3)
        z = (az + bz).sigmoid()
        n = (an + (ar + br).sigmoid() * bn).tanh()
        return [(1 - z) * n + z * state[0]]
    return [(a + b).tanh() if layer.nonlinearity == "tanh" else (a + b).relu()]


def unroll(layer: nn.RNNBase, sequences: list[Tensor]) -> Unrolled:
    """Run ``layer`` over sequences ``(T_b, I)``, keeping every h_t's gradient."""
    result = Unrolled([], {}, {})
    width = layer.proj_size or layer.hidden_size
    for row, sequence in enumerate(sequences):
        below = list(sequence)
        for index in range(layer.num_layers):
            made = []
            for reverse in (False, True)[: 1 + layer.bidirectional]:
                weights = layer.all_weights[index * (1 + layer.bidirectional) + reverse]
                state = [sequence.new_zeros(width), sequence.new_zeros(layer.hidden_size)]
                order = list(range(len(below)))[:: -1 if reverse else 1]
                hidden: dict[int, Tensor] = {}
                for t in order:
                    state = _step(layer, weights, below[t], state)  # type: ignore[arg-type]
                    state[0].retain_grad()
                    hidden[t] = state[0]
                    result.hidden[index, reverse, t, row] = state[0]
                result.last[index, reverse, row] = state[0]
                made.append(hidden)
            below = [torch.cat([m[t] for m in made]) for t in range(len(below))]
        result.outputs.append(torch.stack(below))
    return result
