"""The way into the operators, and when it has to be taken."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._C import _is_tracing, _len_torch_dispatch_stack
from torch._C._functorch import is_legacy_batchedtensor, maybe_current_level
from torch.autograd import forward_ad

from steadygrad.cells import State
from steadygrad.scan.call import Frame, ScanCall
from steadygrad.scan.layout import Layout
from steadygrad.scan.operators.kernels import OPERATORS
from steadygrad.scan.operators.schema import is_portable, operator_text
from steadygrad.scan.weights import Weights

_PLAIN = frozenset((Tensor, torch.nn.Parameter, torch.nn.Buffer))


def is_profiled() -> bool:
    """Whether a profiler runs, so that regions are worth a name."""
    return torch.autograd._profiler_enabled()  # pyright: ignore[reportPrivateImportUsage]


def is_plain(tensors: tuple[Tensor, ...]) -> bool:
    """Whether the fast path can have these tensors: plain ones, without dispatch modes.

    Everything else, a fake tensor above all, has no memory that a kernel could read. Asked at
    every call, so it costs well under a microsecond.
    """
    return (
        _PLAIN.issuperset(map(type, tensors))
        and maybe_current_level() is None
        and not _len_torch_dispatch_stack()
        and forward_ad._current_level < 0
        and not _is_tracing()
    )


def is_plain_gradient(grads: Sequence[Tensor | None]) -> bool:
    """The same of the gradients that arrive at a backward pass, batched ones included."""
    given = tuple(g for g in grads if g is not None)
    return is_plain(given) and not any(map(is_legacy_batchedtensor, given))


def scan_in_graph(
    text: str,
    x: Tensor,
    weights: Weights,
    state: State,
    reverse: bool = False,
    sizes: Tensor | None = None,
    resets: Tensor | None = None,
    start: State | None = None,
) -> tuple[Tensor, State]:
    """Run a cell over time by the operator.

    Args:
        text: The cell and what is done to its gradient, as of `operator_text`.
        x: ``(N, I)``, or codes ``(N,)``.
        weights: Weights of one direction.
        state: State before the first step, ``(B, ·)`` each.
        reverse: Whether the steps are taken from the last to the first.
        sizes: Rows at each time step, int64 on the CPU; None if all rows take part in all steps.
        resets: As of `ScanCall.resets`.
        start: As of `ScanCall.start`.

    Returns:
        h after every step, ``(N, P)``, and the last state of each row.

    Raises:
        ValueError: The graph is to be exported, and no other process could make the cell.
    """
    if torch.compiler.is_exporting() and not is_portable(text):
        raise ValueError(
            f"torch.export: the cell {text.split()[1]} cannot be written into a file: its class "
            "has to stand at the top of a module that can be imported, as a frozen dataclass "
            "whose options are numbers, texts, true or false"
        )
    pairs = [("x", x), *weights.flat()]
    if resets is not None:
        pairs += [("resets", resets), *[("start", s) for s in start or ()]]
    pairs += [("state", s) for s in state]
    names = ",".join([name for name, _ in pairs])
    hidden, *final = OPERATORS.scan(text, names, reverse, sizes, [value for _, value in pairs])
    return hidden, tuple(final)


def run_call(call: ScanCall) -> tuple[Tensor, State]:
    """Run a call of known sizes by the operator; taps are not called."""
    layout = call.layout
    text = operator_text(call.cell, call.clip, call.backend)
    return scan_in_graph(
        text,
        call.x,
        call.weights,
        call.state,
        layout.reverse,
        _sizes(layout),
        call.resets,
        call.start,
    )


def back(
    frame: Frame,
    tensors: Sequence[Tensor],
    saved: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Carry a gradient back by the operator; taps are not called.

    Args:
        frame: Of the call that ran forward.
        tensors: As of the call.
        saved: What the forward pass saved, if `Backend.saved_shapes` tells what that is.
        grads: What arrives at h of every step and at the last states.
        needed: Which tensors need a gradient.
    """
    text = operator_text(frame.cell, frame.clip, frame.backend)
    layout, names = frame.layout, ",".join(frame.names)
    given = (list(tensors), list(saved), list(grads), list(needed))
    found = iter(OPERATORS.scan_back(text, names, layout.reverse, _sizes(layout), *given))
    return tuple(next(found) if need else None for need in needed)


def _sizes(layout: Layout) -> Tensor | None:
    return None if layout.is_dense else torch.tensor(layout.batch_sizes, device="cpu")
