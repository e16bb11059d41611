"""An LSTM that simulates: inputs in, outputs out, its first state read off the record's start."""

from typing import Any

import torch
from torch import Tensor, nn

import steadygrad as sg
from benchmarks.papers import harness

Record = tuple[Tensor, Tensor]
"""Input and output ``(T, 1, 1)``."""


class Simulator(nn.Module):
    """LSTM and a linear read-out; a linear map of the first steps gives h and c before the rest.

    Args:
        begin: How many true inputs and outputs it is shown.
        hidden: Units.
    """

    def __init__(self, begin: int, hidden: int) -> None:
        super().__init__()
        self.begin = begin
        self.start = nn.Linear(2 * begin, 2 * hidden)
        self.rnn = sg.LSTM(1, hidden)
        self.head = nn.Linear(hidden, 1)

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        """Outputs after the first ``begin`` steps, ``(T - begin, B, 1)``."""
        seen = torch.cat([u[: self.begin], y[: self.begin]])[..., 0].t()
        h, c = self.start(seen).chunk(2, -1)
        state = (h.tanh()[None].contiguous(), c[None].contiguous())
        return self.head(self.rnn(u[self.begin :], state)[0])


def fit(fitted: Record, val: Record, options: dict[str, Any], begin: int) -> Simulator:
    """Train on random windows; the weights that simulate the validation record best are kept."""
    u, y = fitted
    model = Simulator(begin, options["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), options["learning_rate"])
    best, kept = float("inf"), {n: v.clone() for n, v in model.state_dict().items()}
    length = begin + options["window"]
    for update in range(options["updates"]):
        starts = torch.randint(len(u) - length + 1, (options["batch"],)).tolist()
        windows = [torch.cat([s[t : t + length] for t in starts], 1) for s in (u, y)]
        loss = (model(*windows) - windows[1][begin:]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if update % 50 == 49:
            with torch.no_grad():
                error = float((model(*val) - val[1][begin:]).square().mean())
            if error < best:
                best, kept = error, {n: v.clone() for n, v in model.state_dict().items()}
            harness.progress(f"LSTM {update + 1}: {loss.item():.4f}, validation {error:.4f}")
    model.load_state_dict(kept)
    return model
