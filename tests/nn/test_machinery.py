"""Whatever PyTorch can do to its own layers can be done to ours, or is refused in one line."""

import re

import pytest
from benchmarks.machinery import TRIED, tried
from torch import nn

import steadygrad as sg

OWN_REFUSALS = {
    "gradients by sample (expanded weights)": "Expanded Weights encountered",
    "`torch.jit.script`": "use torch.jit.trace",
    "`quantize_dynamic`": "to_torch()",
}
"""Refused by ours alone, with what the line says."""
QUICK = ("functional_call", "input of another", "second", "orthogonal", "`optim.LBFGS`")
WRONG = re.compile("INTERNAL ASSERT|report a bug|NOT |OFF by|without a word|^lacks|taken")


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(
    "what",
    [w if any(q in w for q in QUICK) else pytest.param(w, marks=pytest.mark.slow) for w in TRIED],
)
def test_it_works_as_on_torchs_layer_or_is_refused_in_a_line(what: str, kind: str) -> None:
    said = tried(what, getattr(sg, kind))
    if what in OWN_REFUSALS:
        assert said.startswith("refused: ") and OWN_REFUSALS[what] in said
        return
    torchs = tried(what, getattr(nn, kind))
    if said.startswith("refused: "):
        assert torchs.startswith("refused: ") and "Error" not in said, (said, torchs)
    assert not WRONG.search(said) or said == torchs, said
    try:
        assert float(said) <= 1e-6
    except ValueError:
        if not torchs.startswith("refused: ") and "error" not in said and "counted" not in said:
            assert said == torchs or "steadygrad" in said
