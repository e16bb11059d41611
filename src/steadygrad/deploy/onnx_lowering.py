"""A scan in the words of ONNX: its own LSTM, GRU and RNN, else one node that `onnx_scan` fills."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steadygrad.cells import GRU, LSTM, Cell, Elman
from steadygrad.deploy.onnx_functions import decompositions
from steadygrad.scan import is_codes
from steadygrad.scan.operators.schema import names_of, read
from steadygrad.scan.projection import project
from steadygrad.scan.weights import Weights

DOMAIN = "steadygrad"
NODE = "Recurrence"
ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""Which of our gates comes first, second, ... in ONNX: i, o, f, c and z, r, h."""
OWN = ("tanh", "relu", "sigmoid")
"""Nonlinearities that ONNX's RNN has."""


def table(opset: int) -> dict[Any, Any]:
    """What `torch.export.ExportedProgram.run_decompositions` puts in the operator's place."""

    def lowered(
        cell: str, names: str, reverse: bool, sizes: Tensor | None, tensors: list[Tensor]
    ) -> list[Tensor]:
        return _lowered(cell, names, reverse, sizes, tensors, opset)

    def sorted_by(
        value: Tensor, *, stable: bool | None, dim: int = -1, descending: bool = False
    ) -> Any:
        # Which of two rows of one length comes first changes no result, for both are put back.
        return torch.ops.aten.sort.default(value, dim, descending)

    return decompositions() | {
        torch.ops.steadygrad.scan.default: lowered,
        torch.ops.aten.sort.stable: sorted_by,  # the exporter does not know it
    }


def _lowered(
    text: str,
    names: str,
    reverse: bool,
    sizes: Tensor | None,
    tensors: list[Tensor],
    opset: int,
) -> list[Tensor]:
    cell, own = read(text)[0], names_of(names)
    first = len(own) - len(cell.states)
    x, state = tensors[0], tensors[first:]
    end = own.index("resets") if "resets" in own else first
    weights = Weights.from_flat(own[1:end], tensors[1:end])
    batch = state[0].shape[0]
    wide, mask = _padded(x, sizes, batch)
    begins = None if end == first else _padded(tensors[end], sizes, batch)[0].unsqueeze(2)
    # ONNX's own operators cannot reset the state within a sequence.
    kind = None if begins is not None else _operator(cell, weights)
    if kind is not None:
        hidden, last = _by_operator(kind, cell, weights, wide, mask, state, reverse, opset)
    else:
        projected = project(wide.flatten(0, 1), weights.weight_ih, weights.bias_ih)
        projected = projected.view(wide.shape[0], batch, projected.shape[-1])
        given = [projected, *(v for v in (mask, begins) if v is not None)]
        given += [*tensors[1:end], *tensors[end + (begins is not None) :]]
        steps = wide.shape[0]
        hidden, *last = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{NODE}",
            given,
            {
                "cell": text,
                "names": names,
                "reverse": int(reverse),
                "masked": int(mask is not None),
                "reset": int(begins is not None),
            },
            dtypes=[state[0].dtype] * (1 + len(state)),
            shapes=[(steps, batch, state[0].shape[1]), *(s.shape for s in state)],
        )
    if mask is not None:
        hidden = torch.where(mask, hidden, torch.zeros_like(hidden))
    return [hidden.flatten(0, 1), *last]


def _operator(cell: Cell, weights: Weights) -> str | None:
    """ONNX's own operator for a cell, if it has one."""
    if weights.weight_hr is not None:
        return None
    if type(cell) in (LSTM, GRU):
        return type(cell).__name__
    return "RNN" if type(cell) is Elman and cell.nonlinearity in OWN else None


def _by_operator(
    kind: str,
    cell: Cell,
    weights: Weights,
    x: Tensor,
    mask: Tensor | None,
    state: Sequence[Tensor],
    reverse: bool,
    opset: int,
) -> tuple[Tensor, list[Tensor]]:
    r"""ONNX's LSTM (gates i, o, f, c), GRU (gates z, r, h) or RNN, in one direction."""
    size = state[0].shape[1]
    if is_codes(x):
        x = F.one_hot(x, weights.weight_ih.shape[1]).to(weights.weight_ih.dtype)
    order = ORDER[kind]

    def placed(value: Tensor) -> Tensor:
        return torch.cat([value[i * size : (i + 1) * size] for i in order])

    biases = (weights.bias_ih, weights.bias_hh)
    bias = None
    if biases[0] is not None and biases[1] is not None:
        bias = torch.cat([placed(biases[0]), placed(biases[1])]).unsqueeze(0)
    lengths = None if mask is None else mask.sum((0, 2)).to(torch.int32)
    attributes: dict[str, Any] = {
        "hidden_size": size,
        "direction": "reverse" if reverse else "forward",
    }
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    if kind == "RNN":
        assert isinstance(cell, Elman)
        attributes["activations"] = [cell.nonlinearity.capitalize()]
    steps, batch = x.shape[0], x.shape[1]
    hidden, *last = torch.onnx.ops.symbolic_multi_out(
        kind,
        [
            x,
            placed(weights.weight_ih).unsqueeze(0),
            placed(weights.weight_hh).unsqueeze(0),
            bias,
            lengths,
            *(s.unsqueeze(0) for s in state),
        ],
        attributes,
        dtypes=[x.dtype] * (1 + len(state)),
        shapes=[(steps, 1, batch, size), *[(1, batch, size)] * len(state)],
        version=opset,
    )
    return hidden.squeeze(1), [s.squeeze(0) for s in last]


def _padded(x: Tensor, sizes: Tensor | None, batch: int) -> tuple[Tensor, Tensor | None]:
    """``(T, B, ·)``, and where rows of several lengths are there, ``(T, B, 1)``."""
    features = x.shape[1:]
    if sizes is None:
        return x.view(x.shape[0] // batch, batch, *features), None
    mask = torch.arange(batch) < sizes[:, None]
    return x.view(sizes.shape[0], batch, *features), mask.unsqueeze(2)
