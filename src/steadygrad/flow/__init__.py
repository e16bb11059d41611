"""Quantities: pure measurements of the gradient's way through time, one file each."""

from steadygrad.flow.by_lag import LagCurve as LagCurve
from steadygrad.flow.capture import Call as Call
from steadygrad.flow.capture import Capture as Capture
from steadygrad.flow.capture import recurrent_layers as recurrent_layers
from steadygrad.flow.gate_health import GateHealth as GateHealth
from steadygrad.flow.gate_health import gate_health as gate_health
from steadygrad.flow.jacobian import singular_values as singular_values
from steadygrad.flow.jacobian import step_jacobians as step_jacobians
from steadygrad.flow.linearise import linearise as linearise
from steadygrad.flow.lstm_bound import LSTMBound as LSTMBound
from steadygrad.flow.lstm_bound import lstm_bound as lstm_bound
from steadygrad.flow.lyapunov import LyapunovChain as LyapunovChain
from steadygrad.flow.lyapunov import advance as advance
from steadygrad.flow.lyapunov import lyapunov_exponents as lyapunov_exponents
from steadygrad.flow.lyapunov import lyapunov_of_jacobians as lyapunov_of_jacobians
from steadygrad.flow.recurrent_weights import RecurrentWeights as RecurrentWeights
from steadygrad.flow.recurrent_weights import recurrent_weights as recurrent_weights
from steadygrad.flow.replay import Replay as Replay
from steadygrad.flow.replay import rows_of as rows_of
from steadygrad.flow.through_time import Measured as Measured
from steadygrad.flow.through_time import TimeFlow as TimeFlow
from steadygrad.flow.through_time import gradient_through_time as gradient_through_time
from steadygrad.flow.transition import Transition as Transition
from steadygrad.flow.transition import product as product
from steadygrad.flow.transition import transition as transition
