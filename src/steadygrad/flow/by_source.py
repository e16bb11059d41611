r"""The gradient by source: which part of the loss feeds which time step.

.. math::
    g_{s,t} = \log_{10} \Big| \frac{\partial L_s}{\partial h_t} \Big|, \qquad L = \sum_s L_s

The total gradient at a step is a sum over everything that comes after it, and near losses drown
far ones. Taken apart by the step at which the loss enters, or by the terms of the loss, one sees
what a step really learns from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steadygrad.errors import check_count
from steadygrad.flow.capture import Call, Capture
from steadygrad.flow.output_gradients import joined_gradients
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.flow.recurrence import recurrence_of
from steadygrad.flow.replay import OutputGradient
from steadygrad.flow.sources import is_reached, part_of, spread, top_of
from steadygrad.scan import Tap

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "by_source", "gradient", "Which part of the loss feeds the gradient at which time step."
        )
    ),
)


@dataclass(frozen=True)
class BySource:
    """What each source sends to each time step of one direction of one layer.

    Attributes:
        sources: ``(S,)``, the time steps at which the loss enters, ascending.
        log10_grad: ``(S, T)``, log10 of the norm of dL_s/dh_t over the batch; ``-inf`` where the
            source does not reach, as after it.
    """

    sources: NDArray[np.int64]
    log10_grad: NDArray[np.float64]


def gradient_by_source(
    model: nn.Module, loss_fn: Callable[[], Tensor], *, sources: int = 16, rows: int | None = None
) -> dict[str, BySource]:
    """Take the gradient apart by the time step at which the loss enters.

    Args:
        model: Any model that holds recurrent layers; it is not touched.
        loss_fn: Computes the scalar loss of one batch.
        sources: How many steps to take, spread over those at which the loss enters.
        rows: Use at most so many sequences; all if not given.

    Returns:
        Per layer and direction.

    Raises:
        ValueError: The model holds no recurrent layer, or the loss does not depend on one.
    """
    check_count("sources", sources)
    check_count("rows", rows, optional=True)
    with Capture(model) as capture, torch.random.fork_rng():
        with torch.enable_grad():
            loss = loss_fn()
        calls, grads = gradients_of(capture, loss)
        found: dict[str, BySource] = {}
        for index, (call, grad) in enumerate(zip(calls, grads, strict=True)):
            if not is_reached(grad):
                continue
            top = top_of(index, calls, grads)
            way = recurrence_of(calls[top])
            at = way.entries(grads[top]).any(1).nonzero().flatten().tolist()
            steps = spread(at, sources)
            again = recurrence_of(call).retrace(grad, rows)
            taken: dict[str, list[NDArray[np.float64]]] = {}
            for step in steps:
                part = part_of(calls, index, top, way.only_from(grads[top], step))
                for name, norms in _norms(again.back(part).taps).items():
                    taken.setdefault(name, []).append(norms)
            found |= {n: BySource(np.array(steps), np.stack(v)) for n, v in taken.items()}
    return found


def gradient_by_term(
    model: nn.Module,
    terms_fn: Callable[[], Mapping[str, Tensor]],
    *,
    rows: int | None = None,
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Take the gradient apart by the terms of a loss, such as a task and its penalties.

    Args:
        model: Any model that holds recurrent layers; it is not touched.
        terms_fn: Computes the terms of one batch, scalars by name.
        rows: Use at most so many sequences; all if not given.

    Returns:
        Per term and layer ``(T,)``, log10 of the norm of dL_term/dh_t over the batch. A layer that
        a term does not reach is left out.

    Raises:
        ValueError: No recurrent layer, or no terms.
    """
    with Capture(model) as capture, torch.random.fork_rng():
        with torch.enable_grad():
            terms = dict(terms_fn())
        if not terms:
            raise ValueError("terms_fn returned no terms; expected scalars by name")
        found: dict[str, dict[str, NDArray[np.float64]]] = {}
        for name, term in terms.items():
            calls, grads = gradients_of(capture, term)
            found[name] = {}
            for call, grad in zip(calls, grads, strict=True):
                if is_reached(grad):
                    found[name] |= _norms(recurrence_of(call).retrace(grad, rows).back().taps)
    return found


def gradients_of(capture: Capture, loss: Tensor) -> tuple[list[Call], list[OutputGradient]]:
    """The calls so far, and what one scalar sends to the results of each."""
    if not capture.calls or not loss.requires_grad or loss.numel() != 1:
        raise ValueError(
            "expected a scalar that depends on a recurrent layer of the model; is the model that "
            "is called this very one, with gradients on?"
        )
    return joined_gradients(loss, capture.calls)[:2]


def _norms(taps: dict[str, Tap]) -> dict[str, NDArray[np.float64]]:
    return {name: tap.log10_over_batch().cpu().numpy() for name, tap in taps.items()}
