"""Quantities: pure measurements of the gradient's way through time, one file each."""

from steadygrad.flow.by_lag import LagCurve as LagCurve
from steadygrad.flow.capture import Call as Call
from steadygrad.flow.capture import Capture as Capture
from steadygrad.flow.capture import recurrent_layers as recurrent_layers
from steadygrad.flow.gate_health import GateHealth as GateHealth
from steadygrad.flow.gate_health import gate_health as gate_health
from steadygrad.flow.lstm_bound import LSTMBound as LSTMBound
from steadygrad.flow.lstm_bound import lstm_bound as lstm_bound
from steadygrad.flow.replay import Replay as Replay
from steadygrad.flow.replay import rows_of as rows_of
from steadygrad.flow.through_time import Measured as Measured
from steadygrad.flow.through_time import TimeFlow as TimeFlow
from steadygrad.flow.through_time import gradient_through_time as gradient_through_time
