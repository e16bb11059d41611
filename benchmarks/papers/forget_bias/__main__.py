"""The forget bias, Jozefowicz et al. 2015: an LSTM with and without, and a GRU, on synthetic XML.

python -m benchmarks.papers.forget_bias [--help]
"""

from typing import Any

import torch
from torch import Tensor, nn

import steadygrad as sg
from benchmarks.papers import harness
from benchmarks.papers.forget_bias.xml import SYMBOLS, stream
from benchmarks.papers.harness import Settings
from steadygrad.remedies import ForgetBias

State = Tensor | tuple[Tensor, ...] | None


class Predictor(nn.Module):
    """One-hot symbols, recurrent layers, softmax; weights uniform in ±scale/√units, as there."""

    def __init__(self, cell: str, units: int, layers: int, scale: float) -> None:
        super().__init__()
        self.rnn = sg.Recurrent(cell, len(SYMBOLS), units, num_layers=layers)
        self.head = nn.Linear(units, len(SYMBOLS))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -scale / units**0.5, scale / units**0.5)

    def forward(self, symbols: Tensor, state: State) -> tuple[Tensor, State]:
        output, last = self.rnn(nn.functional.one_hot(symbols, len(SYMBOLS)).float(), state)
        return self.head(output), parted(last)


def parted(state: Tensor | tuple[Tensor, ...]) -> State:
    """The state, without what led to it."""
    if isinstance(state, Tensor):
        return state.detach()
    return tuple(s.detach() for s in state)


def attempt(settings: Settings, seed: int) -> dict[str, Any]:
    """Train on one stream, score the next symbol on another."""
    torch.manual_seed(seed)
    options = settings["training"]
    model = Predictor(settings["cell"], **settings["model"])
    if settings["bias"]:
        ForgetBias(settings["bias"]).apply(model)
    optimizer = torch.optim.SGD(model.parameters(), options["learning_rate"])
    batch, unroll = options["batch"], options["unroll"]
    text = stream(batch * (unroll * options["updates"] + 1), 1000 + seed).view(batch, -1).t()
    state: State = None
    for update in range(options["updates"]):
        x = text[update * unroll : (update + 1) * unroll + 1]
        logits, state = model(x[:-1], state)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), x[1:].flatten(), reduction="sum")
        optimizer.zero_grad()
        (loss / batch).backward()  # summed over time, as in the paper's code base
        nn.utils.clip_grad_norm_(model.parameters(), options["clip"])
        optimizer.step()
        if update % 50 == 0:
            nats = loss.item() / x[1:].numel()
            harness.progress(f"{settings['label']}, seed {seed}: {update}, {nats:.3f} nats")
    return {"accuracy": accuracy(model, options)}


@torch.no_grad()
def accuracy(model: Predictor, options: Settings) -> float:
    """Share of symbols foreseen on a stream that no seed was trained on, in percent."""
    text = stream(options["test"], 999).view(options["batch"], -1).t()
    logits, _ = model.eval()(text[:-1], None)
    return round(100 * float((logits.argmax(-1) == text[1:]).float().mean()), 3)


if __name__ == "__main__":
    harness.main(__file__, attempt)
