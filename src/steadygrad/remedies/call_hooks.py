"""Act on a layer within some of its training calls, with the current batch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from steadygrad.nn.arrangement import time_axis
from steadygrad.remedies.applied import Applied

Act = Callable[[nn.Module, Tensor, int], object]
"""Called with the layer, the beginning of its input, and the value in ``moments``."""


def at_calls(
    path: str,
    layer: nn.Module,
    applied: Applied,
    moments: Mapping[int, int],
    steps: int,
    act: Act,
) -> None:
    """Call ``act`` just before some of the training calls of ``layer``.

    Weights may be changed there, because nothing of this call has been computed yet. Calls in
    evaluation mode or without gradients are neither treated nor counted.

    Args:
        path: Name of the layer.
        layer: The module.
        applied: Stores the number of calls, which checkpoints save, and how to undo.
        moments: By the number of earlier calls, the last argument of ``act``.
        steps: Number of leading time steps of the input passed to ``act``.
        act: The function to call.
    """
    count = applied.remember(f"calls {path}", torch.zeros((), dtype=torch.long))

    def before(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if not (layer.training and torch.is_grad_enabled()):
            return
        due = moments.get(int(count), 0)
        count.add_(1)
        given = dict(zip(("input", "hx"), args, strict=False)) | dict(kwargs)
        if due:
            x = _beginning(layer, given["input"], steps)
            with torch.autocast(x.device.type, enabled=False):
                act(layer, x, due)

    applied.on_undo(layer.register_forward_pre_hook(before, with_kwargs=True).remove)


def _beginning(layer: nn.Module, given: Tensor | PackedSequence, steps: int) -> Tensor:
    """The first time steps, detached, in the layer's layout; of a packed batch the long rows."""
    if isinstance(given, PackedSequence):
        padded, lengths = pad_packed_sequence(given)
        length = min(steps, padded.shape[0])
        x = padded[:length, lengths >= length].detach()
        return x.transpose(0, time_axis(layer, x))
    x = given.detach()
    return x.narrow(axis := time_axis(layer, x), 0, min(steps, x.shape[axis]))
