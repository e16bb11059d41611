r"""Signal and noise of the gradient over batches, and the batch size at which they are equal.

With the gradients :math:`g_i` of n batches of b sequences, their mean :math:`\bar g`, and

.. math::
    S = \frac{1}{n-1} \sum_i |g_i - \bar g|^2, \qquad
    G^2 = |\bar g|^2 - \frac{S}{n}, \qquad
    \mathrm{SNR} = \frac{G^2}{S}, \qquad
    B_{\mathrm{noise}} = \frac{b\,S}{G^2}

where :math:`G^2` estimates the squared norm of the true gradient without bias. Below
:math:`B_{\mathrm{noise}}` a larger batch saves steps in proportion; above it hardly at all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from steadygrad.flow.quantity import Quantity, declare

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "gradient_noise",
            "sequences",
            "Batch size at which signal and noise of the gradient are equal.",
        )
    ),
)


@dataclass(frozen=True)
class GradientNoise:
    """Signal and noise of a gradient.

    Attributes:
        signal: Squared norm of the true gradient, :math:`G^2`; may come out negative where the
            noise drowns it.
        noise: Squared deviation of one batch's gradient, :math:`S`.
        batches: How many batches were seen.
        batch_size: Sequences in each, or None.
    """

    signal: float
    noise: float
    batches: int
    batch_size: int | None = None

    @property
    def signal_to_noise(self) -> float:
        """SNR of one batch; 0 if no signal is left, ``inf`` without noise."""
        if self.noise == 0:
            return float("inf") if self.signal > 0 else 0.0
        return max(self.signal, 0.0) / self.noise

    @property
    def noise_scale(self) -> float | None:
        """:math:`B_{noise}` in sequences; ``inf`` if no signal is left, None without batch size."""
        if self.batch_size is None:
            return None
        ratio = self.signal_to_noise
        return float("inf") if ratio == 0 else self.batch_size / ratio


class NoiseMeter:
    """Adds up gradients batch by batch; holds one copy of the parameters.

    Args:
        names: One name per gradient.
        batch_size: Sequences in each batch.
    """

    def __init__(self, names: list[str], batch_size: int | None = None) -> None:
        self.names, self.batch_size = names, batch_size
        self._sums: list[Tensor | None] = [None] * len(names)
        self._squares = torch.zeros(len(names), dtype=torch.float64)
        self._count = 0

    def add(self, gradients: list[Tensor | None]) -> None:
        """Take the gradients of one batch; None counts as zero."""
        self._count += 1
        for index, gradient in enumerate(gradients):
            if gradient is None:
                continue
            wide = gradient.detach().double()
            self._squares[index] += float(wide.square().sum())
            before = self._sums[index]
            self._sums[index] = wide.clone() if before is None else before + wide

    def read(self) -> dict[str, GradientNoise]:
        """Signal and noise of each, and of all together under ``""``.

        Raises:
            ValueError: Fewer than two batches.
        """
        n = self._count
        if n < 2:
            raise ValueError(f"noise over batches needs at least two batches, got {n}")
        means = torch.tensor(
            [0.0 if s is None else float((s / n).square().sum()) for s in self._sums],
            dtype=torch.float64,
        )
        # Rounding may leave a trace below zero where all batches are the same.
        noise = ((self._squares - n * means) / (n - 1)).clamp_min(0.0)
        signal = means - noise / n
        each = {
            name: GradientNoise(float(s), float(d), n, self.batch_size)
            for name, s, d in zip(self.names, signal, noise, strict=True)
        }
        return each | {
            "": GradientNoise(float(signal.sum()), float(noise.sum()), n, self.batch_size)
        }


def gradient_noise(
    model: nn.Module,
    loss_fn: Callable[[], Tensor],
    *,
    batches: int = 8,
    batch_size: int | None = None,
) -> dict[str, GradientNoise]:
    """Measure signal and noise of the gradient of every parameter.

    Args:
        model: The model; its ``.grad`` stay as they are.
        loss_fn: Draws a fresh batch at every call and returns its mean loss.
        batches: How many batches.
        batch_size: Sequences in each, for `GradientNoise.noise_scale`.

    Returns:
        Per parameter by name, and for all together under ``""``.

    Raises:
        ValueError: Fewer than two batches.

    References:
        McCandlish, Kaplan, Amodei et al., *An Empirical Model of Large-Batch Training*, 2018,
        appendix A (the noise scale and its unbiased estimate).
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    meter = NoiseMeter([n for n, _ in named], batch_size)
    for _ in range(batches):
        with torch.enable_grad():
            loss = loss_fn()
        meter.add(list(torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)))
    return meter.read()
