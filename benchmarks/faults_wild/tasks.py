"""Data that the cases share: what has to be remembered, forecast, tagged or acted upon."""

import math

import torch
from torch import Tensor


def recalled(steps: int, lag: int, batch: int = 16, inputs: int = 4) -> tuple[Tensor, Tensor]:
    """Noise ``(T, B, I)``, and the sign of the first feature ``lag`` steps before the end."""
    x = torch.randn(steps, batch, inputs)
    return x, (x[-1 - lag, :, 0] > 0).long()


def waves(steps: int, batch: int = 16, noise: float = 0.05) -> tuple[Tensor, Tensor]:
    """Sines of any phase and period ``(T, B, 1)``, and what follows each step."""
    period = 10 + 20 * torch.rand(batch)
    start = 2 * math.pi * torch.rand(batch)
    at = torch.arange(steps + 1)[:, None]
    x = torch.sin(start + 2 * math.pi * at / period) + noise * torch.randn(steps + 1, batch)
    return x[:-1, :, None], x[1:, :, None]


def walks(steps: int, batch: int = 16) -> tuple[Tensor, Tensor]:
    """Smooth random walks ``(T, B, 3)``, and whether the first feature ends above its mean."""
    x = torch.randn(steps, batch, 3).cumsum(0) / math.sqrt(steps)
    return x, (x[-1, :, 0] > x[:, :, 0].mean(0)).long()


def text(steps: int, batch: int = 16, symbols: int = 12) -> tuple[Tensor, Tensor]:
    """Symbols ``(T, B)`` that count up by a step of each sequence's own, and what follows each."""
    by = torch.randint(1, 4, (batch,))
    start = torch.randint(symbols, (batch,))
    x = (start + by * torch.arange(steps + 1)[:, None]) % symbols
    wrong = torch.rand(x.shape) < 0.05
    x = torch.where(wrong, torch.randint(symbols, x.shape), x)
    return x[:-1], x[1:]


def padded(steps: int, batch: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Sequences ``(T, B, 3)`` with zeros at their ends, labels ``(T, B)``, and lengths.

    The label of a step is whether the sum of the last two inputs is above zero.
    """
    lengths = torch.randint(steps // 4, steps + 1, (batch,))
    lengths[0] = steps
    x = torch.randn(steps, batch, 3)
    real = torch.arange(steps)[:, None] < lengths
    x = x * real[:, :, None]
    before = torch.cat([torch.zeros(1, batch), x[:-1, :, 0]])
    y = ((x[:, :, 0] + before > 0) & real).long()
    return x, y, lengths
