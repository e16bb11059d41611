"""Chrono biases: gates that start with memories of every length up to a lag."""

import torch
from torch import Generator, Tensor


@torch.no_grad()
def chrono_(bias: Tensor, lag: float, generator: Generator | None = None) -> Tensor:
    r"""Draw the biases of a keeping gate for memories up to ``lag`` steps.

    .. math::
        b = \log u, \qquad u \sim U(1, \text{lag} - 1)
        \quad\Rightarrow\quad \sigma(b) = \frac{u}{1 + u}

    A gate held at :math:`\sigma(b)` forgets with a characteristic time of :math:`1 + u` steps,
    so the units of the layer cover the lags from 2 to ``lag``.

    Args:
        bias: The bias of one gate, ``(H,)``; changed in place.
        lag: The longest memory that is needed, in steps; above 2.
        generator: Source of randomness; torch's global one if not given.

    Returns:
        ``bias``.

    Raises:
        ValueError: ``lag`` is not above 2.

    References:
        Tallec and Ollivier, *Can Recurrent Neural Networks Warp Time?*, 2018, section 2.
    """
    if not lag > 2:
        raise ValueError(f"lag must be above 2 steps, got {lag}")
    return bias.uniform_(1.0, lag - 1.0, generator=generator).log_()
