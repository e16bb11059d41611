"""What PyTorch can do to a layer, done to ours and to its own: a difference, or the answer."""

import warnings
from textwrap import shorten

import torch
from torch import nn

from benchmarks.machinery import graphs, modules, training, transforms
from benchmarks.machinery.layers import INPUTS, UNITS, Layer, Probe

TRIED: dict[str, Probe] = transforms.TRIED | graphs.TRIED | modules.TRIED | training.TRIED
"""By what is tried: a function of a layer in float64, which gives a difference or a word."""


def tried(what: str, kind: type[nn.Module]) -> str:
    """Do one thing to a layer; say how it went, in one line."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer: Layer = kind(INPUTS, UNITS).double()
        try:
            found = TRIED[what](layer)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            line = lines[0] or type(error).__name__
            return "refused: " + shorten(line.replace("|", "/"), 150, placeholder=" ...")
    return found if isinstance(found, str) else f"{found:.0e}"
