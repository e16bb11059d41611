"""Refusals of the recurrent layers, in torch's words, so that code written for torch finds them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from steadygrad.cells import State
from steadygrad.errors import did_you_mean
from steadygrad.scan import is_codes

if TYPE_CHECKING:
    from steadygrad.nn.recurrent import Recurrent

P = ParamSpec("P")
M = TypeVar("M", bound=torch.nn.Module)


def refuse_unknown(
    init: Callable[Concatenate[M, P], None],
) -> Callable[Concatenate[M, P], None]:
    """Have a constructor name the argument that was meant where a given one does not exist."""
    known = list(inspect.signature(init).parameters)[1:]

    @wraps(init)
    def checked(self: M, *args: P.args, **named: P.kwargs) -> None:
        for name in named:
            if name == "proj_size" and name not in known:
                raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
            if name not in known:
                raise TypeError(
                    f"{type(self).__name__}: no argument {name!r}{did_you_mean(name, known)}; "
                    f"there are: {', '.join(known)}"
                )
        init(self, *args, **named)

    return checked


def is_autocast(x: Tensor) -> bool:
    """Whether autocast is on where ``x`` lies; there is none on the meta device."""
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


def _is_cast(layer: Recurrent, x: Tensor) -> bool:
    """Whether autocast brings ``x`` to the weights' dtype: all floating point but double."""
    kinds = x.dtype, layer.weight_ih_l0.dtype
    return is_autocast(x) and x.is_floating_point() and torch.float64 not in kinds


def check_options(
    input_size: int,
    hidden_size: int,
    num_layers: int,
    bias: bool,
    batch_first: bool,
    dropout: float,
    proj_size: int,
) -> None:
    """Refuse what no layer can be built from; same order and words as `torch.nn.RNNBase`."""
    if not isinstance(dropout, int | float) or not 0 <= dropout <= 1 or isinstance(dropout, bool):
        raise ValueError(
            "dropout should be a number in range [0, 1] "
            "representing the probability of an element being zeroed"
        )
    for name, value in (("bias", bias), ("batch_first", batch_first)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(value).__name__}")
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        if not isinstance(size, int):
            raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"{name} must be greater than zero")
    if num_layers <= 0:
        raise ValueError("num_layers must be greater than zero")
    if proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:
        raise ValueError("proj_size has to be smaller than hidden_size")


def check_codes(layer: Recurrent, codes: Tensor) -> None:
    """Refuse codes of symbols that the layer has no input for."""
    if torch.compiler.is_compiling():  # a graph has no values; the look-up refuses them itself
        return
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < layer.input_size:
        raise ValueError(
            f"{type(layer).__name__}: expected codes from 0 to {layer.input_size - 1} "
            f"(input_size {layer.input_size}), got {int(codes.min())} to {int(codes.max())}"
        )


def check_lengths(layer: object, lengths: Any, batch: int, steps: int) -> Tensor:
    """Lengths of the rows of a padded batch as a tensor ``(B,)`` on the CPU; or refuse them."""
    found = torch.as_tensor(lengths).detach().cpu()
    name = type(layer).__name__
    if tuple(found.shape) != (batch,) or not is_codes(found):
        raise ValueError(
            f"{name}: expected lengths of shape ({batch},), whole numbers, got "
            f"{found.dtype} of shape {tuple(found.shape)}"
        )
    if torch.compiler.is_compiling():  # a graph has no values
        if not torch.compiler.is_exporting():
            fits = ((found >= 1) & (found <= steps)).all()
            told = f"{name}: lengths have to be from 1 to the steps of the input"
            torch.ops.aten._assert_async.msg(fits, told)
        return found.long()
    if batch and not 1 <= int(found.min()) <= int(found.max()) <= steps:
        raise ValueError(
            f"{name}: expected lengths from 1 to {steps}, the steps of the input, got "
            f"{int(found.min())} to {int(found.max())}"
        )
    return found.long()


def check_resets(layer: object, resets: Any, input: Any) -> Any:
    """Where segments begin, on the device of the input; or refuse it."""
    name = type(layer).__name__
    if isinstance(input, PackedSequence):
        fits = isinstance(resets, PackedSequence) and (
            torch.equal(resets.batch_sizes, input.batch_sizes)
            and _same(resets.sorted_indices, input.sorted_indices)
        )
        if not fits or resets.data.dtype != torch.bool or resets.data.dim() != 1:
            raise ValueError(
                f"{name}: with a packed input, resets has to be packed in the same way: bool, "
                f"of as many steps in each row; got {type(resets).__name__}. Use "
                "pack_padded_sequence(resets, lengths, ...) with a bool tensor (T, B) and the "
                "arguments that the input was packed with"
            )
        return resets.to(input.data.device)  # pyright: ignore[reportArgumentType]
    shape = input.shape if is_codes(input) and input.dim() < 3 else input.shape[:-1]
    if not isinstance(resets, Tensor) or resets.dtype != torch.bool or resets.shape != shape:
        got = (
            f"{resets.dtype} of shape {tuple(resets.shape)}"
            if isinstance(resets, Tensor)
            else type(resets).__name__
        )
        raise ValueError(
            f"{name}: expected resets of torch.bool and shape {tuple(shape)}, that of the input "
            f"without its features, True where a new segment begins; got {got}"
        )
    return resets.to(input.device)


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two orders of rows are one; None is the order as given."""
    if one is None or other is None:
        given = other if one is None else one
        return given is None or torch.equal(given, torch.arange(len(given)).to(given))
    return torch.equal(one, other)


def check_input(layer: Recurrent, x: Tensor, dims: int) -> None:
    """Refuse an input of the wrong dtype, rank or width, or one that is no plain block."""
    dtype = layer.weight_ih_l0.dtype
    if x.layout is not torch.strided:
        way = "pad it and give lengths=, or pack it" if x.is_nested else "use input.to_dense()"
        raise ValueError(
            f"{type(layer).__name__}: expected an input of torch.strided, got one of {x.layout}; "
            f"{way}"
        )
    if is_codes(x) and x.dim() == dims - 1:
        return check_codes(layer, x)
    if x.dtype != dtype and not _is_cast(layer, x):
        raise ValueError(
            f"RNN input dtype ({x.dtype}) does not match weight dtype ({dtype}). "
            f"Convert input: input.to({dtype}), or convert model: model.to({x.dtype})"
        )
    if x.dim() != dims:
        raise RuntimeError(f"input must have {dims} dimensions, got {x.dim()}")
    if x.size(-1) != layer.input_size:
        raise RuntimeError(
            "input.size(-1) must be equal to input_size. "
            f"Expected {layer.input_size}, got {x.size(-1)}"
        )


def check_state(layer: Recurrent, state: State, batch: int) -> None:
    """Refuse an initial state of the wrong shape or dtype."""
    names = layer.cell.states
    if len(state) != len(names):
        raise RuntimeError(
            f"{type(layer).__name__}: expected an initial state of {len(names)} tensors "
            f"({', '.join(names)}), got {len(state)}"
        )
    rows = layer.num_layers * layer.num_directions
    for index, value in enumerate(state):
        width = layer.hidden_size if index else layer.output_size
        if tuple(value.shape) != (rows, batch, width):
            what = f"hidden[{index}]" if len(state) > 1 else "hidden"
            raise RuntimeError(
                f"Expected {what} size {(rows, batch, width)}, got {list(value.shape)}"
            )
        dtype = layer.weight_ih_l0.dtype
        if value.dtype != dtype and not _is_cast(layer, value):
            what = f"the initial state {names[index]!r}"
            raise RuntimeError(
                f"{type(layer).__name__}: expected {what} in the {dtype} of the weights, got "
                f"{value.dtype}; use .to({dtype})"
            )


def check_axes(hx: Tensor | State, batched: bool) -> None:
    """Refuse a state that has a batch axis where the input has none, or the other way round."""
    many = not isinstance(hx, Tensor)
    parts = tuple(hx) if many else (hx,)
    want = 3 if batched else 2
    if any(p.dim() != want for p in parts):
        what = "batched 3-D" if batched else "unbatched 2-D"
        which = "hx and cx" if many else "hx"
        got = "(" + ", ".join(f"{p.dim()}-D" for p in parts) + ") tensors"
        got = got if many else f"{parts[0].dim()}-D tensor"
        raise RuntimeError(f"For {what} input, {which} should also be {want}-D but got {got}")
