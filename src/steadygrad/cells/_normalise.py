"""Layer normalisation of the pre-activations of one step, alone or several gates together."""

from torch import Tensor


def normalise(*values: Tensor, epsilon: float = 1e-5) -> tuple[Tensor, ...]:
    r"""Shift and scale rows to mean 0 and variance 1, over all ``values`` jointly.

    .. math::
        \hat v = (v - \mu) / \sqrt{\sigma^2 + \epsilon}

    with mean and (biased) variance over the concatenated last axes.

    Args:
        *values: Tensors ``(B, H)``.
        epsilon: Added to the variance, as in `torch.nn.LayerNorm`.

    Returns:
        As many tensors ``(B, H)``.
    """
    count = len(values)
    mean = sum(v.mean(-1, keepdim=True) for v in values) / count
    centred = [v - mean for v in values]
    variance = sum((v * v).mean(-1, keepdim=True) for v in centred) / count
    scale = (variance + epsilon) ** -0.5
    return tuple(v * scale for v in centred)
