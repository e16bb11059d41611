"""Run a cell over time: trace it, choose a back end, and differentiate it."""

from torch import Tensor

from steadygrad.cells import State
from steadygrad.scan import function, operators
from steadygrad.scan.backends import BACKENDS as BACKENDS
from steadygrad.scan.backends import Backend as Backend
from steadygrad.scan.backends.base import BackendError as BackendError
from steadygrad.scan.backends.base import BackendWarning as BackendWarning
from steadygrad.scan.backends.base import Prepared as Prepared
from steadygrad.scan.backends.base import Stepper as Stepper
from steadygrad.scan.backends.choose import choose as choose
from steadygrad.scan.backends.choose import settings as settings
from steadygrad.scan.backends.recurrence import linear_recurrence as linear_recurrence
from steadygrad.scan.call import Frame as Frame
from steadygrad.scan.call import ScanCall as ScanCall
from steadygrad.scan.clips import LoopClip as LoopClip
from steadygrad.scan.function import PreparedRun as PreparedRun
from steadygrad.scan.function import scan_prepared as scan_prepared
from steadygrad.scan.ir.trace import trace as trace
from steadygrad.scan.layout import Layout as Layout
from steadygrad.scan.linear import Linearised as Linearised
from steadygrad.scan.linear import StepJacobian as StepJacobian
from steadygrad.scan.linear import is_elementwise as is_elementwise
from steadygrad.scan.matrix_state import DeltaSteps as DeltaSteps
from steadygrad.scan.matrix_state import MatrixSteps as MatrixSteps
from steadygrad.scan.observe import Observed as Observed
from steadygrad.scan.observe import observe as observe
from steadygrad.scan.operators import clip_text as clip_text
from steadygrad.scan.operators import is_plain as is_plain
from steadygrad.scan.operators import is_profiled as is_profiled
from steadygrad.scan.operators import operator_text as operator_text
from steadygrad.scan.operators import scan_in_graph as scan_in_graph
from steadygrad.scan.operators import with_options as with_options
from steadygrad.scan.projection import is_codes as is_codes
from steadygrad.scan.rtrl import Sensitivities as Sensitivities
from steadygrad.scan.taps import OnTap as OnTap
from steadygrad.scan.taps import Tap as Tap
from steadygrad.scan.taps import log10_sum_squares as log10_sum_squares
from steadygrad.scan.weights import Weights as Weights


def scan(call: ScanCall) -> tuple[Tensor, State]:
    """Run a cell over time, as one autograd function.

    Returns:
        h after every step, ``(N, P)`` in the order of ``call.layout``, and the last state of each
        row.

    Raises:
        BackendError: The requested back end cannot run it; says why.
    """
    frame, tensors = call.split()
    if operators.is_plain(tensors):
        return function.scan(frame, tensors, choose(call))
    return operators.run_call(call)
