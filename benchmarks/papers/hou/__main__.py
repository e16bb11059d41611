"""Quantised LSTMs, Hou et al. 2019: bound and explosion at initialisation, and the table, in small.

Needs the characters of Penn Treebank in the folder STEADYGRAD_DATA (ptb/ptb.char.*).

python -m benchmarks.papers.hou [--help]
"""

import math
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks import quantised
from benchmarks.papers import harness
from benchmarks.papers.harness import Settings
from benchmarks.quantised import Budget, Characters
from steadygrad.flow import lstm_bound


def attempt(settings: Settings, seed: int) -> dict[str, Any]:
    """Look at one network at initialisation, or train it."""
    torch.manual_seed(seed)
    method, norm = settings["method"], settings["norm"]
    budget = Budget(**settings[settings["what"]])
    series, test, symbols = quantised.text(budget)
    model = Characters(symbols, method, norm, budget)
    if settings["what"] == "profile":
        return profile(model, series, budget)
    for done, bits in quantised.train(model, series, budget):
        harness.progress(f"{method}, {norm}: update {done}, {bits:.3f} bits")
    return {
        "bits": round(quantised.bits_per_character(model, test, budget), 3),
        "kilobytes": round(quantised.kilobytes(model, method)),
    }


def profile(model: Characters, series: torch.Tensor, budget: Budget) -> dict[str, Any]:
    """The bound of Proposition 1, and what the gradient really does."""
    x, _ = next(quantised.windows(series, budget))
    found = lstm_bound(model.lstm.rnn, F.one_hot(x, model.symbols).float())
    curve = quantised.gradient(model, series, budget, at_last=False)
    steps = quantised.passes(curve)
    root = math.sqrt if found.squared else float  # of batch norm the bound is one on squares
    return {
        "lambda1": round(root(float(found.lambda1.max())), 3),
        "lambda2": round(root(float(found.lambda2.max())), 3),
        "growth": round(curve[0] - curve[-1], 3),
        "thousandfold": math.inf if steps is None else steps,
    }


if __name__ == "__main__":
    harness.main(__file__, attempt)
