"""A linear ARX model: least squares on delayed inputs and outputs, and its free run."""

import torch
from torch import Tensor

Taps = tuple[tuple[int, ...], tuple[int, ...]]
"""Delays of the input, and of the output."""


def fit(u: Tensor, y: Tensor, taps: Taps) -> Tensor:
    """Weights of outputs, inputs and a constant, one step ahead."""
    inputs, outputs = taps
    first = max(inputs + outputs)
    columns = [y[first - k : len(y) - k] for k in outputs]
    columns += [u[first - k : len(u) - k] for k in inputs]
    x = torch.stack([*columns, torch.ones(len(y) - first, dtype=y.dtype)], 1)
    return torch.linalg.lstsq(x, y[first:, None]).solution[:, 0]


def free_run(weight: Tensor, u: Tensor, begun: Tensor, taps: Taps) -> Tensor:
    """Go on from the true outputs ``begun`` over all of ``u``, on its own outputs."""
    inputs, outputs = taps
    run, w, us = begun.tolist(), weight.tolist(), u.tolist()
    for t in range(len(run), len(us)):
        seen = [run[t - k] for k in outputs] + [us[t - k] for k in inputs] + [1.0]
        run.append(sum(a * b for a, b in zip(w, seen, strict=True)))
    return torch.tensor(run, dtype=u.dtype)
