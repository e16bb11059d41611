"""Arguments of a model as tensors and JSON: what a file can hold without a pickle."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

PLAIN = (type(None), bool, int, float, str)


class NotPlain(TypeError):
    """Something that is neither a tensor, a number, a text, nor made of these."""


def taken_apart(value: Any, tensors: list[Tensor]) -> Any:
    """Return ``value`` as JSON, its tensors moved to the end of ``tensors``.

    Raises:
        NotPlain: It holds something else; the message names its type.
    """
    if isinstance(value, Tensor):
        tensors.append(value)
        return {"tensor": len(tensors) - 1, "grad": value.requires_grad and value.is_leaf}
    if isinstance(value, PackedSequence):
        return {"packed": [taken_apart(part, tensors) for part in value]}
    if type(value) in (tuple, list):
        return {type(value).__name__: [taken_apart(part, tensors) for part in value]}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": {key: taken_apart(part, tensors) for key, part in value.items()}}
    if isinstance(value, PLAIN):
        # JSON has neither NaN nor infinities, so a float is kept as its text.
        return {"float": repr(value)} if isinstance(value, float) else {"plain": value}
    raise NotPlain(type(value).__name__)


def put_together(body: Any, tensors: list[Tensor]) -> Any:
    """Undo `taken_apart`.

    Raises:
        ValueError: ``body`` is nothing that it returns.
    """
    match body:
        case {"tensor": int(number), "grad": bool(grad)} if 0 <= number < len(tensors):
            return tensors[number].requires_grad_() if grad else tensors[number]
        case {"packed": [*parts]}:
            return PackedSequence(*(put_together(part, tensors) for part in parts))
        case {"dict": dict(parts)}:
            return {key: put_together(part, tensors) for key, part in parts.items()}
        case {"tuple": [*parts]}:
            return tuple(put_together(part, tensors) for part in parts)
        case {"list": [*parts]}:
            return [put_together(part, tensors) for part in parts]
        case {"float": str(text)}:
            return float(text)
        case {"plain": None | bool() | int() | str()}:
            return body["plain"]
        case _:
            raise ValueError(f"{body!r:.60} is no argument of a model")


def tensors_of(value: Any) -> list[Tensor]:
    """Every tensor of a result, in a fixed order; what is not plain is passed over."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, PackedSequence):
        return [value.data]
    if isinstance(value, dict):
        return [t for part in value.values() for t in tensors_of(part)]
    if isinstance(value, (tuple, list)):
        return [t for part in value for t in tensors_of(part)]
    return []


def laid_out(tensor: Tensor) -> Tensor:
    """A copy that shares memory with nothing, on the CPU, as a file wants it."""
    return torch.empty_like(tensor, device="cpu", memory_format=torch.contiguous_format).copy_(
        tensor.detach()
    )
