"""Quantities: pure measurements of the gradient's way through time, one file each."""

from typing import TYPE_CHECKING

from steadygrad._room import public
from steadygrad.flow.answers import Answers as Answers
from steadygrad.flow.axes import Axes as Axes
from steadygrad.flow.by_lag import LagCurve as LagCurve
from steadygrad.flow.by_source import BySource as BySource
from steadygrad.flow.by_source import gradient_by_source as gradient_by_source
from steadygrad.flow.by_source import gradient_by_term as gradient_by_term
from steadygrad.flow.capture import Call as Call
from steadygrad.flow.capture import Capture as Capture
from steadygrad.flow.capture import recurrent_layers as recurrent_layers
from steadygrad.flow.gate_health import GateHealth as GateHealth
from steadygrad.flow.gate_health import gate_health as gate_health
from steadygrad.flow.gradient_noise import GradientNoise as GradientNoise
from steadygrad.flow.gradient_noise import NoiseMeter as NoiseMeter
from steadygrad.flow.gradient_noise import gradient_noise as gradient_noise
from steadygrad.flow.graph_uses import GraphUses as GraphUses
from steadygrad.flow.graph_uses import graph_uses as graph_uses
from steadygrad.flow.input_probe import InputProbe as InputProbe
from steadygrad.flow.jacobian import singular_values as singular_values
from steadygrad.flow.jacobian import step_jacobians as step_jacobians
from steadygrad.flow.linearise import linearise as linearise
from steadygrad.flow.live_exponents import LiveExponents as LiveExponents
from steadygrad.flow.lstm_bound import LSTMBound as LSTMBound
from steadygrad.flow.lstm_bound import lstm_bound as lstm_bound
from steadygrad.flow.lyapunov import LyapunovChain as LyapunovChain
from steadygrad.flow.lyapunov import advance as advance
from steadygrad.flow.lyapunov import lyapunov_exponents as lyapunov_exponents
from steadygrad.flow.lyapunov import lyapunov_of_jacobians as lyapunov_of_jacobians
from steadygrad.flow.marked import mark as mark
from steadygrad.flow.padding import PaddedLoss as PaddedLoss
from steadygrad.flow.padding import padded_loss as padded_loss
from steadygrad.flow.parameter_norms import gradient_norm as gradient_norm
from steadygrad.flow.parameter_norms import update_ratio as update_ratio
from steadygrad.flow.parameter_norms import update_ratios as update_ratios
from steadygrad.flow.quantity import Quantity as Quantity
from steadygrad.flow.quantity import declare as declare
from steadygrad.flow.quantity import declared as _declared
from steadygrad.flow.recurrent_weights import RecurrentWeights as RecurrentWeights
from steadygrad.flow.recurrent_weights import recurrent_weights as recurrent_weights
from steadygrad.flow.replay import Replay as Replay
from steadygrad.flow.replay import rows_of as rows_of
from steadygrad.flow.skill import Skill as Skill
from steadygrad.flow.skill import skill as skill
from steadygrad.flow.state_change import StateChange as StateChange
from steadygrad.flow.state_change import memory_sensitivity as memory_sensitivity
from steadygrad.flow.state_growth import StateGrowth as StateGrowth
from steadygrad.flow.state_growth import state_growth as state_growth
from steadygrad.flow.state_handover import Handover as Handover
from steadygrad.flow.state_handover import Handovers as Handovers
from steadygrad.flow.step_gradients import step_gradients as step_gradients
from steadygrad.flow.through_depth import gradient_through_depth as gradient_through_depth
from steadygrad.flow.through_time import Measured as Measured
from steadygrad.flow.through_time import TimeFlow as TimeFlow
from steadygrad.flow.through_time import gradient_through_time as gradient_through_time
from steadygrad.flow.transition import Transition as Transition
from steadygrad.flow.transition import product as product
from steadygrad.flow.transition import transition as transition
from steadygrad.flow.weight_gradient import weight_gradient_by_step as weight_gradient_by_step
from steadygrad.flow.whole_way import joined as joined
from steadygrad.flow.wiring import Wiring as Wiring

QUANTITIES: dict[str, Quantity] = _declared()
"""Every quantity of the house, by its name in records."""

if not TYPE_CHECKING:  # they read the import lines above
    __all__, __dir__ = public(globals())
