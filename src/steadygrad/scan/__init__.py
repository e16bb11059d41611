"""A cell over time: traced, planned, run, and differentiated by hand."""

from torch import Tensor

from steadygrad.cells import Cell, State
from steadygrad.scan.backends.choose import BACKENDS as BACKENDS
from steadygrad.scan.backends.choose import BackendError as BackendError
from steadygrad.scan.backends.choose import BackendWarning as BackendWarning
from steadygrad.scan.backends.choose import choose
from steadygrad.scan.backends.parallel import scan_parallel
from steadygrad.scan.backends.recurrence import linear_recurrence as linear_recurrence
from steadygrad.scan.clips import LoopClip as LoopClip
from steadygrad.scan.function import Scan
from steadygrad.scan.ir.trace import trace as trace
from steadygrad.scan.layout import Layout as Layout
from steadygrad.scan.linear import Linearised as Linearised
from steadygrad.scan.linear import StepJacobian as StepJacobian
from steadygrad.scan.observe import Observed as Observed
from steadygrad.scan.observe import observe as observe
from steadygrad.scan.projection import is_codes as is_codes
from steadygrad.scan.taps import OnTap as OnTap
from steadygrad.scan.taps import Tap as Tap
from steadygrad.scan.taps import log10_sum_squares as log10_sum_squares
from steadygrad.scan.weights import Weights as Weights


def scan(
    cell: Cell,
    x: Tensor,
    weights: Weights,
    state: State,
    layout: Layout,
    *,
    clip: LoopClip | None = None,
    on_tap: OnTap | None = None,
    backend: str | None = None,
) -> tuple[Tensor, State]:
    """Run ``cell`` over time, in one autograd function.

    Args:
        cell: The recurrence.
        x: Inputs of all time steps, ``(N, I)``, rows in the order of ``layout``; or whole numbers
            ``(N,)``, codes of symbols, for one-hot features.
        weights: Weights of this direction.
        state: State before the first step, one ``(B, ·)`` tensor per name in ``cell.states``.
        layout: Which rows take part at which time step, and the direction.
        clip: A bound on the gradient inside the backward loop.
        on_tap: Called in every backward pass with the norms of the gradient at each time step.
        backend: ``"auto"``, ``"eager"``, ``"c"`` or ``"parallel"``; see
            `steadygrad.scan.backends.choose`.

    Returns:
        h after every step, ``(N, P)``, and the last state of each row.
    """
    real = weights.weight_ih if is_codes(x) else x
    chosen = choose(backend, cell, real, weights, clip is not None)
    if chosen == "parallel":
        return scan_parallel(cell, x, weights, state, layout, on_tap)
    pairs = [("x", x), *weights.flat(), *(("state", value) for value in state)]
    names = tuple(name for name, _ in pairs)
    tensors = (value for _, value in pairs)
    hidden, *final = Scan.apply(cell, layout, clip, on_tap, chosen, names, *tensors)  # type: ignore[misc]
    return hidden, tuple(final)
