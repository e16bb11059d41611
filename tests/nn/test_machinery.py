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
    said, torchs = (tried(what, getattr(place, kind)) for place in (sg, nn))
    if what in OWN_REFUSALS:
        assert said.startswith("refused: ") and OWN_REFUSALS[what] in said
    else:
        check(said, torchs)


def check(said: str, torchs: str) -> None:
    """Hold our answer to torch's: as good, or the same words."""
    if said.startswith("refused: "):
        assert torchs.startswith("refused: ") and "Error" not in said, (said, torchs)
        return
    assert not WRONG.search(said) or said == torchs, said
    try:
        assert float(said) <= 1e-6
    except ValueError:
        own = "error" in said or "steadygrad" in said or "counted" in said or "double" in said
        assert own or said == torchs or torchs.startswith("refused: "), (said, torchs)
