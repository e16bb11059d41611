"""Characters of Penn Treebank, the LSTM of Cooijmans et al. 2016, in small.

Needs the characters of Penn Treebank in the folder STEADYGRAD_DATA (ptb/ptb.char.*).

python -m benchmarks.papers.ptb [--help]
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

import steadygrad as sg
from benchmarks import quantised
from benchmarks.papers import harness
from benchmarks.papers.harness import Settings
from benchmarks.quantised import Budget

State = tuple[Tensor, Tensor]


class Predictor(nn.Module):
    """One-hot characters, one LSTM layer that starts orthogonal, a linear read-out."""

    def __init__(self, symbols: int, units: int) -> None:
        super().__init__()
        self.symbols = symbols
        self.rnn = sg.LSTM(symbols, units)
        self.head = nn.Linear(units, symbols)
        for name in ("weight_ih_l0", "weight_hh_l0"):
            for block in self.rnn.get_parameter(name).detach().chunk(4):
                nn.init.orthogonal_(block)

    def forward(self, tokens: Tensor, state: State | None) -> tuple[Tensor, State]:
        output, last = self.rnn(one_hot(tokens, self.symbols).float(), state)
        return self.head(output), (last[0].detach(), last[1].detach())


def attempt(settings: Settings, seed: int) -> dict[str, Any]:
    """Train one network; bits per character of the test text."""
    torch.manual_seed(seed)
    budget = Budget(**settings["training"])
    series, test, symbols = quantised.text(budget)
    model = Predictor(symbols, budget.hidden)
    for done, bits in quantised.train(model, series, budget):
        harness.progress(f"seed {seed}: update {done}, {bits:.3f} bits")
    return {"bits": round(quantised.bits_per_character(model, test, budget), 4)}


if __name__ == "__main__":
    harness.main(__file__, attempt)
